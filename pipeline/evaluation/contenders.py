"""Ways to tell who is who over cameras, on the same detections: ours, and what it has to beat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gait.distance import euclidean
from gait.evaluation.openset import OpenSetConfig, open_set
from pipeline.evaluation.boxes import NOBODY
from pipeline.evaluation.identity import IdScore, cross_camera
from pipeline.evaluation.perceived import Perceived
from pipeline.gallery.config import GalleryConfig
from pipeline.gallery.decision import DecisionConfig
from pipeline.gallery.sightings import SightingBook
from pipeline.gallery.whereabouts import WhereaboutsConfig
from pipeline.values import Embedding

Track = tuple[str, int]
"""Camera and track id."""

FPIR = 0.1
_TRIED_THRESHOLDS = 40


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


def identify(
    perceived: Perceived, embeddings: Sequence[Embedding | None], config: GalleryConfig, model: str
) -> dict[Track, str]:
    """Return the identity the product's gallery gives each track, "" where it gives none.

    A track that was split counts as its last part.
    """
    book = SightingBook()
    sightings = []
    with config.build(model_hash=model, threshold=None) as gallery:
        for tracklet, embedding in zip(perceived.tracklets, embeddings, strict=True):
            if embedding is None:
                gallery.note([tracklet])
                sightings += book.collect([tracklet], [None])
            else:
                sightings += book.collect([tracklet], gallery.match([tracklet], [embedding]))
            sightings += book.revise(gallery.revisions())
        sightings += book.close()
        gallery.settle()
        sightings += book.revise(gallery.revisions())
    return {(s.stream, s.track_id): s.identity or NOBODY for s in sightings}


@dataclass(frozen=True, slots=True, eq=False)
class Contest:
    """Tracks whose people are known.

    Attributes:
        perceived: All tracklets, and the colours of tracks.
        embeddings: One a tracklet; None where there is none.
        usable: Tracks that gave silhouettes.
        names: Whom each follows, "" for nobody.
        model_hash: Of the encoder.
        score: Says how right identities are.
    """

    perceived: Perceived
    embeddings: Sequence[Embedding | None]
    usable: Sequence[Track]
    names: Mapping[Track, str]
    model_hash: str
    score: Callable[[Mapping[Track, str]], IdScore]

    def held(self, threshold: float) -> dict[str, Contender]:
        """Return every way by its name.

        Args:
            threshold: Of the encoder. The one of colours is chosen with the truth at hand.
        """
        walks, colours = self._distances(), self._colours()
        alone = GalleryConfig(
            threshold=threshold,
            decision=DecisionConfig(windows=1, switch_windows=10_000, purity_margin=None),
            whereabouts=WhereaboutsConfig(most_odds=0),
            revise_s=0,
        )
        ours = GalleryConfig(threshold=threshold, whereabouts=WhereaboutsConfig(shared_clock=True))
        return {
            "nearest walk, one threshold": self._judged(self._identified(alone), walks.min),
            "colours, best threshold": self._judged(self._by_colours(colours), lambda: colours),
            "walks as ours, no clock": self._judged(
                self._identified(GalleryConfig(threshold=threshold)), walks.fused
            ),
            "ours": self._judged(self._identified(ours), walks.fused),
        }

    def _identified(self, config: GalleryConfig) -> dict[Track, str]:
        return identify(self.perceived, self.embeddings, config, self.model_hash)

    def _judged(
        self, identities: Mapping[Track, str], distances: Callable[[], NDArray[np.floating[Any]]]
    ) -> Contender:
        cameras = np.array([camera for camera, _ in self.usable], dtype=np.str_)
        people = np.array([self.names[track] for track in self.usable], dtype=np.str_)
        found = distances()
        return Contender(
            id_f1=self.score(identities).f1,
            identities=len(set(identities.values()) - {NOBODY}),
            rank1=cross_camera(found, cameras, people).rank1,
            fnir=_missed(found, cameras, people),
        )

    def _by_colours(self, distances: NDArray[np.floating[Any]]) -> dict[Track, str]:
        """Return the identities of tracks in their order, at the threshold that is best here."""
        given = np.unique(np.quantile(distances, np.linspace(0, 0.6, _TRIED_THRESHOLDS)))
        tried = [self._nearest_first(distances, float(each)) for each in given]
        return max(tried, key=lambda identities: self.score(identities).f1)

    def _nearest_first(
        self, distances: NDArray[np.floating[Any]], threshold: float
    ) -> dict[Track, str]:
        """Give each track the identity of the nearest one before, or a new one."""
        order = sorted(range(len(self.usable)), key=lambda at: self._start_s(self.usable[at]))
        identities: dict[Track, str] = {}
        for place, at in enumerate(order):
            before = order[:place]
            near = min(before, key=lambda other: float(distances[at, other]), default=None)
            is_known = near is not None and distances[at, near] <= threshold
            known = identities[self.usable[near]] if near is not None and is_known else str(at)
            identities[self.usable[at]] = known
        return identities

    def _start_s(self, track: Track) -> float:
        return min(t.seen_s[0] for t in self.perceived.tracklets if t.track == track)

    def _colours(self) -> NDArray[np.float32]:
        colours = np.stack([self.perceived.colours[track] for track in self.usable])
        return np.asarray(1 - colours @ colours.T)

    def _distances(self) -> _Walks:
        place = {track: row for row, track in enumerate(self.usable)}
        pairs = zip(self.perceived.tracklets, self.embeddings, strict=True)
        kept = [(place[t.track], e) for t, e in pairs if e is not None and t.track in place]
        each = np.stack([embedding for _, embedding in kept])
        owners = np.array([owner for owner, _ in kept])
        return _Walks(euclidean(each, each), owners, len(self.usable))


@dataclass(frozen=True, slots=True, eq=False)
class _Walks:
    """Distances of tracklets, and whose they are."""

    distances: NDArray[np.floating[Any]]
    owners: NDArray[np.int64]
    num_tracks: int

    def min(self) -> NDArray[np.float64]:
        """Return the distances of the nearest tracklets of tracks, shape (M, M)."""
        return np.stack([self._to(track).min(axis=0) for track in range(self.num_tracks)])

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
