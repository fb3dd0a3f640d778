"""Which box is which: overlap of boxes and the best one-to-one assignment."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

UNMATCHED = -1


def iou_matrix(first: Floats, second: Floats) -> Floats:
    """Return the intersection over union of every pair of boxes.

    Args:
        first: Shape (N, 4): left, top, right, bottom.
        second: Shape (M, 4).

    Returns:
        Shape (N, M), in 0..1; 0 where both boxes are empty.
    """
    # Plane by plane: broadcasting a last axis of two runs numpy's inner loop for two numbers.
    left = np.maximum(first[:, 0, None], second[:, 0])
    top = np.maximum(first[:, 1, None], second[:, 1])
    width = np.minimum(first[:, 2, None], second[:, 2]) - left
    height = np.minimum(first[:, 3, None], second[:, 3]) - top
    shared = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    union = _areas(first)[:, None] + _areas(second) - shared
    iou: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou


def expand(xyxy: Floats, margin: float | Floats) -> Floats:
    """Return boxes grown on each side by `margin` times their own width and height.

    The buffered boxes of C-BIoU (Yang et al., WACV 2023, eq. 2): people who moved further than
    their own width between two frames overlap again.

    Args:
        xyxy: Shape (N, 4).
        margin: Fraction of the box's size, one for all or shape (N,).
    """
    grow = (xyxy[:, 2:] - xyxy[:, :2]) * np.reshape(margin, (-1, 1))
    return np.concatenate([xyxy[:, :2] - grow, xyxy[:, 2:] + grow], axis=1)


class Pairs(NamedTuple):
    """Boxes that overlap, each pair once.

    Attributes:
        rows: Shape (K,), ascending: which of the first boxes.
        columns: Shape (K,): which of the second.
        overlap: Shape (K,), above 0 and at most 1: intersection over union.
    """

    rows: Ints
    columns: Ints
    overlap: Floats


def overlapping(first: Floats, second: Floats) -> Pairs:
    """Return the pairs of boxes that overlap: most do not, and cost four comparisons.

    Args:
        first: Shape (N, 4): left, top, right, bottom.
        second: Shape (M, 4).
    """
    left, top, right, bottom = np.ascontiguousarray(first.T)[:, :, None]
    left_, top_, right_, bottom_ = np.ascontiguousarray(second.T)
    touch = (left < right_) & (left_ < right)
    touch &= (top < bottom_) & (top_ < bottom)
    rows, columns = np.divmod(np.flatnonzero(touch), max(len(second), 1))
    a, b = first[rows].T, second[columns].T
    shared = (np.minimum(a[2], b[2]) - np.maximum(a[0], b[0])) * (
        np.minimum(a[3], b[3]) - np.maximum(a[1], b[1])
    )
    union = _areas(first)[rows] + _areas(second)[columns] - shared
    pairs = Pairs(
        rows, columns, np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    )
    is_pair = shared > 0  # a box without width or height may lie in another and share nothing
    return pairs if is_pair.all() else Pairs(*(part[is_pair] for part in pairs))


def assign(similarity: Floats, above: float) -> tuple[Ints, Ints]:
    """Return the one-to-one pairs whose summed similarity in excess of `above` is greatest.

    A pair at or below `above` is forbidden.

    Args:
        similarity: Shape (N, M), finite; higher is more alike.
        above: Pairs must be more alike than this.

    Returns:
        Rows and columns of the pairs, shape (K,) each, rows ascending.
    """
    rows, columns = np.nonzero(similarity > above)
    rows, columns = assign_pairs(rows, columns, similarity[rows, columns] - above)
    order = np.argsort(rows)
    return rows[order], columns[order]


def assign_pairs(rows: Ints, columns: Ints, gain: Floats) -> tuple[Ints, Ints]:
    """Return the one-to-one pairs whose summed gain is greatest.

    Args:
        rows: Shape (K,): the pairs there are to choose from, each once.
        columns: Shape (K,).
        gain: Shape (K,), above 0: what a pair is worth. Leaving somebody alone is worth nothing,
            so a pair that is not there can never buy a better one elsewhere, which a large cost for
            forbidden pairs would allow.

    Returns:
        Rows and columns of the pairs.
    """
    if not len(rows):
        return rows, columns
    # Most people overlap nobody but themselves: only those with a choice need the solver.
    has_choice = (np.bincount(rows)[rows] > 1) | (np.bincount(columns)[columns] > 1)
    if not has_choice.any():
        return rows, columns
    some_rows = np.flatnonzero(np.bincount(rows[has_choice]))
    some_columns = np.flatnonzero(np.bincount(columns[has_choice]))
    gains = np.zeros((len(some_rows), len(some_columns)))
    at_row = np.searchsorted(some_rows, rows[has_choice])
    at_column = np.searchsorted(some_columns, columns[has_choice])
    gains[at_row, at_column] = gain[has_choice]
    chosen_rows, chosen_columns = linear_sum_assignment(gains, maximize=True)
    is_pair = gains[chosen_rows, chosen_columns] > 0
    return (
        np.concatenate([rows[~has_choice], some_rows[chosen_rows[is_pair]]]),
        np.concatenate([columns[~has_choice], some_columns[chosen_columns[is_pair]]]),
    )


class Matching:
    """Which track is which detection, filled stage by stage; nobody is matched twice.

    Attributes:
        detection_of: Shape (N,): each track's detection, or `UNMATCHED`.
        is_taken: Shape (M,): whether a detection is somebody.
    """

    def __init__(self, tracks: int, detections: int) -> None:
        self.detection_of: Ints = np.full(tracks, UNMATCHED)
        self.is_taken: Bools = np.zeros(detections, dtype=np.bool_)

    def stage(
        self, pairs: Pairs, similarity: Floats, above: float, tracks: Bools, detections: Bools
    ) -> None:
        """Match those still free so that their summed similarity in excess of `above` is greatest.

        Args:
            pairs: Who may be which detection.
            similarity: Shape (K,): how alike each pair is.
            above: Pairs must be more alike than this.
            tracks: Shape (N,): which tracks take part.
            detections: Shape (M,): which detections take part.
        """
        rows = tracks & (self.detection_of == UNMATCHED)
        columns = detections & ~self.is_taken
        used = np.flatnonzero(rows[pairs.rows] & columns[pairs.columns] & (similarity > above))
        chosen_rows, chosen_columns = assign_pairs(
            pairs.rows[used], pairs.columns[used], similarity[used] - above
        )
        self.detection_of[chosen_rows] = chosen_columns
        self.is_taken[chosen_columns] = True


def _areas(xyxy: Floats) -> Floats:
    areas: Floats = (xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])
    return areas
