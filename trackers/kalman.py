"""A constant-velocity Kalman filter over the boxes of many tracks at once.

The model is that of SORT (Bewley et al., ICIP 2016), DeepSORT (Wojke et al., ICIP 2017) and
ByteTrack (Zhang et al., ECCV 2022): a box is (x, y, a, h), its centre, its aspect ratio width /
height and its height, each with a velocity, and the noise grows with the height h. Two things
differ from their implementations, which predict once a call and invert an 8x8 matrix a track:

* Time is in seconds. With the papers' noise read as white noise of a rate, a prediction over t is

      position' = position + t velocity
      P' = F P F^T + Q,   F = [[1, t], [0, 1]],   Q = [[q t + r t^3 / 3, r t^2 / 2],
                                                       [r t^2 / 2,       r t      ]]

  where q drives the position and r the velocity. One step of 0.5 s is then five of 0.1 s exactly.
* No coordinate is coupled with another in F, Q, R or the start, so the 8x8 covariance is four
  blocks of 2x2 and everything is closed form: with s the innovation variance P_pp + R,

      k = (P_pp, P_pv) / s,   mean' = mean + k (z - position),   P' = P - k k^T s
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CHI2_95 = {1: 3.8415, 2: 5.9915, 4: 9.4877}
"""95 % quantile of the squared gating distance, by the number of coordinates in it."""

# DeepSORT states its noise per frame of about 1/25 s; ours is the same noise, per second.
_PAPER_FPS = 25.0
_SMALLEST_H = 1.0  # a box of no height would have no noise and could never be moved again


@dataclass(frozen=True, slots=True, eq=False)
class BoxStates:
    """What the filter believes of N boxes. Coordinates are (x, y, a, h).

    Attributes:
        position: Shape (N, 4), pixels (a: none).
        velocity: Shape (N, 4), the same per second.
        covariance: Shape (3, N, 4): variance of the position, covariance of position and
            velocity, variance of the velocity.
    """

    position: Floats
    velocity: Floats
    covariance: Floats

    def __len__(self) -> int:
        return len(self.position)

    @property
    def xyxy(self) -> Floats:
        """Shape (N, 4): left, top, right, bottom."""
        x, y, a, h = self.position.T
        h = np.maximum(h, 0.0)
        w = np.maximum(a, 0.0) * h
        return np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> BoxStates:
        """Return the states at `index`."""
        return BoxStates(self.position[index], self.velocity[index], self.covariance[:, index])

    def put(self, index: NDArray[np.int64], other: BoxStates) -> BoxStates:
        """Return these states with those at `index` replaced by the others."""
        position, velocity = self.position.copy(), self.velocity.copy()
        covariance = self.covariance.copy()
        position[index], velocity[index] = other.position, other.velocity
        covariance[:, index] = other.covariance
        return BoxStates(position, velocity, covariance)

    def join(self, other: BoxStates) -> BoxStates:
        """Return these states followed by the others."""
        return BoxStates(
            np.concatenate([self.position, other.position]),
            np.concatenate([self.velocity, other.velocity]),
            np.concatenate([self.covariance, other.covariance], axis=1),
        )


class BoxFilter:
    """Predicts and corrects `BoxStates`; holds no state itself.

    Args:
        box_noise: Standard deviation of a measured box's centre and height, as a fraction of the
            height (DeepSORT: 1/20). Higher smooths a jumping detector, at the price of lagging
            behind people who turn.
        position_noise: Standard deviation of the motion that a constant velocity misses in a
            frame, as a fraction of the height (DeepSORT: 1/20). Higher follows the detector's
            boxes more closely, at the price of more jitter.
        velocity_noise: Standard deviation of the change of velocity in a frame, as a fraction of
            the height per frame (DeepSORT: 1/160). Higher follows people who stop and turn, at
            the price of wilder predictions while they are hidden.
    """

    def __init__(
        self,
        *,
        box_noise: float = 1 / 20,
        position_noise: float = 1 / 20,
        velocity_noise: float = 1 / 160,
    ) -> None:
        noises = {
            "box_noise": box_noise,
            "position_noise": position_noise,
            "velocity_noise": velocity_noise,
        }
        for name, value in noises.items():
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name}: expected a number above 0, got {value}")
        self._box_noise = box_noise
        self._position_noise = position_noise
        self._velocity_noise = velocity_noise

    def start(self, xyxy: Floats) -> BoxStates:
        """Return the states of boxes seen for the first time, shape (N, 4): at rest, unsure."""
        position = to_xyah(xyxy)
        position_std, velocity_std = self._noise(position[:, 3])
        position_std[:, [0, 1, 3]] = 2 * self._box_noise * _heights(position[:, [3]])
        covariance = np.zeros((3, *position.shape))
        covariance[0] = position_std**2
        covariance[2] = (10 * velocity_std) ** 2
        return BoxStates(position, np.zeros_like(position), covariance)

    def predict(self, states: BoxStates, interval_s: float) -> BoxStates:
        """Return the states `interval_s` seconds later."""
        t = interval_s
        position_std, velocity_std = self._noise(states.position[:, 3])
        q = position_std**2 * _PAPER_FPS
        r = velocity_std**2 * _PAPER_FPS
        pp, pv, vv = states.covariance
        covariance = np.stack(
            [
                pp + 2 * t * pv + t**2 * vv + q * t + r * t**3 / 3,
                pv + t * vv + r * t**2 / 2,
                vv + r * t,
            ]
        )
        return BoxStates(states.position + t * states.velocity, states.velocity, covariance)

    def correct(self, states: BoxStates, xyxy: Floats) -> BoxStates:
        """Return the states after box i, shape (N, 4), was measured for state i."""
        pp, pv, vv = states.covariance
        s = self._innovation_variance(states)
        error = to_xyah(xyxy) - states.position
        k_p, k_v = pp / s, pv / s
        return BoxStates(
            states.position + k_p * error,
            states.velocity + k_v * error,
            np.stack([pp - k_p * pp, pv - k_p * pv, vv - k_v * pv]),
        )

    def gating_distance(
        self, states: BoxStates, xyxy: Floats, *, only_position: bool = False
    ) -> Floats:
        """Return how unlikely each box is for each state, compared with `CHI2_95`.

        Args:
            states: N states.
            xyxy: Shape (M, 4), boxes.
            only_position: Whether to compare the centres only (2 degrees of freedom, else 4).

        Returns:
            Shape (N, M): squared Mahalanobis distance, DeepSORT eq. 1.
        """
        used = slice(0, 2 if only_position else 4)
        s = self._innovation_variance(states)[:, None, used]
        error = to_xyah(xyxy)[None, :, used] - states.position[:, None, used]
        distance: Floats = (error**2 / s).sum(axis=2)
        return distance

    def _innovation_variance(self, states: BoxStates) -> Floats:
        std = self._box_noise * _heights(states.position[:, 3])
        noise = np.stack([std, std, np.full_like(std, 0.1), std], axis=1)
        variance: Floats = states.covariance[0] + noise**2
        return variance

    def _noise(self, h: Floats) -> tuple[Floats, Floats]:
        """Return the noise of position (per frame) and velocity (in seconds), shape (N, 4) each."""
        h = _heights(h)
        position, velocity = self._position_noise * h, self._velocity_noise * h
        return (
            np.stack([position, position, np.full_like(h, 1e-2), position], axis=1),
            np.stack([velocity, velocity, np.full_like(h, 1e-5), velocity], axis=1) * _PAPER_FPS,
        )


def to_xyah(xyxy: Floats) -> Floats:
    """Return centre, aspect ratio and height of boxes, shape (N, 4) each."""
    left, top, right, bottom = np.asarray(xyxy, dtype=np.float64).T
    h = bottom - top
    aspect = (right - left) / _heights(h)
    return np.stack([(left + right) / 2, (top + bottom) / 2, aspect, h], axis=1)


def _heights(h: Floats) -> Floats:
    return np.maximum(h, _SMALLEST_H)
