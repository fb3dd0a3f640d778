"""From video to identities over cameras, with some stages told the truth: which one loses what.

scene = Scene.load(Path("scene"))
for stages in STAGES:
    perceived = perceive(scene, stages, cache)
    print(judge(scene, stages, perceived, encoder, threshold=9.0).id_f1)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gait.distance import euclidean
from gait.encoder import Encoder
from gait.evaluation.gei import gei_l2
from pipeline.evaluation.boxes import NOBODY, matched
from pipeline.evaluation.case import Case, embed
from pipeline.evaluation.contenders import Contender, Contest, Walks
from pipeline.evaluation.identity import IdScore, RetrievalScore, chance, cross_camera
from pipeline.evaluation.looks import Looks, between
from pipeline.evaluation.perceive import Stages
from pipeline.evaluation.perceived import Perceived
from pipeline.evaluation.scene import Scene
from pipeline.gallery.config import GalleryConfig
from pipeline.gallery.whereabouts import WhereaboutsConfig

_TRIED_THRESHOLDS = 20


@dataclass(frozen=True, slots=True)
class Followed:
    """How well people were found, followed and cut out.

    Attributes:
        recall: Share of the true boxes that were found.
        precision: Share of the found boxes that are on somebody.
        tracks_per_walk: Tracks of a person for each time he was in view of a camera.
        purity: Share of a track's boxes on people that are on the person it mostly follows.
        false_tracks: Tracks that mostly follow nobody.
        mask_iou: Mean intersection over union of masks with the true ones.
        tracks: Tracks there were.
        usable: Those that gave silhouettes to recognise somebody by.
    """

    recall: float
    precision: float
    tracks_per_walk: float
    purity: float
    false_tracks: int
    mask_iou: float
    tracks: int
    usable: int


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a scene with certain stages.

    Attributes:
        stages: Which were told the truth.
        followed: Up to the silhouettes.
        best: IDF1 if every usable track were given its person's name: what perception leaves.
        alone: IDF1 if every usable track were a person of its own: nobody is recognised again.
        threshold: The gallery's; None when the encoder has none.
        score: IDF1 of the gallery's identities over all cameras; None without a threshold.
        by_camera: The same, each camera for itself.
        identities: How many the gallery founded.
        hindsight: IDF1 at the best threshold for this very scene: how much of the loss is the
            threshold's. Nobody can choose it beforehand.
        hindsight_threshold: That threshold.
        retrieval: Method to how well tracks of one camera are found on another.
        contenders: Ways to tell who is who, by name; empty without a threshold or usable tracks.
    """

    stages: Stages
    followed: Followed
    best: float
    alone: float
    threshold: float | None
    score: IdScore | None
    by_camera: dict[str, float]
    identities: int
    hindsight: float
    hindsight_threshold: float
    retrieval: dict[str, RetrievalScore]
    contenders: dict[str, Contender]

    @property
    def id_f1(self) -> float | None:
        """IDF1 over all cameras at the threshold in use; None without one."""
        return None if self.score is None else self.score.f1


def judge(
    scene: Scene,
    stages: Stages,
    perceived: Perceived,
    encoder: Encoder,
    *,
    threshold: float | None,
    untrained: Encoder | None = None,
    looks: Mapping[str, Looks] | None = None,
) -> Judged:
    """Return what becomes of a scene.

    Args:
        scene: With the truth.
        stages: How `perceived` was made.
        perceived: What perception made of it.
        encoder: Which compares walks.
        threshold: Of the gallery, as for `GalleryConfig.threshold`; None when nobody knows it.
        untrained: An encoder with random weights, for comparison.
        looks: What tracks look like, for comparison.
    """
    case = Case.of(scene, perceived, encoder, looks)
    usable, names = case.usable, case.names
    given = None if threshold is None else case.identities(_together(threshold))
    hindsight, hindsight_threshold = best_threshold(case, threshold)
    return Judged(
        stages=stages,
        followed=_followed(scene, case),
        best=case.score({t: names[t] or f"{t} of nobody" for t in usable}).f1,
        alone=case.score({t: str(t) for t in usable}).f1,
        threshold=threshold,
        score=None if given is None else case.score(given),
        by_camera={} if given is None else case.by_camera(given),
        identities=0 if given is None else len(set(given.values()) - {NOBODY}),
        hindsight=hindsight,
        hindsight_threshold=hindsight_threshold,
        retrieval=_retrieval(case, untrained),
        contenders={} if threshold is None or not usable else Contest(case).held(threshold),
    )


def _together(threshold: float) -> GalleryConfig:
    """Return ours: the videos of a scene begin together."""
    return GalleryConfig(threshold=threshold, whereabouts=WhereaboutsConfig(shared_clock=True))


def best_threshold(case: Case, given: float | None) -> tuple[float, float]:
    """Return the best IDF1 over `given` and thresholds spread over the distances, and where."""
    usable = np.array([each for each in case.embeddings if each is not None])
    if not len(usable):
        return case.score({}).f1, 0.0
    distances = euclidean(usable, usable)[np.triu_indices(len(usable), k=1)]
    spread = np.quantile(distances, np.linspace(0, 0.6, _TRIED_THRESHOLDS)).tolist()
    tried = {*spread, *([] if given is None else [given])}
    best, negative = max((case.score(case.identities(_together(t))).f1, -t) for t in tried)
    return best, -negative


def _followed(scene: Scene, case: Case) -> Followed:
    truth, found = case.truth, case.found
    hits = sum(len(matched(truth[name], found[name])) for name in truth)
    tracks = [each for of_camera in case.followed.values() for each in of_camera.values()]
    on_people = [each for each in tracks if each.person != NOBODY]
    walks = sum(camera.num_walks for camera in scene.cameras.values())
    return Followed(
        recall=_share(hits, sum(map(len, truth.values()))),
        precision=_share(hits, sum(map(len, found.values()))),
        tracks_per_walk=_share(len(on_people), walks),
        purity=_share(sum(t.own for t in on_people), sum(t.on_people for t in on_people)),
        false_tracks=len(tracks) - len(on_people),
        mask_iou=case.perceived.mask_iou,
        tracks=len(tracks),
        usable=len(case.usable),
    )


def _retrieval(case: Case, untrained: Encoder | None) -> dict[str, RetrievalScore]:
    """Return Rank-1 and mAP of every method that compares tracks."""
    usable, names, perceived = case.usable, case.names, case.perceived
    cameras = np.array([camera for camera, _ in usable], dtype=np.str_)
    people = np.array([names[track] for track in usable], dtype=np.str_)
    methods = {"chance": chance(cameras, people)}
    if not usable:
        return methods
    silhouettes = [
        np.concatenate([t.silhouettes for t in perceived.tracklets if t.track == each])
        for each in usable
    ]
    distances: dict[str, NDArray[np.floating[Any]]] = {
        **{way: between(looks, usable) for way, looks in case.looks.items()},
        "mean silhouettes": gei_l2(silhouettes, silhouettes),
    }
    if untrained is not None:
        distances["untrained encoder"] = Walks.of(case, embed(perceived, untrained)).min()
    distances["encoder"] = Walks.of(case, case.embeddings).min()
    return methods | {
        method: cross_camera(matrix, cameras, people) for method, matrix in distances.items()
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
