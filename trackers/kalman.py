"""A constant-velocity Kalman filter over the boxes of many tracks at once.

A box is four coordinates, each with a velocity. Which four is what the papers differ in:
`XYAH` (SORT's successors DeepSORT and ByteTrack), `XYSR` (SORT, OC-SORT) and `XYWH` (BoT-SORT).
Noise grows with the box, as in DeepSORT (Wojke et al., ICIP 2017). Two things differ from the
papers' implementations, which predict once a call and invert an 8x8 matrix a track:

* Time is in seconds. With the papers' noise read as white noise of a rate, a prediction over t is

      position' = position + t velocity
      P' = F P F^T + Q,   F = [[1, t], [0, 1]],   Q = [[q t + r t^3 / 3, r t^2 / 2],
                                                       [r t^2 / 2,       r t      ]]

  where q drives the position and r the velocity. One step of 0.5 s is then five of 0.1 s exactly,
  so trackers keep the state of a box as it was last seen and predict from there.
* No coordinate is coupled with another in F, Q, R or the start, so the 8x8 covariance is four
  blocks of 2x2 and everything is closed form: with s the innovation variance P_pp + R,

      k = (P_pp, P_pv) / s,   mean' = mean + k (z - position),   P' = P - k k^T s
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackers.camera import growth, moved

Floats = NDArray[np.float64]

# DeepSORT states its noise per frame of about 1/25 s; ours is the same noise, per second.
_PAPER_FPS = 25.0
_SMALLEST = 1.0  # pixel: a box of no height would have no noise and could never be moved again
_FLATTEST_RATIO = 0.05  # of width to height, for a box without width


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Four numbers that describe a box; the first two are its centre.

    Attributes:
        of: Returns the coordinates of boxes, shape (N, 4) both.
        xyxy: Returns the boxes of coordinates: left, top, right, bottom, never with negative sides.
        unit2: Returns the square of what the noise of each coordinate is a fraction of, shape
            (N, 4).
        fixed: Coordinates of no unit have noise of a fixed size instead: the standard deviations
            of the measurement, the start, the position and the velocity; the latter two in 1/25 s.
            None where a coordinate's noise is a fraction of its unit.
        powers: How the coordinates grow when the picture does: a width 1, an area 2, a ratio 0.
    """

    of: Callable[[Floats], Floats]
    xyxy: Callable[[Floats], Floats]
    unit2: Callable[[Floats], Floats]
    fixed: tuple[tuple[float, float, float, float] | None, ...]
    powers: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class BoxStates:
    """What the filter believes of N boxes, in its coordinates.

    Attributes:
        values: Shape (5, N, 4): position, velocity (per second), variance of the position,
            covariance of position and velocity, variance of the velocity.
    """

    values: Floats

    def __len__(self) -> int:
        return len(self.values[0])

    @property
    def position(self) -> Floats:
        """Shape (N, 4)."""
        part: Floats = self.values[0]
        return part

    @property
    def velocity(self) -> Floats:
        """Shape (N, 4), per second."""
        part: Floats = self.values[1]
        return part

    @property
    def covariance(self) -> Floats:
        """Shape (3, N, 4): of the position, of position and velocity, of the velocity."""
        part: Floats = self.values[2:]
        return part

    def __getitem__(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> BoxStates:
        return BoxStates(self.values[:, index])

    def put(self, index: NDArray[np.int64], other: BoxStates) -> BoxStates:
        """Return these states with those at `index` replaced by the others."""
        values = self.values.copy()
        values[:, index] = other.values
        return BoxStates(values)

    def keeping_size(self) -> BoxStates:
        """Return these states with sizes that no longer change by themselves."""
        values = self.values.copy()
        values[1, :, 2:] = 0.0
        return BoxStates(values)

    def join(self, other: BoxStates) -> BoxStates:
        """Return these states and the others after them."""
        return BoxStates(np.concatenate([self.values, other.values], axis=1))


class BoxFilter:
    """The filter itself; it holds its noise and no tracks.

    Args:
        coordinates: What describes a box.
        box_noise: Standard deviation of a measured box, as a fraction of its size (the papers:
            1/20). Higher smooths jumping boxes more, at the price of lagging behind people who
            turn.
        position_noise: Standard deviation of the motion a constant velocity does not explain in
            a frame, as a fraction of the size (the papers: 1/20). Higher follows the measured
            boxes more closely, at the price of less smoothing.
        velocity_noise: Standard deviation of the change of velocity in a frame, as a fraction of
            the size per frame (the papers: 1/160). Higher follows people who stop and turn, at
            the price of wilder predictions while they are hidden.
    """

    def __init__(
        self,
        coordinates: Coordinates,
        *,
        box_noise: float = 1 / 20,
        position_noise: float = 1 / 20,
        velocity_noise: float = 1 / 160,
    ) -> None:
        noises = (box_noise, position_noise, velocity_noise)
        for name, value in zip(
            ("box_noise", "position_noise", "velocity_noise"), noises, strict=True
        ):
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name}: expected a number above 0, got {value}")
        usual = (box_noise, 2 * box_noise, position_noise, velocity_noise)
        stds = np.array([fixed or usual for fixed in coordinates.fixed], dtype=np.float64).T
        self._coordinates = coordinates
        self._measured, self._start, q, r = stds**2
        self._q, self._r = q * _PAPER_FPS, r * _PAPER_FPS**3

    def start(self, xyxy: Floats) -> BoxStates:
        """Return the states of boxes seen for the first time, shape (N, 4): at rest, unsure."""
        position = self._coordinates.of(np.asarray(xyxy, dtype=np.float64))
        unit2 = self._coordinates.unit2(position)
        values = np.zeros((5, *position.shape))
        values[0] = position
        values[2] = unit2 * self._start
        values[4] = unit2 * (100 * self._r / _PAPER_FPS)  # ten times a frame's
        return BoxStates(values)

    def predict(self, states: BoxStates, interval_s: float | Floats) -> BoxStates:
        """Return the states `interval_s` seconds later, one for all or shape (N,)."""
        t = interval_s if isinstance(interval_s, float) else np.reshape(interval_s, (-1, 1))
        x, v, pp, pv, vv = states.values
        unit2_t = self._coordinates.unit2(x) * t
        r_t = unit2_t * self._r
        grown_vv = t * vv
        values = np.empty_like(states.values)
        values[0] = x + t * v
        values[1] = v
        values[2] = pp + t * (2 * pv + grown_vv + r_t * (t / 3)) + unit2_t * self._q
        values[3] = pv + grown_vv + r_t * (t / 2)
        values[4] = vv + r_t
        return BoxStates(values)

    def correct(self, states: BoxStates, xyxy: Floats) -> BoxStates:
        """Return the states after box i, shape (N, 4), was measured for state i."""
        x, v, pp, pv, vv = states.values
        innovation = pp + self._coordinates.unit2(x) * self._measured
        k_p, k_v = pp / innovation, pv / innovation
        error = self._coordinates.of(xyxy) - x
        values = np.empty_like(states.values)
        values[0] = x + k_p * error
        values[1] = v + k_v * error
        values[2] = pp - k_p * pp
        values[3] = pv - k_p * pv
        values[4] = vv - k_v * pv
        return BoxStates(values)

    def xyxy(self, states: BoxStates) -> Floats:
        """Return the boxes, shape (N, 4): left, top, right, bottom."""
        return self._coordinates.xyxy(states.position)

    def move_camera(self, states: BoxStates, motion: Floats) -> BoxStates:
        """Return the states as the moved camera sees them.

        BoT-SORT (Aharon et al., 2022, eq. 6 to 8): centre and velocity go through the matrix, and
        with M its 2x2 part P' = M P M^T. A standing person's box does not turn with the picture,
        so sizes grow by sqrt(det M) instead of going through M; and what P' couples between x and
        y is left out: nothing for a motion that only moves and zooms, and P (1 - w^2/h^2) sin a for
        a turn by a.

        Args:
            states: N states.
            motion: Shape (2, 3) or (3, 3): where the last picture's points lie in this one.

        Raises:
            ValueError: The motion puts a box behind the camera.
        """
        centre, m = moved(states.position[:, :2], motion)
        grown = growth(m) ** np.array(self._coordinates.powers)
        values = states.values * np.stack([grown, grown, grown**2, grown**2, grown**2])
        values[0, :, :2] = centre
        values[1, :, :2] = np.einsum("nij,nj->ni", m, states.velocity[:, :2])
        values[2:, :, :2] = np.einsum("nij,cnj->cni", m**2, states.covariance[:, :, :2])
        return BoxStates(values)


def _sides(xyxy: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Return centre x and y, width and height, shape (N,) each."""
    left, top, right, bottom = xyxy.T
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def _columns(*columns: Floats) -> Floats:
    """Return four columns side by side; np.stack does, in thrice the time."""
    four = np.empty((len(columns[0]), 4))
    for i, column in enumerate(columns):
        four[:, i] = column
    return four


def _around(x: Floats, y: Floats, w: Floats, h: Floats) -> Floats:
    w, h = w / 2, h / 2
    return _columns(x - w, y - h, x + w, y + h)


def _to_xyah(xyxy: Floats) -> Floats:
    x, y, w, h = _sides(xyxy)
    return _columns(x, y, w / np.maximum(h, _SMALLEST), h)


def _from_xyah(xyah: Floats) -> Floats:
    x, y, a, h = xyah.T
    h = np.maximum(h, 0.0)
    return _around(x, y, np.maximum(a, 0.0) * h, h)


def _xyah_unit2(xyah: Floats) -> Floats:
    h = np.maximum(xyah[:, 3], _SMALLEST)
    h2 = h * h
    return _columns(h2, h2, np.ones_like(h2), h2)


def _to_xywh(xyxy: Floats) -> Floats:
    return _columns(*_sides(xyxy))


def _from_xywh(xywh: Floats) -> Floats:
    x, y, w, h = xywh.T
    return _around(x, y, np.maximum(w, 0.0), np.maximum(h, 0.0))


def _xywh_unit2(xywh: Floats) -> Floats:
    wh2 = np.maximum(xywh[:, 2:], _SMALLEST) ** 2
    return np.concatenate([wh2, wh2], axis=1)


def _to_xysr(xyxy: Floats) -> Floats:
    x, y, w, h = _sides(xyxy)
    return _columns(x, y, w * h, w / np.maximum(h, _SMALLEST))


def _from_xysr(xysr: Floats) -> Floats:
    x, y, s, r = xysr.T
    w = np.sqrt(np.maximum(s * r, 0.0))
    return _around(x, y, w, np.divide(np.maximum(s, 0.0), w, out=np.zeros_like(w), where=w > 0))


def _xysr_unit2(xysr: Floats) -> Floats:
    # A box whose sides err by a fraction of its height h errs by about h^2 times it in its area.
    h2 = np.maximum(xysr[:, 2] / np.maximum(xysr[:, 3], _FLATTEST_RATIO), _SMALLEST)
    return _columns(h2, h2, h2 * h2, np.ones_like(h2))


XYAH = Coordinates(
    of=_to_xyah,
    xyxy=_from_xyah,
    unit2=_xyah_unit2,
    fixed=(None, None, (0.1, 1e-2, 1e-2, 1e-5), None),
    powers=(1, 1, 0, 1),
)
"""Centre, aspect ratio width / height, height: DeepSORT, ByteTrack."""

XYWH = Coordinates(
    of=_to_xywh, xyxy=_from_xywh, unit2=_xywh_unit2, fixed=(None,) * 4, powers=(1, 1, 1, 1)
)
"""Centre, width, height, each side with its own noise: BoT-SORT, eq. 1 to 5."""

XYSR = Coordinates(
    of=_to_xysr,
    xyxy=_from_xysr,
    unit2=_xysr_unit2,
    fixed=(None, None, None, (0.1, 0.1, 1e-2, 0.0)),
    powers=(1, 1, 2, 0),
)
"""Centre, area, and an aspect ratio that never changes by itself: SORT, OC-SORT."""
