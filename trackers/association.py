"""Which box is which: overlap of boxes and the best one-to-one assignment."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


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


def assign(similarity: Floats, above: float) -> tuple[Ints, Ints]:
    """Return the one-to-one pairs whose summed similarity in excess of `above` is greatest.

    A pair at or below `above` is forbidden: it is worth exactly as much as leaving both alone, so
    it can never buy a better pair elsewhere, which a large cost for forbidden pairs would allow.

    Args:
        similarity: Shape (N, M), finite; higher is more alike.
        above: Pairs must be more alike than this.

    Returns:
        Rows and columns of the pairs, shape (K,) each, rows ascending.
    """
    gain = np.maximum(similarity - above, 0.0)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    allowed = gain[rows, columns] > 0
    return rows[allowed].astype(np.int64), columns[allowed].astype(np.int64)


def _areas(xyxy: Floats) -> Floats:
    areas: Floats = (xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])
    return areas
