"""Which tracklets are of one person and which of two, and how far apart they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gait.distance import euclidean
from gait.errors import DataError
from gait.evaluation.features import Features
from gait.silhouette import judge
from gait.tracklet import Tracklet
from pipeline.errors import OutputError
from pipeline.sinks.tracklets import StoredTracklet, read_tracklet
from pipeline.values import Embedding

GENUINE, IMPOSTOR, UNKNOWN = 1, 0, -1

_AREA_MEMORY = 9  # as the assembler's


@dataclass(frozen=True, slots=True, eq=False)
class Comparisons:
    """All pairs of some tracklets.

    Attributes:
        distances: Shape (N, N), float32, in the paper's metric.
        kinds: Shape (N, N), int8: GENUINE, IMPOSTOR or UNKNOWN; the diagonal is UNKNOWN.
        groups: Shape (N,), int64: the person, or the track where people are not known.
        qualities: Shape (N,), in 0..1; None where nobody knows.
    """

    distances: NDArray[np.floating[Any]]
    kinds: NDArray[np.int8]
    groups: NDArray[np.int64]
    qualities: NDArray[np.float64] | None

    def __post_init__(self) -> None:
        count = len(self.groups)
        if self.distances.shape != (count, count) or self.kinds.shape != (count, count):
            raise ValueError(
                f"Comparisons: expected {count} x {count} distances and kinds, got "
                f"{self.distances.shape} and {self.kinds.shape}"
            )

    def pairs(self, kind: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the places of the pairs of a kind, each pair once."""
        rows, columns = np.nonzero(self.kinds == kind)
        once = rows < columns
        return rows[once], columns[once]

    def of_groups(self, groups: NDArray[np.int64]) -> Comparisons:
        """Return the comparisons of some people (or tracks) with each other."""
        kept = np.flatnonzero(np.isin(self.groups, groups))
        square = np.ix_(kept, kept)
        qualities = None if self.qualities is None else self.qualities[kept]
        return Comparisons(self.distances[square], self.kinds[square], self.groups[kept], qualities)


def of_labelled(
    features: Features, qualities: NDArray[np.float64] | None, *, most: int, seed: int = 0
) -> Comparisons:
    """Return the comparisons of embeddings whose people are known.

    Args:
        features: Of an evaluation set.
        qualities: Shape (N,); None where nobody knows.
        most: Sequences that are compared at most; of more, whole people are left out, drawn by lot.
        seed: Of the lot.

    Raises:
        DataError: An embedding is not finite.
    """
    subjects = np.array([key.subject for key in features.keys], dtype=np.str_)
    groups = np.unique(subjects, return_inverse=True)[1].astype(np.int64)
    kept = _drawn(groups, most, np.random.default_rng(seed))
    embeddings = np.asarray(features.embeddings[kept], dtype=np.float32)
    if not np.isfinite(embeddings).all():
        raise DataError("embeddings: expected finite numbers; embed the set again, in float32")
    groups = groups[kept]
    kinds = np.where(groups[:, None] == groups, GENUINE, IMPOSTOR).astype(np.int8)
    np.fill_diagonal(kinds, UNKNOWN)
    return Comparisons(
        euclidean(embeddings, embeddings, dtype=np.float32),
        kinds,
        groups,
        None if qualities is None else qualities[kept],
    )


def of_results(folders: Sequence[Path], *, gap_s: float) -> Comparisons:
    """Return the comparisons of the tracklets of results folders, where nobody is known.

    Two tracklets of one track with `gap_s` between them are one person's. Those of two tracks that
    were seen in one frame are two people's. Of all others nobody knows.

    Args:
        folders: That `trackletgait process` wrote, with embeddings.
        gap_s: Shortest time between two tracklets of one track. Higher compares people in more
            different moments, at the price of fewer pairs.

    Raises:
        OutputError: A tracklet is damaged, or there are none.
    """
    stored, places = _stored(folders)
    embeddings = [each.embedding for each in stored if each.embedding is not None]
    return of_tracklets([each.tracklet for each in stored], embeddings, gap_s=gap_s, places=places)


def of_tracklets(
    tracklets: Sequence[Tracklet],
    embeddings: Sequence[Embedding],
    *,
    gap_s: float,
    places: Sequence[int] | None = None,
) -> Comparisons:
    """Return the comparisons of tracklets of whom nobody is known, as `of_results` does.

    Args:
        tracklets: At least one.
        embeddings: One each.
        gap_s: Shortest time between two tracklets of one track.
        places: Which run each is of; None when all are of one.
    """
    tracks = [
        (place, t.stream, t.track_id)
        for t, place in zip(tracklets, places or [0] * len(tracklets), strict=True)
    ]
    names = {track: number for number, track in enumerate(dict.fromkeys(tracks))}
    groups = np.array([names[track] for track in tracks], dtype=np.int64)
    each = np.stack(embeddings)
    return Comparisons(
        euclidean(each, each, dtype=np.float32),
        _kinds(tracklets, tracks, names, groups, gap_s),
        groups,
        np.array([t.quality for t in tracklets]),
    )


def steadiness(silhouettes: NDArray[np.uint8]) -> float:
    """Return what can be known of a sequence's quality without its video: mean, in 0..1.

    It is the quality the assembler gives (`gait.silhouette.judge`) to people of 64 pixels or more
    whom nobody hides: how like the area of each silhouette is to those before.

    Args:
        silhouettes: Shape (T, 64, 44), at least one.
    """
    areas: list[float] = []
    qualities = []
    for each in silhouettes:
        before = float(np.median(areas[-_AREA_MEMORY:])) if areas else None
        verdict = judge(each, previous_area=before)
        qualities.append(verdict.quality)
        areas.append(max(1.0, verdict.area))
    return float(np.mean(qualities))


def _drawn(groups: NDArray[np.int64], most: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the rows of as many whole people as `most` allows."""
    people, counts = np.unique(groups, return_counts=True)
    order = rng.permutation(len(people))
    fitting = order[np.cumsum(counts[order]) <= most]
    return np.flatnonzero(np.isin(groups, people[fitting]))


def _stored(folders: Sequence[Path]) -> tuple[list[StoredTracklet], list[int]]:
    """Return the tracklets with embeddings, and which folder each is from."""
    stored, places = [], []
    for place, folder in enumerate(folders):
        for file in sorted(folder.glob("streams/*/tracklets/*.npz")):
            each = read_tracklet(file)
            # a walk that has grown is no second walk
            if each.embedding is not None and not each.tracklet.offset:
                stored.append(each)
                places.append(place)
    if not stored:
        raise OutputError(
            f"{', '.join(map(str, folders))}: expected tracklets with embeddings, found none; give "
            f"folders that `trackletgait process` wrote with output.tracklets=true"
        )
    return stored, places


def _kinds(
    tracklets: Sequence[Tracklet],
    tracks: Sequence[tuple[int, str, int]],
    names: dict[tuple[int, str, int], int],
    groups: NDArray[np.int64],
    gap_s: float,
) -> NDArray[np.int8]:
    together = np.zeros((len(names), len(names)), dtype=np.bool_)
    for each, (place, stream, track_id) in zip(tracklets, tracks, strict=True):
        for other in each.companions:
            if (place, stream, other) in names:
                one, two = names[place, stream, track_id], names[place, stream, other]
                together[one, two] = together[two, one] = True
    starts = np.array([t.times_s[0] for t in tracklets])
    ends = np.array([t.times_s[-1] for t in tracklets])
    gaps = np.maximum(starts[:, None] - ends, starts - ends[:, None])
    kinds = np.full((len(tracks), len(tracks)), UNKNOWN, dtype=np.int8)
    kinds[(groups[:, None] == groups) & (gaps >= gap_s)] = GENUINE
    kinds[together[np.ix_(groups, groups)]] = IMPOSTOR
    return kinds
