"""Points and boxes after a camera motion, against the definition."""

from __future__ import annotations

import numpy as np
import pytest

from trackers.camera import growth, moved, moved_boxes

TILT = np.array([[1.1, 0.05, 20.0], [-0.03, 0.95, -7.0], [1e-4, -2e-4, 1.0]])


def test_points_go_through_a_homography_and_its_derivative_is_that_of_small_steps() -> None:
    points = np.random.default_rng(0).uniform(0, 600, (9, 2))
    there, steps = moved(points, TILT)
    for point, to, step in zip(points, there, steps, strict=True):
        x, y, depth = TILT @ [*point, 1]
        np.testing.assert_allclose(to, [x / depth, y / depth])
        for axis in range(2):
            nudge = np.zeros((1, 2))
            nudge[0, axis] = 1e-5
            nudged = moved(point[None] + nudge, TILT)[0][0]
            np.testing.assert_allclose((nudged - to) / 1e-5, step[:, axis], atol=1e-5)


def test_a_matrix_of_two_rows_is_one_of_three_that_ends_with_0_0_1() -> None:
    boxes = np.array([[10.0, 20.0, 50.0, 120.0], [0.0, 0.0, 4.0, 9.0]])
    three = TILT.copy()
    three[2] = 0, 0, 1
    np.testing.assert_allclose(moved_boxes(boxes, three[:2]), moved_boxes(boxes, three))


def test_a_zoom_about_the_origin_grows_boxes_with_everything_else() -> None:
    zoom = np.diag([1.5, 1.5, 1.0])
    boxes = np.array([[10.0, 20.0, 50.0, 120.0]])
    np.testing.assert_allclose(moved_boxes(boxes, zoom), boxes * 1.5)
    assert growth(moved(boxes[:, :2], zoom)[1])[0, 0] == pytest.approx(1.5)
