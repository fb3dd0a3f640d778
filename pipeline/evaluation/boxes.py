"""Boxes with names, which of them are the same person, and what they say of a track.

Legend: N boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from trackers.association import assign, iou_matrix

MIN_IOU = 0.5
"""Overlap from which two boxes are of one person (MOTChallenge; Ristani et al. 2016)."""

NOBODY = ""
"""The name of a box that stands for nobody."""

Pairs = NDArray[np.int64]
"""Shape (K, 2): a row of the truth and a row of what was found."""


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Who is where on one camera.

    Attributes:
        frames: Shape (N,), int64: counted from 0.
        who: Shape (N,), text: a person, a track or an identity; "" is nobody.
        xyxy: Shape (N, 4), float64 pixels.
    """

    frames: NDArray[np.int64]
    who: NDArray[np.str_]
    xyxy: NDArray[np.float64]

    def __post_init__(self) -> None:
        n = len(self.frames)
        if self.who.shape != (n,) or self.xyxy.shape != (n, 4):
            raise ValueError(
                f"Boxes: expected who of shape ({n},) and xyxy of shape ({n}, 4), one a frame "
                f"number, got {self.who.shape} and {self.xyxy.shape}"
            )

    @classmethod
    def of(cls, rows: Iterable[tuple[int, str, Sequence[float]]]) -> Self:
        """Return boxes from (frame, who, (left, top, right, bottom))."""
        listed = list(rows)
        return cls(
            np.array([frame for frame, _, _ in listed], dtype=np.int64),
            np.array([who for _, who, _ in listed], dtype=np.str_),
            np.array([box for _, _, box in listed], dtype=np.float64).reshape(-1, 4),
        )

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Boxes:
        return Boxes(self.frames[rows], self.who[rows], self.xyxy[rows])

    def named(self, names: NDArray[np.str_]) -> Boxes:
        """Return the same boxes under other names, shape (N,)."""
        return Boxes(self.frames, names, self.xyxy)


def touching(truth: Boxes, found: Boxes, min_iou: float = MIN_IOU) -> Pairs:
    """Return every pair of boxes of one frame that overlap enough."""
    pairs = [
        np.stack([rows[i], columns[j]], axis=1)
        for rows, columns, overlaps in _by_frame(truth, found)
        for i, j in [np.nonzero(overlaps >= min_iou)]
    ]
    return np.concatenate(pairs) if pairs else np.empty((0, 2), dtype=np.int64)


def matched(truth: Boxes, found: Boxes, min_iou: float = MIN_IOU) -> Pairs:
    """Return the pairs of the best one-to-one assignment in each frame, by overlap."""
    pairs = []
    for rows, columns, overlaps in _by_frame(truth, found):
        i, j = assign(np.where(overlaps >= min_iou, overlaps, 0.0), above=0.0)
        pairs.append(np.stack([rows[i], columns[j]], axis=1))
    return np.concatenate(pairs) if pairs else np.empty((0, 2), dtype=np.int64)


def without_ignored(
    truth: Boxes, ignored: Boxes, found: Boxes, min_iou: float = MIN_IOU
) -> NDArray[np.bool_]:
    """Return which found boxes count: not those of a person whom nobody need find.

    Args:
        truth: People who count.
        ignored: People who do not, such as those all but hidden.
        found: What was found.
        min_iou: Overlap of one person.

    Returns:
        Shape (N,): False where a box fits somebody ignored and nobody who counts.
    """
    counts = np.ones(len(found), dtype=bool)
    counts[touching(ignored, found, min_iou)[:, 1]] = False
    counts[touching(truth, found, min_iou)[:, 1]] = True
    return counts


@dataclass(frozen=True, slots=True)
class TrackTruth:
    """Whom a track followed.

    Attributes:
        person: Who most of its boxes are on, or "" when most are on nobody.
        own: Boxes on that person (on nobody, if so).
        on_people: Boxes on any person.
        boxes: All its boxes.
    """

    person: str
    own: int
    on_people: int
    boxes: int


def whom_tracks_followed(
    truth: Boxes, found: Boxes, min_iou: float = MIN_IOU
) -> dict[str, TrackTruth]:
    """Return for every track, by its name in `found.who`, whom it followed."""
    pairs = matched(truth, found, min_iou)
    people = np.full(len(found), NOBODY, dtype=truth.who.dtype if len(truth) else np.dtype("U1"))
    people[pairs[:, 1]] = truth.who[pairs[:, 0]]
    tracks = {}
    for track in np.unique(found.who).tolist():
        names, counts = np.unique(people[found.who == track], return_counts=True)
        most = int(counts.argmax())
        nobody = int(counts[names == NOBODY].sum())
        tracks[track] = TrackTruth(
            str(names[most]), int(counts[most]), int(counts.sum()) - nobody, int(counts.sum())
        )
    return tracks


_FrameRows = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def _by_frame(truth: Boxes, found: Boxes) -> Iterator[_FrameRows]:
    """Yield rows of the truth, rows of what was found and their overlaps, a frame at a time."""
    for frame in np.intersect1d(truth.frames, found.frames).tolist():
        rows = np.flatnonzero(truth.frames == frame)
        columns = np.flatnonzero(found.frames == frame)
        yield rows, columns, iou_matrix(truth.xyxy[rows], found.xyxy[columns])
