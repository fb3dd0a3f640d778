"""Makes the curves of one person agree: both feet on the floor when they should be, and not before.

Nobody's joints move independently. Draw each curve by itself and the swinging foot scrapes over the
floor, or the two feet pull apart while both stand. So after drawing, the curves of the legs
are moved as little as makes the feet meet the floor, by a few Gauss-Newton steps on

    both feet down      as high and as fast as each other
    one foot down       flat, and moving back evenly, while the other one clears the floor
    all the time        steps as long as the style says

Legend of the shape suffixes: C curves, K coefficients, N points of the cycle, R residuals, M moved
coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from gait.synthetic.curves import CURVES, MEAN_CK, NUM_COEFFICIENTS, NUM_HARMONICS, basis
from gait.synthetic.legs import SIDES, Stance, feet, leg_rotations, strided

_POINTS = 50
_HALF = _POINTS // 2
_GAINS = np.array([0.6, 1.0, 1.4])
_STEPS = 3
# One sample more on each side, so that the differences at the seam are central ones.
_BASIS = basis(np.arange(-1, _POINTS + 1) / _POINTS)

# Points of a side's own cycle, the contact of its heel at 0.
_BOTH_DOWN = np.arange(0, 6)
_ONE_DOWN = np.arange(6, _HALF)
_FLAT = np.arange(5, 15)
_SWING = np.arange(33, 48)

# What a residual of 1 is worth, in lengths of the leg (and cycles).
_HEIGHT, _SPEED, _UNEVEN, _STEP = 0.003, 0.15, 0.20, 0.003
_CLEARANCE = 0.016
_SOFTNESS = 0.004
# How far a curve may be moved: one standard deviation in degrees, less for the higher harmonics.
_FREEDOM = {"hip": 2.0, "adduction": 1.0, "knee": 3.0, "foot": 4.0, "toe": 8.0}
_MOVED = [CURVES.index(f"{name}_{side}") for side in SIDES for name in _FREEDOM]
_FALLING = 1 / (1 + np.arange(1, NUM_HARMONICS + 1) / 4)
_FREE_M = np.outer(
    list(_FREEDOM.values()) * len(SIDES), np.concatenate([[1.0], _FALLING, _FALLING])
).ravel()
_PER_SIDE = 3 * len(_BOTH_DOWN) + len(_ONE_DOWN) + len(_FLAT)
_ONE_SIDED_R = np.concatenate(
    [[False], np.tile(np.repeat([False, True], [_PER_SIDE, 3 * len(_SWING)]), len(SIDES))]
)
"""Which residuals count only below 0: nobody lifts a foot too high."""


def coordinated(
    coefficients_CK: NDArray[np.float64], stance: Stance, step_length: float
) -> tuple[NDArray[np.float64], float]:
    """Return curves that agree with each other, and the gain for `strided` that they need.

    Args:
        coefficients_CK: Of a person's curves as they were drawn, shape (C, K), degrees.
        stance: How the person puts the legs.
        step_length: How long the steps shall be, in lengths of the leg.
    """
    lengths = [_Cycle.of(coefficients_CK, stance, gain).step_length for gain in _GAINS]
    gain = round(float(np.interp(step_length, lengths, _GAINS)), 6)
    moved = coefficients_CK.copy()
    offset_M = np.zeros(len(_FREE_M))
    for _ in range(_STEPS):
        wrong = _Cycle.of(moved, stance, gain).residuals(step_length)
        counts = ~_ONE_SIDED_R | (wrong < 0)
        slope = _slope()[counts]
        # Towards the least of |wrong|^2 + |offset|^2, offsets in units of their freedom.
        normal = slope.T @ slope
        normal[np.diag_indices_from(normal)] += 1.0
        offset_M -= np.linalg.solve(normal, slope.T @ wrong[counts] + offset_M)
        # Rounded, so that another processor's last digits do not make another person.
        moved[_MOVED] = coefficients_CK[_MOVED] + _as_rows(np.round(offset_M, 6))
    return moved, gain


@dataclass(frozen=True, slots=True)
class _Cycle:
    """How the feet move over one cycle, in lengths of the leg, both (N, feet, points of a foot).

    Attributes:
        height: Of heel, ball and toe tip.
        back: Their speed backwards, per cycle.
        aside: Their speed to the right, per cycle.
    """

    height: NDArray[np.float64]
    back: NDArray[np.float64]
    aside: NDArray[np.float64]

    @classmethod
    def of(cls, coefficients_CK: NDArray[np.float64], stance: Stance, gain: float) -> _Cycle:
        """Move the legs through one cycle of these curves."""
        values = strided(_BASIS @ coefficients_CK.T, gain)
        points = feet(leg_rotations(values, stance)).reshape(len(_BASIS), len(SIDES), 3, 3)
        speed = 0.5 * _POINTS * (points[:-2] - points[2:])
        return cls(points[1:-1, ..., 2], speed[..., 0], speed[..., 1])

    def lowest(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values (N, feet, points) at the lowest point of each foot, shape (N, feet)."""
        weight = np.exp((self.height.min(axis=2, keepdims=True) - self.height) / _SOFTNESS)
        lowest: NDArray[np.float64] = (values * weight).sum(axis=2) / weight.sum(axis=2)
        return lowest

    @property
    def step_length(self) -> float:
        """How far the standing foot moves back from one contact to the other's, on average."""
        left, right = self.lowest(self.back).T
        return float(left[:_HALF].mean() + right[_HALF:].mean()) / 4

    def residuals(self, step_length: float) -> NDArray[np.float64]:
        """Return what is wrong, shape (R,); those that are one-sided are right above 0."""
        speed, aside = self.lowest(self.back), self.lowest(self.aside)
        sole = self.height.min(axis=2)
        parts = [np.array([self.step_length - step_length]) / _STEP]
        for side in (0, 1):
            own, other = side * _HALF, 1 - side
            both, one, flat, swing = (
                (p + own) % _POINTS for p in (_BOTH_DOWN, _ONE_DOWN, _FLAT, _SWING)
            )
            clear = self.height[swing, side] - sole[swing, other][:, None]
            parts += [
                (sole[both, side] - sole[both, other]) / _HEIGHT,
                (speed[both, side] - speed[both, other]) / _SPEED,
                (aside[both, side] - aside[both, other]) / _SPEED,
                (speed[one, side] - speed[one, side].mean()) / _UNEVEN,
                (self.height[flat, side, 1] - self.height[flat, side, 0]) / _HEIGHT,
                ((clear - _CLEARANCE) / _HEIGHT).ravel(),
            ]
        return np.concatenate(parts)


def _as_rows(offset_M: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return offsets in degrees, one row of coefficients for each curve that may move."""
    return (offset_M * _FREE_M).reshape(len(_MOVED), NUM_COEFFICIENTS)


@cache
def _slope() -> NDArray[np.float64]:
    """Return how the mean person's residuals change with each offset, shape (R, M)."""
    stance, small = Stance(0.0, (0.0, 0.0)), 0.02
    columns = []
    for number in range(len(_FREE_M)):
        offset = np.zeros(len(_FREE_M))
        ends = []
        for sign in (-1, 1):
            offset[number] = sign * small
            coefficients = MEAN_CK.copy()
            coefficients[_MOVED] += _as_rows(offset)
            ends.append(_Cycle.of(coefficients, stance, 1.0).residuals(0.0))
        columns.append((ends[1] - ends[0]) / (2 * small))
    return np.stack(columns, axis=1)
