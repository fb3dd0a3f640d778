"""Where people walk and when they are in a hurry: paths over the ground with a pace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

_SPACING_M = 0.05
_TURN_RADIUS_M = 0.45


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast somebody goes, as a share of his usual speed over time.

    Between two knots the speed eases from one share to the other; before the first and after the
    last it stays. The default is the usual speed all the time.

    Attributes:
        time_s: When, rising, seconds from the start of the walk.
        share: Share of the usual speed then; 0 stands, 1 is usual, up to 1.6 (a fast walk: nobody
            runs here).
    """

    time_s: tuple[float, ...] = (0.0,)
    share: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        """Refuse a pace that nobody can walk."""
        if len(self.time_s) != len(self.share) or not self.time_s:
            raise ValueError(
                "pace: expected as many times as shares and at least one, "
                f"got {len(self.time_s)} and {len(self.share)}"
            )
        if not np.all(np.isfinite(self.time_s)) or np.any(np.diff(self.time_s) <= 0):
            raise ValueError(f"pace: expected times that rise, got {self.time_s}")
        if not all(0.0 <= share <= 1.6 for share in self.share):
            raise ValueError(f"pace: expected shares in 0..1.6 (no running), got {self.share}")

    @classmethod
    def stop_and_go(cls, *, go_s: float, stop_s: float, ramp_s: float = 1.0) -> Pace:
        """Walk for `go_s`, stand for `stop_s`, walk on; each change takes `ramp_s` seconds."""
        times = np.cumsum([go_s, ramp_s, stop_s, ramp_s])
        return cls(tuple(times.tolist()), (1.0, 0.0, 0.0, 1.0))

    @classmethod
    def standing(cls) -> Pace:
        """Stand all the time."""
        return cls(share=(0.0,))

    def at(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of the usual speed at each time, shape (T,)."""
        knots, share = np.array(self.time_s), np.array(self.share)
        where = np.interp(time_s, knots, np.arange(len(knots), dtype=np.float64))
        low = np.floor(where).astype(np.int64)
        part = where - low
        high = np.minimum(low + 1, len(knots) - 1)
        eased: NDArray[np.float64] = share[low] + (share[high] - share[low]) * part**2 * (
            3 - 2 * part
        )
        return eased


@dataclass(frozen=True, slots=True, eq=False)
class Path2D:
    """A smooth line over the ground and the pace along it; beyond its ends it goes straight on.

    Attributes:
        points: Shape (N, 2), N >= 2, metres, about 5 cm apart and evenly spaced; made by the
            class methods.
        pace: The speed along it. In bends everybody slows down by himself.
    """

    points: NDArray[np.float64]
    pace: Pace = field(default_factory=Pace)

    def __post_init__(self) -> None:
        """Refuse what is no line."""
        if self.points.ndim != 2 or self.points.shape[1] != 2 or len(self.points) < 2:
            raise ValueError(f"path: expected points (N >= 2, 2), got {self.points.shape}")
        if not np.all(np.isfinite(self.points)):
            raise ValueError("path: expected finite points, got NaN or infinity")
        steps = np.linalg.norm(np.diff(self.points, axis=0), axis=1)
        if not 0 < steps.min() >= 0.5 * steps.max():
            raise ValueError(
                "path: expected evenly spaced points, got steps of "
                f"{steps.min():.3g} to {steps.max():.3g} m; use Path2D.through for waypoints"
            )

    @classmethod
    def straight(
        cls, *, start: ArrayLike = (0.0, 0.0), heading: float = 0.0, length_m: float = 1.0
    ) -> Path2D:
        """Go straight from `start` (2,) in metres towards `heading` in radians."""
        return cls._bending(np.zeros(_count(length_m)), start, heading)

    @classmethod
    def arc(
        cls,
        *,
        radius_m: float,
        angle: float,
        start: ArrayLike = (0.0, 0.0),
        heading: float = 0.0,
    ) -> Path2D:
        """Go along a circle by `angle` radians; to the left where it is positive."""
        if radius_m <= 0 or angle == 0:
            raise ValueError(
                f"arc: expected a positive radius and an angle other than 0, got {radius_m} m "
                f"and {angle} rad"
            )
        bend = np.full(_count(radius_m * abs(angle)), np.sign(angle) / radius_m)
        return cls._bending(bend, start, heading)

    @classmethod
    def s_curve(
        cls,
        *,
        length_m: float,
        swing: float = 0.6,
        start: ArrayLike = (0.0, 0.0),
        heading: float = 0.0,
    ) -> Path2D:
        """Wind left and right once on `length_m`, the heading swinging by `swing` radians."""
        count = _count(length_m)
        where = 2 * np.pi * np.arange(count) / count
        return cls._bending(swing * 2 * np.pi / length_m * np.cos(where), start, heading)

    @classmethod
    def turn(
        cls,
        *,
        before_m: float,
        angle: float,
        after_m: float = 1.0,
        start: ArrayLike = (0.0, 0.0),
        heading: float = 0.0,
    ) -> Path2D:
        """Go straight, turn on the spot or nearly so by `angle` radians, and go straight again."""
        corner = _count(_TURN_RADIUS_M * 1.5 * abs(angle))
        bend = np.hanning(corner + 2)[1:-1]
        bend *= angle / (bend.sum() * _SPACING_M)
        bend = np.concatenate([np.zeros(_count(before_m)), bend, np.zeros(_count(after_m))])
        return cls._bending(bend, start, heading)

    @classmethod
    def through(cls, waypoints: Sequence[Sequence[float]] | NDArray[np.float64]) -> Path2D:
        """Go smoothly through waypoints (N, 2) in metres.

        Raises:
            ValueError: Fewer than two waypoints, or two in a row on the same spot.
        """
        knots = np.asarray(waypoints, dtype=np.float64)
        if knots.ndim != 2 or knots.shape[1] != 2 or len(knots) < 2:
            raise ValueError(f"path: expected two or more waypoints (x, y), got {knots.shape}")
        chord = np.linalg.norm(np.diff(knots, axis=0), axis=1)
        if not np.all(chord > 0):
            raise ValueError("path: two waypoints in a row are the same or not finite")
        where = np.concatenate([[0.0], np.cumsum(chord)])
        dense = CubicSpline(where, knots)(np.linspace(0, where[-1], 20 * _count(where[-1])))
        return cls(_evenly(dense))

    def paced(self, pace: Pace) -> Path2D:
        """Return the same line at another pace."""
        return replace(self, pace=pace)

    @property
    def length_m(self) -> float:
        """How long the line is between its ends, metres."""
        return float(np.linalg.norm(np.diff(self.points, axis=0), axis=1).sum())

    def at(self, distance_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the ground points (T, 2) at distances (T,) from the start, metres."""
        steps = np.diff(self.points, axis=0)
        spacing = self.length_m / len(steps)
        index = np.clip(np.floor(distance_m / spacing).astype(np.int64), 0, len(steps) - 1)
        rest = distance_m / spacing - index
        at: NDArray[np.float64] = self.points[index] + rest[:, None] * steps[index]
        return at

    def heading_at(self, distance_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the direction of the line at distances (T,): radians, without jumps of 2 pi."""
        steps = np.diff(self.points, axis=0)
        headings = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        middle = (np.arange(len(steps)) + 0.5) * self.length_m / len(steps)
        return np.interp(distance_m, middle, headings)

    def curvature(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return distances (N,) and how sharply the line bends there (N,), radians per metre."""
        distance = np.linspace(0, self.length_m, len(self.points))
        return distance, np.gradient(self.heading_at(distance), distance)

    @classmethod
    def _bending(cls, bend: NDArray[np.float64], start: ArrayLike, heading: float) -> Path2D:
        """Build the line whose curvature is `bend` (N,), one every 5 cm."""
        origin = np.asarray(start, dtype=np.float64)
        if origin.shape != (2,):
            raise ValueError(f"start: expected a ground point (x, y), got shape {origin.shape}")
        headings = heading + np.cumsum(bend) * _SPACING_M
        steps = _SPACING_M * np.stack([np.cos(headings), np.sin(headings)], axis=1)
        return cls(np.concatenate([origin[None], origin + np.cumsum(steps, axis=0)]))


def _count(length_m: float) -> int:
    if not (np.isfinite(length_m) and length_m > 0):
        raise ValueError(f"path: expected a positive length in metres, got {length_m}")
    return max(1, round(length_m / _SPACING_M))


def _evenly(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points (N, 2) about 5 cm apart along a line of many points."""
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    where = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.linspace(0, where[-1], _count(where[-1]) + 1)
    return np.stack([np.interp(wanted, where, points[:, axis]) for axis in (0, 1)], axis=1)
