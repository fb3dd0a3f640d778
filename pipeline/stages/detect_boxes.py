"""What a detector's raw boxes go through before anybody else sees them. Plain numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]


def suppress(xyxy: FloatArray, scores: FloatArray, iou: float) -> NDArray[np.int64]:
    """Return the rows that greedy non-maximum suppression keeps, best first.

    Args:
        xyxy: Shape (N, 4).
        scores: Shape (N,).
        iou: A box that overlaps a better one by more than this is dropped. Higher keeps people
            who stand close together, at the price of several boxes on one person.
    """
    order = np.argsort(-scores, kind="stable")
    overlap = pairwise_iou(xyxy[order], xyxy[order])
    alive = np.ones(len(order), dtype=np.bool_)
    for i in range(len(order)):
        if alive[i]:
            alive[i + 1 :] &= overlap[i, i + 1 :] <= iou
    return order[alive].astype(np.int64)


def pairwise_iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return shape (N, M): intersection over union of every box of `a` with every box of `b`."""
    shared = intersections(a, b)
    union = areas(a)[:, None] + areas(b)[None] - shared
    return shared / np.maximum(union, 1e-9)


def intersections(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return shape (N, M): the area every box of `a` shares with every box of `b`."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.clip(high - low, 0, None)
    product: FloatArray = sides[..., 0] * sides[..., 1]
    return product


def areas(xyxy: FloatArray) -> FloatArray:
    """Return shape (N,): the area of each box."""
    product: FloatArray = (xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])
    return product


def clip_to_frame(xyxy: FloatArray, frame_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Return the boxes cut to the frame, in float32; one wholly outside becomes empty."""
    height, width = frame_hw
    limits = np.array([width, height, width, height], dtype=np.float32)
    return np.clip(xyxy, 0, limits).astype(np.float32)
