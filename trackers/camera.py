"""Where points and boxes lie after the camera moved, as a matrix says."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def moved(points: Floats, motion: Floats) -> tuple[Floats, Floats]:
    """Return where points lie after a camera motion, and how small steps from them change.

    Args:
        points: Shape (N, 2), pixels of the previous picture.
        motion: Shape (2, 3) or (3, 3): takes them to this picture.

    Returns:
        The points, shape (N, 2), and the motion's derivative at each, shape (N, 2, 2); for (2, 3)
        that is the same 2x2 part everywhere.

    Raises:
        ValueError: The motion puts a point behind the camera.
    """
    bottom = motion[2] if len(motion) == 3 else np.array([0.0, 0.0, 1.0])
    depth = points @ bottom[:2] + bottom[2]
    if not (depth > 0).all():
        raise ValueError(
            f"camera_motion: expected people to stay in front of the camera, got {motion.tolist()}"
        )
    there = (points @ motion[:2, :2].T + motion[:2, 2]) / depth[:, None]
    steps = (motion[:2, :2] - there[:, :, None] * bottom[:2]) / depth[:, None, None]
    return there, steps


def growth(steps: Floats) -> Floats:
    """Return how much lengths grow, shape (N, 1): areas grow by the determinant of `steps`."""
    lengths: Floats = np.sqrt(np.abs(np.linalg.det(steps)))[:, None]
    return lengths


def moved_boxes(xyxy: Floats, motion: Floats) -> Floats:
    """Return boxes, shape (N, 4), after a camera motion: upright as they were, moved and grown."""
    centre, steps = moved((xyxy[:, :2] + xyxy[:, 2:]) / 2, motion)
    half = growth(steps) * (xyxy[:, 2:] - xyxy[:, :2]) / 2
    return np.concatenate([centre - half, centre + half], axis=1)
