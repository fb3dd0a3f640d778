"""What stands between a camera and a person, drawn into masks.

Legend of the shape suffixes: T frames.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gait.synthetic.plan import Occluder

Masks = NDArray[np.uint8]


def hidden(
    masks: Masks,
    corner_T2: NDArray[np.float32],
    occluder: Occluder,
    height_px: float,
    rng: np.random.Generator,
) -> Masks:
    """Return the masks without what something in front hides.

    The thing stands still in the picture, or crosses it; the masks' window follows the person.

    Args:
        masks: Shape (T, H, W), uint8.
        corner_T2: Column and row of each window's corner in the picture, shape (T, 2).
        occluder: What it is.
        height_px: Usual height of the person.
        rng: Draws where it is and how large.
    """
    if not len(masks):
        return masks
    moment = int(rng.integers(len(masks)))
    place = _Place.of(masks[moment], corner_T2[moment])
    rows = corner_T2[:, 1, None] + np.arange(masks.shape[1])
    columns = corner_T2[:, 0, None] + np.arange(masks.shape[2])
    match occluder:
        case Occluder.POST:
            wide = height_px * rng.uniform(0.03, 0.12)
            covered = _between(columns, place.column, wide / 2)[:, None, :]
        case Occluder.LOW:
            top = place.foot - height_px * rng.uniform(0.06, 0.35)
            wide = height_px * rng.uniform(0.4, 2.0)
            covered = (rows > top)[:, :, None] & _between(columns, place.column, wide / 2)[:, None]
        case Occluder.PASSER_BY:
            covered = _passer_by(rows, columns, place, moment, height_px, rng)
    return np.where(covered, np.uint8(0), masks)


class _Place:
    """Middle column and lowest row of the person at some moment, in the picture."""

    def __init__(self, column: float, foot: float) -> None:
        self.column, self.foot = column, foot

    @classmethod
    def of(cls, mask: Masks, corner: NDArray[np.float32]) -> _Place:
        rows, columns = np.nonzero(mask)
        if not len(rows):
            return cls(float(corner[0]), float(corner[1]))
        return cls(float(corner[0] + columns.mean()), float(corner[1] + rows.max()))


def _passer_by(
    rows: NDArray[np.float32],
    columns: NDArray[np.float32],
    place: _Place,
    moment: int,
    height_px: float,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Return what a person nearer to the camera hides: trunk, head and two scissoring legs."""
    tall = height_px * rng.uniform(1.0, 1.25)
    foot = place.foot + tall * rng.uniform(0.05, 0.35)
    frames = np.arange(len(rows)) - moment
    step = height_px * rng.uniform(0.02, 0.09) * rng.choice([-1.0, 1.0])
    x = (columns - (place.column + step * frames)[:, None])[:, None, :] / tall
    up = (foot - rows)[:, :, None] / tall
    spread = 0.13 * np.sin(frames * rng.uniform(0.25, 0.7) + rng.uniform(0, 6.3))
    apart = spread[:, None, None] * np.clip(0.48 - up, 0.0, None) / 0.48
    legs = (np.abs(np.abs(x) - np.abs(apart)) < 0.055) & (up > 0) & (up < 0.5)
    trunk = np.square(x / rng.uniform(0.09, 0.14)) + np.square((up - 0.63) / 0.23) < 1
    head = np.square(x / 0.055) + np.square((up - 0.92) / 0.08) < 1
    return np.asarray(legs | trunk | head)


def _between(columns: NDArray[np.float32], middle: float, half: float) -> NDArray[np.bool_]:
    return np.asarray(np.abs(columns - middle) < half)
