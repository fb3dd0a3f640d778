"""Ways to tell who is who over cameras, on the same detections: ours, and what it has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gait.distance import euclidean
from gait.evaluation.openset import OpenSetConfig, open_set
from pipeline.evaluation.boxes import NOBODY
from pipeline.evaluation.case import Case, Identities, Track
from pipeline.evaluation.identity import cross_camera
from pipeline.evaluation.looks import between
from pipeline.gallery.config import GalleryConfig
from pipeline.gallery.decision import DecisionConfig
from pipeline.values import Embedding

FPIR = 0.1
_TRIED_THRESHOLDS = 40

TOGETHER = {"shared_clock": True}
"""The videos of a scene begin together."""

NO_PLACES = {"most_odds": 0, "most_place_odds": 0}
"""Neither ways nor places in the picture say anything."""

ALONE: Mapping[str, Any] = {
    "decision": {"windows": 1, "switch_windows": 10_000, "purity_margin": None},
    "whereabouts": NO_PLACES,
    "revise_s": 0,
}
"""Every tracklet for itself: no fusion, no places, no second thoughts."""


@dataclass(frozen=True, slots=True)
class Contender:
    """How right one way is.

    Attributes:
        id_f1: IDF1 over all cameras.
        identities: How many it told apart.
        rank1: Share of tracks whose nearest track on another camera is of the same person.
        fnir: Share of people who come again and are missed, at the threshold that takes a tenth of
            the strangers for somebody; NaN where nobody comes again.
    """

    id_f1: float
    identities: int
    rank1: float
    fnir: float


@dataclass(frozen=True, slots=True, eq=False)
class Contest:
    """Ways to tell the tracks of a scene apart.

    Attributes:
        case: The scene.
    """

    case: Case

    def held(self, threshold: float) -> dict[str, Contender]:
        """Return every way by its name.

        Args:
            threshold: Of the encoder. Those of looks are chosen with the truth at hand.
        """
        walks = Walks.of(self.case, self.case.embeddings)
        found = {
            "nearest walk, one threshold": self._judged(self._ids(threshold, ALONE), walks.min())
        }
        for way, looks in self.case.looks.items():
            unlike = between(looks, self.case.usable)
            found[f"{way}, best threshold"] = self._judged(self._by_looks(unlike), unlike)
        fused = walks.fused()
        found["walks as ours, no clock"] = self._judged(self._ids(threshold, {}), fused)
        found["ours"] = self._judged(self._ids(threshold, {"whereabouts": TOGETHER}), fused)
        return found

    def _ids(self, threshold: float, rules: Mapping[str, Any]) -> Identities:
        config = GalleryConfig.model_validate({"threshold": threshold, **rules})
        return self.case.identities(config)

    def _judged(
        self, identities: Mapping[Track, str], distances: NDArray[np.floating[Any]]
    ) -> Contender:
        people = set(identities.values()) - {NOBODY}
        id_f1 = self.case.score(identities).f1
        return Contender(id_f1, len(people), *self.retrieval(distances))

    def retrieval(self, distances: NDArray[np.floating[Any]]) -> tuple[float, float]:
        """Return Rank-1 and FNIR across cameras by distances of the usable tracks."""
        usable, names = self.case.usable, self.case.names
        cameras = np.array([camera for camera, _ in usable], dtype=np.str_)
        people = np.array([names[track] for track in usable], dtype=np.str_)
        rank1 = cross_camera(distances, cameras, people).rank1
        return rank1, _missed(distances, cameras, people)

    def _by_looks(self, distances: NDArray[np.floating[Any]]) -> dict[Track, str]:
        """Return the identities of tracks in their order, at the threshold that is best here."""
        given = np.unique(np.quantile(distances, np.linspace(0, 0.6, _TRIED_THRESHOLDS)))
        tried = [self._nearest_first(distances, float(each)) for each in given]
        return max(tried, key=lambda identities: self.case.score(identities).f1)

    def _nearest_first(
        self, distances: NDArray[np.floating[Any]], threshold: float
    ) -> dict[Track, str]:
        """Give each track the identity of the nearest one before, or a new one."""
        usable = self.case.usable
        order = sorted(range(len(usable)), key=lambda at: self._start_s(usable[at]))
        identities: dict[Track, str] = {}
        for place, at in enumerate(order):
            before = order[:place]
            near = min(before, key=lambda other: float(distances[at, other]), default=None)
            is_known = near is not None and distances[at, near] <= threshold
            known = identities[usable[near]] if near is not None and is_known else str(at)
            identities[usable[at]] = known
        return identities

    def _start_s(self, track: Track) -> float:
        return min(t.seen_s[0] for t in self.case.perceived.tracklets if t.track == track)


@dataclass(frozen=True, slots=True, eq=False)
class Walks:
    """Distances of tracklets, and whose they are."""

    distances: NDArray[np.floating[Any]]
    owners: NDArray[np.int64]
    num_tracks: int

    @classmethod
    def of(cls, case: Case, embeddings: Sequence[Embedding | None]) -> Self:
        """Return those of a case's usable tracks, by some embeddings of its tracklets."""
        place = {track: row for row, track in enumerate(case.usable)}
        pairs = zip(case.perceived.tracklets, embeddings, strict=True)
        kept = [(place[t.track], e) for t, e in pairs if e is not None and t.track in place]
        each = np.stack([embedding for _, embedding in kept])
        owners = np.array([owner for owner, _ in kept])
        return cls(euclidean(each, each), owners, len(case.usable))

    def min(self) -> NDArray[np.float64]:
        """Return the distances of the nearest tracklets of tracks, shape (M, M)."""
        return np.stack([self._to(track).min(axis=0) for track in range(self.num_tracks)])

    def mean(self) -> NDArray[np.float64]:
        """Return the mean distances of a track's windows to the nearest of the other's."""
        return np.stack([self._to(track).mean(axis=0) for track in range(self.num_tracks)])

    def first(self) -> NDArray[np.float64]:
        """Return the distances of a track's first window to the nearest of the other's."""
        return np.stack([self._to(track)[0] for track in range(self.num_tracks)])

    def fused(self) -> NDArray[np.float64]:
        """Return the distances of tracks as the gallery makes them (`pipeline.gallery.decision`).

        With equal qualities, and of all windows.
        """
        scale = DecisionConfig().scale
        rows = []
        for track in range(self.num_tracks):
            to = self._to(track)
            nearest = to.min(axis=0)
            rows.append(nearest - scale * np.log(np.exp((nearest - to) / scale).mean(axis=0)))
        return np.stack(rows)

    def _to(self, track: int) -> NDArray[np.float64]:
        """Return how far each window of a track is from each track, shape (W, M)."""
        windows = self.distances[self.owners == track]
        return np.stack(
            [windows[:, self.owners == other].min(axis=1) for other in range(self.num_tracks)],
            axis=1,
        ).astype(np.float64)


def _missed(
    distances: NDArray[np.floating[Any]],
    cameras: NDArray[np.str_],
    people: NDArray[np.str_],
) -> float:
    """Return FNIR at FPIR 10 % of searches for tracks among those of the other cameras."""
    apart = cameras[:, None] != cameras
    same = people[:, None] == people
    found = np.stack(
        [np.where(apart & which, distances, np.inf).min(axis=1) for which in (same, ~same)], axis=1
    )
    found = found[(people != NOBODY) & np.isfinite(found).all(axis=1)]
    if not len(found):
        return float("nan")
    config = OpenSetConfig(fpir_targets=(FPIR,), resamples=1)
    whose = np.arange(len(found)).astype(np.str_)
    scored = open_set("", found, whose, config, np.random.default_rng(0))
    return scored.points[0].fnir.value
