from __future__ import annotations

import math

import numpy as np
import pytest

from gait.synthetic.camera import Camera


def camera(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Camera:
    return Camera(np.array([1.0, 2.0, 3.0]), yaw, pitch, roll, 500.0, 640, 480)


@pytest.mark.parametrize(
    ("point", "pixel", "depth"),
    [
        ((11.0, 2.0, 3.0), (320.0, 240.0), 10.0),  # straight ahead: the middle
        ((11.0, 4.0, 3.0), (320.0 - 100.0, 240.0), 10.0),  # 2 m left at 10 m: 2 / 10 * 500
        ((6.0, 2.0, 2.0), (320.0, 240.0 + 100.0), 5.0),  # 1 m below at 5 m: 1 / 5 * 500
    ],
)
def test_a_level_camera_projects_as_calculated_by_hand(
    point: tuple[float, float, float], pixel: tuple[float, float], depth: float
) -> None:
    pixels, depths = camera().project(point)
    np.testing.assert_allclose(pixels, pixel, atol=1e-4)
    assert depths == pytest.approx(depth)


def test_a_camera_that_looks_down_sees_the_horizon_above_the_middle() -> None:
    """At a pitch of atan(1 / 2) the ground 6 m ahead of a lens 3 m high is in the middle."""
    pixels, depth = camera(pitch=math.atan2(1, 2)).project([[7.0, 2.0, 0.0], [7.0, 2.0, 3.0]])
    np.testing.assert_allclose(pixels[0], (320, 240), atol=1e-3)
    assert depth[0] == pytest.approx(math.hypot(3, 6))
    assert pixels[1, 1] < 240


def test_a_turned_camera_looks_to_the_left_and_a_rolled_one_tips_the_image() -> None:
    np.testing.assert_allclose(
        camera(yaw=math.pi / 2).project([1.0, 12.0, 3.0])[0], (320, 240), atol=1e-3
    )
    above = camera(roll=math.radians(30)).project([11.0, 2.0, 4.0])[0] - (320, 240)
    assert above[0] < 0  # turned clockwise, so that what is above appears further left
    np.testing.assert_allclose(np.hypot(*above), 50, atol=1e-3)


def test_a_camera_looks_at_its_target() -> None:
    looking = Camera.looking_at((3, -4, 5), (-1, 2, 0.5), 700, 640, 480, roll=0.3)
    pixel, depth = looking.project([-1, 2, 0.5])
    np.testing.assert_allclose(pixel, (320, 240), atol=1e-3)
    assert depth == pytest.approx(math.sqrt(16 + 36 + 4.5**2), rel=1e-6)


@pytest.mark.parametrize(
    ("azimuth", "seen_left"), [(0.0, False), (math.pi / 2, True), (math.pi, True)]
)
def test_a_camera_stands_around_a_person_where_it_is_put(azimuth: float, seen_left: bool) -> None:
    view = Camera.around((0, 0, 0.9), azimuth, math.radians(20), 8.0)
    assert np.linalg.norm(view.position - [0, 0, 0.9]) == pytest.approx(8.0)
    assert view.pitch == pytest.approx(math.radians(20))
    ahead_and_left = view.project([0.5, 0.3, 0.9])[0]
    assert (ahead_and_left[0] < view.width / 2) == seen_left


def test_the_calibration_projects_as_the_camera_does() -> None:
    view = Camera.looking_at((3, -4, 5), (0, 0, 1), 700, 640, 480, roll=0.2)
    k, r, t = (np.array(view.calibration()[name]) for name in "KRt")
    points = np.random.default_rng(0).normal(0, 1, (20, 3))
    homogeneous = (k @ (r @ points.T + t[:, None])).T
    np.testing.assert_allclose(r @ r.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(
        homogeneous[:, :2] / homogeneous[:, 2:], view.project(points)[0], atol=2e-3
    )


def test_a_point_behind_the_camera_has_no_pixel() -> None:
    pixels, depth = camera().project([[0.0, 2.0, 3.0], [1.01, 2.0, 3.0]])
    assert np.isnan(pixels).all()
    assert depth[0] == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"focal_px": 0.0}, "focal length above 0"),
        ({"yaw": math.nan}, "finite yaw"),
        ({"width": 0}, "at least 1x1"),
        ({"position": np.zeros(2)}, "three finite numbers"),
    ],
)
def test_impossible_cameras_are_refused(change: dict[str, float], message: str) -> None:
    fields = {
        "position": np.zeros(3), "yaw": 0.0, "pitch": 0.0, "roll": 0.0,
        "focal_px": 500.0, "width": 640, "height": 480,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        Camera(**{**fields, **change})  # type: ignore[arg-type]


def test_bad_points_targets_and_pitches_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected shape \(..., 3\)"):
        camera().project(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="target at least"):
        Camera.looking_at((0, 0, 0), (0, 0, 0), 500, 640, 480)
    with pytest.raises(ValueError, match="pitch within"):
        Camera.around((0, 0, 0), 0.0, 2.0, 5.0)
