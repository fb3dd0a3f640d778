"""The filter against the textbook: full 8x8 matrices, one track at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from trackers.kalman import XYAH, XYSR, XYWH, BoxFilter, BoxStates

Floats = NDArray[np.float64]
BOX_NOISE, POSITION_NOISE, VELOCITY_NOISE, FPS = 0.1, 0.04, 0.005, 25.0


# What the noise of a coordinate is a fraction of, and the noise of coordinates without a unit:
# of a measurement, at the start, of the position and of the velocity.
UNITS: dict[str, Callable[[Floats], list[float]]] = {
    "xyah": lambda z: [z[3], z[3], 1, z[3]],
    "xywh": lambda z: [z[2], z[3], z[2], z[3]],
    "xysr": lambda z: [(z[2] / z[3]) ** 0.5, (z[2] / z[3]) ** 0.5, z[2] / z[3], 1],
}
USUAL = (BOX_NOISE, 2 * BOX_NOISE, POSITION_NOISE, VELOCITY_NOISE)
NOISES = {
    "xyah": [USUAL, USUAL, (0.1, 1e-2, 1e-2, 1e-5), USUAL],
    "xywh": [USUAL] * 4,
    "xysr": [USUAL, USUAL, USUAL, (0.1, 0.1, 1e-2, 0.0)],
}
COORDINATES = {"xyah": XYAH, "xywh": XYWH, "xysr": XYSR}
all_coordinates = pytest.mark.parametrize("kind", COORDINATES)


class TextbookTrack:
    """A Kalman filter as in any textbook: x = F x, P = F P F' + Q; K = P H' S^-1."""

    def __init__(self, z: Floats, kind: str = "xyah") -> None:
        self.kind = kind
        self.mean = np.concatenate([z, np.zeros(4)])
        start = [u * n[1] for u, n in self.noises()]
        velocity = [10 * FPS * u * n[3] for u, n in self.noises()]
        self.covariance = np.diag([*start, *velocity]) ** 2

    def noises(self) -> list[tuple[float, tuple[float, float, float, float]]]:
        return list(zip(UNITS[self.kind](self.mean[:4]), NOISES[self.kind], strict=True))

    def predict(self, t: float) -> None:
        F = np.eye(8) + np.diag([t] * 4, k=4)
        Q = np.zeros((8, 8))
        for i, (unit, (_, _, p, v)) in enumerate(self.noises()):
            q, r = (unit * p) ** 2 * FPS, (unit * v * FPS) ** 2 * FPS
            Q[i, i] = q * t + r * t**3 / 3
            Q[i, i + 4] = Q[i + 4, i] = r * t**2 / 2
            Q[i + 4, i + 4] = r * t
        self.mean = F @ self.mean
        self.covariance = F @ self.covariance @ F.T + Q

    def correct(self, z: Floats) -> None:
        H = np.eye(4, 8)
        R = np.diag([unit * n[0] for unit, n in self.noises()]) ** 2
        S = H @ self.covariance @ H.T + R
        K = self.covariance @ H.T @ np.linalg.inv(S)
        self.mean = self.mean + K @ (z - H @ self.mean)
        self.covariance = (np.eye(8) - K @ H) @ self.covariance

    def move_camera(self, motion: Floats) -> None:
        """BoT-SORT, eq. 7 and 8: every pair of coordinates goes through the 2x2 part."""
        M = np.kron(np.eye(4), motion[:, :2])
        self.mean = M @ self.mean
        self.mean[:2] += motion[:, 2]
        self.covariance = M @ self.covariance @ M.T


def boxes(rng: np.random.Generator, n: int) -> Floats:
    xy, wh = rng.uniform(0, 600, (n, 2)), rng.uniform(20, 120, (n, 2))
    return np.concatenate([xy, xy + wh], axis=1)


def filter_(kind: str = "xyah") -> BoxFilter:
    return BoxFilter(
        COORDINATES[kind],
        box_noise=BOX_NOISE,
        position_noise=POSITION_NOISE,
        velocity_noise=VELOCITY_NOISE,
    )


def assert_equal(states: BoxStates, textbook: list[TextbookTrack]) -> None:
    # Both in float64; the textbook's inverse loses a few digits.
    np.testing.assert_allclose(states.position, [t.mean[:4] for t in textbook], rtol=1e-8)
    np.testing.assert_allclose(
        states.velocity, [t.mean[4:] for t in textbook], rtol=1e-7, atol=1e-9
    )
    for part, (i, j) in enumerate([(0, 0), (0, 4), (4, 4)]):
        expected = [[t.covariance[i + k, j + k] for k in range(4)] for t in textbook]
        np.testing.assert_allclose(states.covariance[part], expected, rtol=1e-7, atol=1e-12)


@all_coordinates
def test_many_tracks_at_once_equal_the_textbook_loop(kind: str) -> None:
    rng = np.random.default_rng(0)
    kalman, start = filter_(kind), boxes(rng, 7)
    of = COORDINATES[kind].of
    states = kalman.start(start)
    textbook = [TextbookTrack(z, kind) for z in of(start)]
    for t in (0.1, 0.04, 0.5, 0.0, 1.2):
        states = kalman.predict(states, t)
        measured = np.abs(kalman.xyxy(states) + rng.normal(0, 3, (7, 4)))
        states = kalman.correct(states, measured)
        for track, z in zip(textbook, of(measured), strict=True):
            track.predict(t)
            track.correct(z)
    assert_equal(states, textbook)


@all_coordinates
def test_each_track_can_be_predicted_by_a_time_of_its_own(kind: str) -> None:
    rng = np.random.default_rng(5)
    kalman, start = filter_(kind), boxes(rng, 4)
    moving = kalman.correct(kalman.predict(kalman.start(start), 0.1), start + 5)
    times = np.array([0.0, 0.1, 0.7, 2.0])
    together = kalman.predict(moving, times)
    for row, t in enumerate(times):
        alone = kalman.predict(moving[np.array([row])], float(t))
        np.testing.assert_allclose(together.values[:, [row]], alone.values)


@all_coordinates
def test_a_box_becomes_coordinates_and_a_box_again(kind: str) -> None:
    some = boxes(np.random.default_rng(6), 20)
    coordinates = COORDINATES[kind]
    np.testing.assert_allclose(coordinates.xyxy(coordinates.of(some)), some)


def test_a_camera_that_moves_and_zooms_does_so_by_the_papers_matrices() -> None:
    rng = np.random.default_rng(7)
    kalman, start = filter_("xywh"), boxes(rng, 6)
    states = kalman.correct(kalman.predict(kalman.start(start), 0.1), start + 4)
    textbook = [TextbookTrack(z, "xywh") for z in XYWH.of(start)]
    motion = np.array([[1.1, 0.0, 30.0], [0.0, 1.1, -12.0]])
    for track, z in zip(textbook, XYWH.of(start + 4), strict=True):
        track.predict(0.1)
        track.correct(z)
        track.move_camera(motion)
    assert_equal(kalman.move_camera(states, motion), textbook)


@all_coordinates
def test_a_small_turn_of_the_camera_turns_the_way_people_go_and_not_their_boxes(kind: str) -> None:
    turn = np.radians(2.0)
    motion = np.array([[np.cos(turn), -np.sin(turn), 3], [np.sin(turn), np.cos(turn), 4]])
    kalman, start = filter_(kind), boxes(np.random.default_rng(8), 5)
    states = kalman.correct(
        kalman.predict(kalman.start(start), 0.1), start + np.array([9, 2, 9, 2])
    )
    turned = kalman.move_camera(states, motion)
    before, after = kalman.xyxy(states), kalman.xyxy(turned)
    np.testing.assert_allclose(after[:, 2:] - after[:, :2], before[:, 2:] - before[:, :2])
    np.testing.assert_allclose(turned.velocity[:, :2], states.velocity[:, :2] @ motion[:, :2].T)


@all_coordinates
def test_predicting_and_moving_the_camera_can_change_places(kind: str) -> None:
    kalman, start = filter_(kind), boxes(np.random.default_rng(9), 5)
    states = kalman.correct(
        kalman.predict(kalman.start(start), 0.1), start + np.array([9, 2, 9, 2])
    )
    motion = np.array([[1.02, 0.0, 30.0], [0.0, 1.02, -12.0]])
    first = kalman.predict(kalman.move_camera(states, motion), 0.3)
    second = kalman.move_camera(kalman.predict(states, 0.3), motion)
    np.testing.assert_allclose(first.values, second.values, rtol=1e-9, atol=1e-9)


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
