"""From video to identities over cameras, with some stages told the truth: which one loses what.

scene = Scene.load(Path("scene"))
for stages in STAGES:
    perceived = perceive(scene, stages, cache)
    print(judge(scene, stages, perceived, encoder, threshold=9.0).id_f1)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gait.distance import euclidean
from gait.encoder import Encoder
from gait.evaluation.gei import gei_l2
from pipeline.evaluation.boxes import (
    NOBODY,
    Boxes,
    TrackTruth,
    matched,
    whom_tracks_followed,
    without_ignored,
)
from pipeline.evaluation.contenders import Contender, Contest, Track, identify
from pipeline.evaluation.identity import IdScore, RetrievalScore, chance, cross_camera, id_score
from pipeline.evaluation.perceive import Stages
from pipeline.evaluation.perceived import Perceived
from pipeline.evaluation.scene import Scene
from pipeline.gallery.config import GalleryConfig
from pipeline.gallery.whereabouts import WhereaboutsConfig
from pipeline.values import Embedding

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
) -> Judged:
    """Return what becomes of a scene.

    Args:
        scene: With the truth.
        stages: How `perceived` was made.
        perceived: What perception made of it.
        encoder: Which compares walks.
        threshold: Of the gallery, as for `GalleryConfig.threshold`; None when nobody knows it.
        untrained: An encoder with random weights, for comparison.
    """
    truth = {name: camera.counted()[0] for name, camera in scene.cameras.items()}
    found = _counted(scene, perceived)
    followed = {name: whom_tracks_followed(truth[name], found[name]) for name in truth}
    names = {
        (name, int(track)): each.person
        for name, tracks in followed.items()
        for track, each in tracks.items()
    }
    embeddings = embed(perceived, encoder)
    usable = sorted({(t.stream, t.track_id) for t in perceived.tracklets if len(t)} & names.keys())
    gallery = _Gallery(perceived, embeddings, encoder.model_hash, truth, found)
    given = None if threshold is None else gallery.identities(threshold)
    contest = Contest(perceived, embeddings, usable, names, encoder.model_hash, gallery.score)
    hindsight, hindsight_threshold = gallery.best_threshold(threshold)
    return Judged(
        stages=stages,
        followed=_followed(scene, truth, found, followed, perceived, len(usable)),
        best=gallery.score({t: names[t] or f"{t} of nobody" for t in usable}).f1,
        alone=gallery.score({t: str(t) for t in usable}).f1,
        threshold=threshold,
        score=None if given is None else gallery.score(given),
        by_camera={} if given is None else gallery.by_camera(given),
        identities=0 if given is None else len(set(given.values()) - {NOBODY}),
        hindsight=hindsight,
        hindsight_threshold=hindsight_threshold,
        retrieval=_retrieval(perceived, embeddings, untrained, usable, names),
        contenders={} if threshold is None or not usable else contest.held(threshold),
    )


def embed(perceived: Perceived, encoder: Encoder) -> list[Embedding | None]:
    """Return the embedding of each tracklet; None for one without silhouettes."""
    usable = [tracklet for tracklet in perceived.tracklets if len(tracklet)]
    made = iter(encoder.encode(usable))
    return [next(made) if len(tracklet) else None for tracklet in perceived.tracklets]


@dataclass(frozen=True, slots=True, eq=False)
class _Gallery:
    """Identities of one scene at any threshold, and how right they are."""

    perceived: Perceived
    embeddings: Sequence[Embedding | None]
    model_hash: str
    truth: Mapping[str, Boxes]
    found: Mapping[str, Boxes]

    def identities(self, threshold: float) -> dict[Track, str]:
        clock = WhereaboutsConfig(shared_clock=True)  # the videos of a scene begin together
        config = GalleryConfig(threshold=threshold, whereabouts=clock)
        return identify(self.perceived, self.embeddings, config, self.model_hash)

    def score(self, identities: Mapping[Track, str]) -> IdScore:
        return id_score(self.truth, self._named(identities))

    def by_camera(self, identities: Mapping[Track, str]) -> dict[str, float]:
        named = self._named(identities)
        return {name: id_score({name: self.truth[name]}, {name: named[name]}).f1 for name in named}

    def best_threshold(self, given: float | None) -> tuple[float, float]:
        """Return the best IDF1 over `given` and thresholds spread over the distances, and where."""
        usable = np.array([each for each in self.embeddings if each is not None])
        if not len(usable):
            return self.score({}).f1, 0.0
        distances = euclidean(usable, usable)[np.triu_indices(len(usable), k=1)]
        spread = np.quantile(distances, np.linspace(0, 0.6, _TRIED_THRESHOLDS)).tolist()
        tried = {*spread, *([] if given is None else [given])}
        scored = [(self.score(self.identities(t)).f1, -t) for t in tried]
        best, negative = max(scored)
        return best, -negative

    def _named(self, identities: Mapping[Track, str]) -> dict[str, Boxes]:
        return {
            name: boxes.named(
                np.array(
                    [identities.get((name, int(track)), NOBODY) for track in boxes.who.tolist()],
                    dtype=np.str_,
                )
            )
            for name, boxes in self.found.items()
        }


def _counted(scene: Scene, perceived: Perceived) -> dict[str, Boxes]:
    """Return the tracks' boxes without those on people who need not be found."""
    counted = {}
    for name, camera in scene.cameras.items():
        boxes = perceived.tracks[name]
        counted[name] = boxes[without_ignored(*camera.counted(), boxes)]
    return counted


def _followed(
    scene: Scene,
    truth: Mapping[str, Boxes],
    found: Mapping[str, Boxes],
    followed: Mapping[str, Mapping[str, TrackTruth]],
    perceived: Perceived,
    usable: int,
) -> Followed:
    hits = sum(len(matched(truth[name], found[name])) for name in truth)
    tracks = [each for of_camera in followed.values() for each in of_camera.values()]
    on_people = [each for each in tracks if each.person != NOBODY]
    walks = sum(camera.num_walks for camera in scene.cameras.values())
    return Followed(
        recall=_share(hits, sum(map(len, truth.values()))),
        precision=_share(hits, sum(map(len, found.values()))),
        tracks_per_walk=_share(len(on_people), walks),
        purity=_share(sum(t.own for t in on_people), sum(t.on_people for t in on_people)),
        false_tracks=len(tracks) - len(on_people),
        mask_iou=perceived.mask_iou,
        tracks=len(tracks),
        usable=usable,
    )


def _retrieval(
    perceived: Perceived,
    embeddings: Sequence[Embedding | None],
    untrained: Encoder | None,
    usable: Sequence[Track],
    names: Mapping[Track, str],
) -> dict[str, RetrievalScore]:
    """Return Rank-1 and mAP of every method that compares tracks."""
    cameras = np.array([camera for camera, _ in usable], dtype=np.str_)
    people = np.array([names[track] for track in usable], dtype=np.str_)
    methods = {"chance": chance(cameras, people)}
    if not usable:
        return methods
    silhouettes = [
        np.concatenate(
            [t.silhouettes for t in perceived.tracklets if (t.stream, t.track_id) == each]
        )
        for each in usable
    ]
    colours = np.stack([perceived.colours[track] for track in usable])
    distances = {
        "colours of the clothes": 1 - colours @ colours.T,
        "mean silhouettes": gei_l2(silhouettes, silhouettes),
    }
    if untrained is not None:
        distances["untrained encoder"] = _nearest(perceived, embed(perceived, untrained), usable)
    distances["encoder"] = _nearest(perceived, embeddings, usable)
    return methods | {
        method: cross_camera(matrix, cameras, people) for method, matrix in distances.items()
    }


def _nearest(
    perceived: Perceived, embeddings: Sequence[Embedding | None], usable: Sequence[Track]
) -> NDArray[np.floating]:
    """Return the distances of tracks: of their nearest tracklets, as the gallery's search."""
    place = {track: row for row, track in enumerate(usable)}
    pairs = zip(perceived.tracklets, embeddings, strict=True)
    kept = [
        (place[t.stream, t.track_id], e)
        for t, e in pairs
        if e is not None and (t.stream, t.track_id) in place
    ]
    owners = np.array([owner for owner, _ in kept])
    each = np.stack([embedding for _, embedding in kept])
    nearest = np.full((len(usable), len(usable)), np.inf)
    np.minimum.at(nearest, (owners[:, None], owners[None, :]), euclidean(each, each))
    return nearest


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
