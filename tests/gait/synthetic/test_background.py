from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from gait.errors import DataError
from gait.synthetic.background import brightness, from_file, traced
from gait.synthetic.camera import Camera
from gait.synthetic.mp4 import Mp4
from gait.synthetic.place import Block, Light, Place, Post, Thing, draw_place

CAMERA = Camera.looking_at((-8.0, 0.0, 4.0), (0.0, 0.0, 0.5), 250.0, 200, 150)


def place(*things: Thing) -> Place:
    drawn = draw_place(0.0, 0.0, 16.0, np.random.default_rng(1), furnished=False)
    return Place(**{**{name: getattr(drawn, name) for name in Place.__slots__}, "things": things})


def test_a_place_looks_the_same_every_time() -> None:
    images = [traced(place(), CAMERA, np.random.default_rng(3)).image for _ in range(2)]
    np.testing.assert_array_equal(*images)


def test_depth_is_that_of_the_things_and_infinite_elsewhere() -> None:
    wall = Block((1.0, -0.5, 0.0), (1.2, 0.5, 2.0), (0.5, 0.5, 0.5))
    depth = traced(place(Thing(1.1, 0, 0.6, (wall,))), CAMERA, np.random.default_rng(0)).depth
    (middle,), (expected,) = CAMERA.project([(1.0, 0.0, 1.0)])
    assert depth[int(middle[1]), int(middle[0])] == pytest.approx(expected, abs=0.05)
    corners, _ = CAMERA.project([(x, y, z) for x in (1, 1.2) for y in (-0.5, 0.5) for z in (0, 2)])
    rows, columns = np.nonzero(np.isfinite(depth))
    # a pixel is the wall's when its centre is: up to half a pixel either way, from 0.5 on
    assert columns.min() + 0.5 == pytest.approx(corners[:, 0].min(), abs=1)
    assert columns.max() + 0.5 == pytest.approx(corners[:, 0].max(), abs=1)
    assert rows.min() + 0.5 == pytest.approx(corners[:, 1].min(), abs=1)
    assert rows.max() + 0.5 == pytest.approx(corners[:, 1].max(), abs=1)


def test_a_post_stands_where_the_camera_projects_it_and_casts_a_shadow() -> None:
    bare = traced(place(), CAMERA, np.random.default_rng(0)).image.astype(int)
    post = Thing(0, 0, 0.2, (Post(0.0, 0.0, 0.15, 1.5, (0.1, 0.1, 0.1)),))
    seen = traced(place(post), CAMERA, np.random.default_rng(0))
    (foot, top), _ = CAMERA.project([(0, 0, 0.3), (0, 0, 1.2)])
    for column, row in (foot, top):
        assert np.isfinite(seen.depth[int(row), int(column)])
    sun = place().light.to_sun
    (shadow,), _ = CAMERA.project([(-0.8 * sun[0] / sun[2], -0.8 * sun[1] / sun[2], 0)])
    column, row = shadow.astype(int)
    assert seen.image[row, column].sum() < 0.9 * bare[row, column].sum()


def test_ground_in_the_sun_is_as_bright_as_its_colour() -> None:
    light = Light((0.0, 0.6, 0.8), 0.4)
    up, towards, away, down = np.eye(3, dtype=np.float32)[[2, 1, 1, 2]] * [[1], [1], [-1], [-1]]
    levels = brightness(np.stack([up, towards, away, down]).astype(np.float32), light)
    assert levels[0] == pytest.approx(1)
    assert levels[1] > levels[2] > levels[3]


def test_a_picture_is_cut_to_the_frame_without_squeezing(tmp_path: Path) -> None:
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, 150:] = 200
    cv2.imwrite(str(tmp_path / "b.png"), image)
    cut = from_file(tmp_path / "b.png", 160, 120)
    assert cut.image.shape == (120, 160, 3)
    assert cut.image[60, :78].max() < 20
    assert cut.image[60, 82:].min() > 180
    assert np.isinf(cut.depth).all()


def test_who_moves_through_a_video_is_not_in_its_background(tmp_path: Path) -> None:
    with Mp4(tmp_path / "v.mp4", (160, 120), 10, 12) as video:
        for at in range(20):
            frame = np.full((120, 160, 3), 90, np.uint8)
            frame[40:100, 8 * at : 8 * at + 8] = 250
            video.add(frame)
    background = from_file(tmp_path / "v.mp4", 160, 120).image.astype(int)
    assert np.abs(background - 90).max() < 12


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("no picture")
    for name in ("b.txt", "none.png"):
        with pytest.raises(DataError, match="expected a picture or a video"):
            from_file(tmp_path / name, 160, 120)
