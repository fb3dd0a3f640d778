"""The filter against the textbook: full 8x8 matrices, one track at a time."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from trackers.kalman import CHI2_95, XYAH, BoxFilter, BoxStates

Floats = NDArray[np.float64]
BOX_NOISE, POSITION_NOISE, VELOCITY_NOISE, FPS = 0.1, 0.04, 0.005, 25.0


class TextbookTrack:
    """A Kalman filter as in any textbook: x = F x, P = F P F' + Q; K = P H' S^-1."""

    def __init__(self, xyah: Floats) -> None:
        h = xyah[3]
        self.mean = np.concatenate([xyah, np.zeros(4)])
        position = [2 * BOX_NOISE * h, 2 * BOX_NOISE * h, 1e-2, 2 * BOX_NOISE * h]
        velocity = [10 * FPS * s for s in (VELOCITY_NOISE * h, VELOCITY_NOISE * h, 1e-5)]
        self.covariance = np.diag([*position, *velocity, velocity[0]]) ** 2

    def predict(self, t: float) -> None:
        h = self.mean[3]
        F = np.eye(8) + np.diag([t] * 4, k=4)
        Q = np.zeros((8, 8))
        for i, (p, v) in enumerate(
            [(POSITION_NOISE * h, VELOCITY_NOISE * h)] * 2
            + [(1e-2, 1e-5), (POSITION_NOISE * h, VELOCITY_NOISE * h)]
        ):
            q, r = p**2 * FPS, (v * FPS) ** 2 * FPS
            Q[i, i] = q * t + r * t**3 / 3
            Q[i, i + 4] = Q[i + 4, i] = r * t**2 / 2
            Q[i + 4, i + 4] = r * t
        self.mean = F @ self.mean
        self.covariance = F @ self.covariance @ F.T + Q

    def innovation(self) -> tuple[Floats, Floats]:
        h = self.mean[3]
        H = np.eye(4, 8)
        R = np.diag([BOX_NOISE * h, BOX_NOISE * h, 0.1, BOX_NOISE * h]) ** 2
        return H, H @ self.covariance @ H.T + R

    def correct(self, xyah: Floats) -> None:
        H, S = self.innovation()
        K = self.covariance @ H.T @ np.linalg.inv(S)
        self.mean = self.mean + K @ (xyah - H @ self.mean)
        self.covariance = (np.eye(8) - K @ H) @ self.covariance

    def gate(self, xyah: Floats, size: int) -> float:
        H, S = self.innovation()
        error = (xyah - H @ self.mean)[:size]
        return float(error @ np.linalg.inv(S[:size, :size]) @ error)


def boxes(rng: np.random.Generator, n: int) -> Floats:
    xy, wh = rng.uniform(0, 600, (n, 2)), rng.uniform(20, 120, (n, 2))
    return np.concatenate([xy, xy + wh], axis=1)


def filter_() -> BoxFilter:
    return BoxFilter(
        XYAH, box_noise=BOX_NOISE, position_noise=POSITION_NOISE, velocity_noise=VELOCITY_NOISE
    )


def test_many_tracks_at_once_equal_the_textbook_loop() -> None:
    rng = np.random.default_rng(0)
    kalman, start = filter_(), boxes(rng, 7)
    states = kalman.start(start)
    textbook = [TextbookTrack(xyah) for xyah in XYAH.of(start)]
    for t in (0.1, 0.04, 0.5, 0.0, 1.2):
        states = kalman.predict(states, t)
        measured = kalman.xyxy(states) + rng.normal(0, 3, (7, 4))
        states = kalman.correct(states, measured)
        for track, xyah in zip(textbook, XYAH.of(measured), strict=True):
            track.predict(t)
            track.correct(xyah)
    # Both in float64; the textbook's inverse loses a few digits.
    np.testing.assert_allclose(states.position, [t.mean[:4] for t in textbook], rtol=1e-8)
    np.testing.assert_allclose(
        states.velocity, [t.mean[4:] for t in textbook], rtol=1e-7, atol=1e-9
    )
    for part, (i, j) in enumerate([(0, 0), (0, 4), (4, 4)]):
        expected = [[t.covariance[i + k, j + k] for k in range(4)] for t in textbook]
        np.testing.assert_allclose(states.covariance[part], expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(("only_position", "size"), [(True, 2), (False, 4)])
def test_the_gating_distance_is_the_textbook_mahalanobis_distance(
    only_position: bool, size: int
) -> None:
    rng = np.random.default_rng(1)
    first, second = boxes(rng, 3), boxes(rng, 5)
    kalman = filter_()
    states = kalman.predict(kalman.start(first), 0.1)
    distance = kalman.gating_distance(states, second, only_position=only_position)
    for i, xyah in enumerate(XYAH.of(first)):
        track = TextbookTrack(xyah)
        track.predict(0.1)
        expected = [track.gate(z, size) for z in XYAH.of(second)]
        np.testing.assert_allclose(distance[i], expected, rtol=1e-9)


def test_the_gate_lets_95_of_100_honest_measurements_through() -> None:
    rng = np.random.default_rng(2)
    kalman = filter_()
    states = kalman.start(np.array([[100.0, 100.0, 140.0, 200.0]]))
    spread = np.sqrt((2 * BOX_NOISE * 100) ** 2 + (BOX_NOISE * 100) ** 2)
    shift = rng.normal(0, spread, (4000, 2))
    measured = kalman.xyxy(states) + np.concatenate([shift, shift], axis=1)
    distance = kalman.gating_distance(states, measured, only_position=True)
    assert 0.94 < (distance < CHI2_95[2]).mean() < 0.96


def test_one_long_prediction_equals_many_short_ones() -> None:
    kalman = filter_()
    states = kalman.correct(
        kalman.predict(kalman.start(np.array([[0.0, 0.0, 40.0, 100.0]])), 0.1),
        np.array([[9.0, 3.0, 49.0, 103.0]]),
    )
    values = states.values.copy()
    values[1, :, 2:] = 0
    steady = BoxStates(values)
    once, often = kalman.predict(steady, 0.5), steady
    for _ in range(5):
        often = kalman.predict(often, 0.1)
    np.testing.assert_allclose(once.position, often.position)
    np.testing.assert_allclose(once.covariance, often.covariance)


def test_the_velocity_of_a_walker_is_learnt_in_pixels_per_second() -> None:
    kalman = BoxFilter(XYAH)
    states = kalman.start(np.array([[0.0, 0.0, 40.0, 100.0]]))
    for i in range(1, 40):
        states = kalman.predict(states, 0.1)
        states = kalman.correct(states, np.array([[8.0 * i, 0.0, 40 + 8.0 * i, 100.0]]))
    np.testing.assert_allclose(states.velocity[0], [80, 0, 0, 0], atol=0.5)


def test_a_box_without_height_does_not_break_the_filter() -> None:
    kalman = BoxFilter(XYAH)
    states = kalman.predict(kalman.start(np.array([[5.0, 5.0, 9.0, 5.0]])), 0.1)
    states = kalman.correct(states, np.array([[5.0, 5.0, 9.0, 25.0]]))
    assert np.isfinite(kalman.xyxy(states)).all()
    assert np.isfinite(states.covariance).all()


@pytest.mark.parametrize("name", ["box_noise", "position_noise", "velocity_noise"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_noise_must_be_above_zero(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        BoxFilter(XYAH, **{name: value})
