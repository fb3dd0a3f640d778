from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gait.synthetic.bodies import Bodies
from gait.synthetic.camera import Camera
from gait.synthetic.motion import walk
from gait.synthetic.render import brightness, paint, shadow, silhouettes
from gait.synthetic.style import Style

Scene = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32], tuple[int, int]]


@pytest.fixture(scope="module")
def walker() -> Scene:
    """Six frames of somebody 128 pixels high: pixels, depths, faces and the image's size."""
    rng = np.random.default_rng(3)
    body = Bodies.load().sample(rng)
    motion = walk(
        Style.sample(rng), leg_length_m=body.leg_length_m, time_s=np.arange(6) / 6, rng=rng
    )
    distance = 6.0
    focal = 128 * distance / body.height_m
    camera = Camera.around((0.7, 0, body.height_m / 2), 1.2, 0.1, distance, focal, 160, 170)
    pixels, depth = camera.project(body.posed(motion))
    return pixels, depth, body.faces, (170, 160)


def naive(
    pixels: NDArray[np.float32], faces: NDArray[np.int32], size_hw: tuple[int, int]
) -> NDArray[np.bool_]:
    """Fill triangle after triangle, sixteen times as fine, and take what is half covered."""
    fine = np.zeros((size_hw[0] * 16, size_hw[1] * 16), np.uint8)
    for face in np.rint(pixels * 16 - 0.5).astype(np.int32)[faces]:
        cv2.fillConvexPoly(fine, face, 255)
    small = cv2.resize(fine, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(small >= 128)


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_silhouettes_are_those_of_triangles_filled_one_by_one(walker: Scene) -> None:
    """Not the same pixels: a centre can be covered in a pixel that is not half covered."""
    pixels, _, faces, size_hw = walker
    masks = silhouettes(pixels, faces, size_hw) > 0
    for frame in (0, 3):
        assert iou(masks[frame], naive(pixels[frame], faces, size_hw)) >= 0.97


def test_a_fan_of_slivers_leaves_no_hole() -> None:
    """Five hundred triangles around a point, thinner than a pixel, tile the disc exactly."""
    angle = np.linspace(0, 2 * math.pi, 501)[:-1]
    rim = np.stack([np.cos(angle), np.sin(angle)], axis=-1) * 20 + 25.3
    points = np.concatenate([rim, [[25.3, 25.3]]]).astype(np.float32)
    around = np.arange(500)
    faces = np.stack([around, (around + 1) % 500, np.full(500, 500)], axis=-1).astype(np.int32)
    mask = silhouettes(points[None], faces, (50, 50))[0] > 0
    y, x = np.mgrid[:50, :50] + 0.5
    inside = np.hypot(x - 25.3, y - 25.3)
    assert mask[inside < 19.99].all()
    assert not mask[inside > 20].any()


def test_a_triangle_covers_the_centres_inside_it_in_either_winding() -> None:
    points = np.array([[[1.0, 1.0], [7.0, 1.0], [1.0, 7.0]]], dtype=np.float32)
    y, x = np.mgrid[:8, :8] + 0.5
    expected = (x >= 1) & (y >= 1) & (x + y <= 8)
    for winding in ([0, 1, 2], [2, 1, 0]):
        mask = silhouettes(points, np.array([winding], dtype=np.int32), (8, 8))[0]
        np.testing.assert_array_equal(mask, expected * np.uint8(255))


def test_what_lies_outside_the_image_or_behind_the_camera_is_left_out() -> None:
    points = np.array(
        [[[-5, -5], [50, 4], [-5, 4], [math.nan, math.nan], [2, 30], [1e9, 2]]], dtype=np.float32
    )
    faces = np.array([[0, 1, 2], [3, 4, 0], [4, 4, 4]], dtype=np.int32)
    mask = silhouettes(points, faces, (8, 8))[0]
    assert mask[:4, 0].all()
    assert not mask[4:].any()


def test_masks_do_not_depend_on_how_many_frames_are_filled_at_once(walker: Scene) -> None:
    pixels, _, faces, size_hw = walker
    together = silhouettes(np.tile(pixels, (8, 1, 1)), faces, size_hw)
    single = np.concatenate([silhouettes(each[None], faces, size_hw) for each in pixels])
    np.testing.assert_array_equal(together, np.tile(single, (8, 1, 1)))


@pytest.mark.gpu
def test_a_gpu_fills_the_same_pixels(walker: Scene) -> None:
    pixels, _, faces, size_hw = walker
    np.testing.assert_array_equal(
        silhouettes(pixels, faces, size_hw, device="cuda"), silhouettes(pixels, faces, size_hw)
    )


def test_paint_covers_the_silhouette_and_changes_nothing_else(walker: Scene) -> None:
    pixels, depth, faces, size_hw = walker
    image = np.full((*size_hw, 3), 90, np.uint8)
    colours = np.tile(np.array([20, 60, 250], np.uint8), (len(faces), 1))
    mask = paint(image, pixels[0], depth[0], faces, colours)
    np.testing.assert_array_equal(mask, silhouettes(pixels[:1], faces, size_hw)[0] > 0)
    far = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0
    core = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert (image[far] == 90).all()
    assert (image[core] == [20, 60, 250]).all()


def test_the_nearest_of_crossing_triangles_is_seen() -> None:
    """Two squares cross like an X seen from above: each is in front on one side."""
    pixels = np.array([[0, 0], [20, 0], [20, 20], [0, 20]] * 2, dtype=np.float32)
    depth = np.array([1, 3, 3, 1, 3, 1, 1, 3], dtype=np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]], dtype=np.int32)
    colours = np.array([[255, 0, 0]] * 2 + [[0, 255, 0]] * 2, np.uint8)
    image = np.zeros((20, 20, 3), np.uint8)
    paint(image, pixels, depth, faces, colours)
    assert (image[:, :9] == [255, 0, 0]).all()
    assert (image[:, 11:] == [0, 255, 0]).all()


def test_an_edge_through_a_pixel_is_blended() -> None:
    pixels = np.array([[2, 2], [6.34, 2], [6.34, 6], [2, 6]], dtype=np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32)
    image = np.zeros((8, 8, 3), np.uint8)
    paint(image, pixels, np.ones(4, np.float32), faces, np.full((2, 3), 240, np.uint8))
    assert (image[3:5, 5] == 240).all()
    assert (image[3:5, 6] == 80).all()  # one of three columns of samples


def test_light_is_interpolated_between_vertices_and_scales_the_colour() -> None:
    pixels = np.array([[0, 0], [20, 0], [20, 20], [0, 20]], dtype=np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32)
    image = np.zeros((20, 20, 3), np.uint8)
    light = np.array([0, 1, 1, 0], np.float32)
    colours = np.full((2, 3), 200, np.uint8)
    paint(image, pixels, np.ones(4, np.float32), faces, colours, light=light)
    ramp = 200 * (np.arange(20) + 0.5) / 20
    np.testing.assert_allclose(image[10, :, 0], ramp, atol=1)


def test_a_person_out_of_view_paints_nothing() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    faces, colours = np.array([[0, 1, 2]], np.int32), np.full((1, 3), 255, np.uint8)
    for pixels in (np.full((3, 2), np.nan), np.array([[20, 20], [30, 20], [20, 30]])):
        depth = np.full(3, 5, np.float32)
        assert not paint(image, pixels.astype(np.float32), depth, faces, colours).any()
    assert not image.any()


def test_a_surface_is_as_bright_as_it_faces_the_light() -> None:
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    up = np.array([[0, 1, 2]], np.int32)
    assert brightness(corners, up, (0, 0, 2), ambient=0.4) == pytest.approx([1.0] * 3)
    assert brightness(corners, up, (0, 1, 1), ambient=0.4) == pytest.approx(
        [0.4 + 0.6 * math.cos(math.pi / 4)] * 3
    )
    assert brightness(corners, up[:, ::-1], (0, 0, 2), ambient=0.4) == pytest.approx([0.4] * 3)


def test_a_shadow_falls_away_from_the_light_onto_the_ground() -> None:
    np.testing.assert_allclose(shadow(np.array([[1, 2, 3]], np.float32), (1, 0, 1)), [[-2, 2, 0]])
    with pytest.raises(ValueError, match="above the horizon"):
        shadow(np.zeros((1, 3), np.float32), (1, 0, 0))


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    pixels, faces = np.zeros((2, 3, 2), np.float32), np.array([[0, 1, 2]], np.int32)
    with pytest.raises(ValueError, match=r"pixels: expected shape \(T, V, 2\)"):
        silhouettes(pixels[0], faces, (8, 8))
    with pytest.raises(ValueError, match="at least 1x1"):
        silhouettes(pixels, faces, (0, 8))
    with pytest.raises(ValueError, match="indices of 3 vertices, got 3"):
        silhouettes(torch.from_numpy(pixels), faces + 1, (8, 8))
    image, colours = np.zeros((8, 8, 3), np.uint8), np.zeros((1, 3), np.uint8)
    with pytest.raises(ValueError, match=r"depth: expected shape \(3,\)"):
        paint(image, pixels[0], np.zeros(2, np.float32), faces, colours)
