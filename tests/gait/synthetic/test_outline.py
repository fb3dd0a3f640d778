from __future__ import annotations

import numpy as np
import pytest

from gait.synthetic.outline import Outline
from gait.synthetic.render import silhouettes
from gait.synthetic.shapes import rounded_box


@pytest.mark.parametrize("seed", range(5))
def test_an_outline_covers_what_its_triangles_cover(seed: int) -> None:
    """The other renderer fills triangle by triangle; here they are wound at random and torn."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-5, 45, (3, 30, 2)).astype(np.float32)
    faces = rng.integers(0, 30, (12, 3)).astype(np.int32)
    np.testing.assert_array_equal(
        Outline(faces).fill(points, (40, 36)), silhouettes(points, faces, (40, 36))
    )


def test_a_pixel_is_set_when_its_centre_is_inside() -> None:
    square = np.array([[[2.4, 1.6], [5.6, 1.6], [5.6, 4.4], [2.4, 4.4]]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    expected = np.zeros((1, 6, 8), np.uint8)
    expected[0, 2:4, 2:6] = 255
    np.testing.assert_array_equal(Outline(faces).fill(square, (6, 8)), expected)


def test_faces_with_a_corner_behind_the_camera_are_left_out() -> None:
    points = np.array([[[0, 0], [9, 0], [0, 9], [np.nan, np.nan]]], np.float32)
    both = np.array([[0, 1, 2], [1, 3, 2]], np.int32)
    np.testing.assert_array_equal(
        Outline(both).fill(points, (10, 10)), Outline(both[:1]).fill(points, (10, 10))
    )


def test_overlapping_bodies_do_not_cancel() -> None:
    one = rounded_box((20.0, 20.0, 0.0), (9.0, 9.0, 9.0))
    two = one.moved((6.0, 0.0, 0.0))
    points = np.concatenate([one.vertices, two.vertices])[None, :, :2].astype(np.float32)
    faces = np.concatenate([one.faces, two.faces + len(one.vertices)])
    either = [
        Outline(each.faces).fill(each.vertices[None, :, :2].copy(), (40, 44)) for each in (one, two)
    ]
    np.testing.assert_array_equal(Outline(faces).fill(points, (40, 44)), np.maximum(*either))
