from __future__ import annotations

import numpy as np
import pytest

from gait.synthetic.background import Background
from gait.synthetic.camera import Camera
from gait.synthetic.place import Light
from gait.synthetic.render import silhouettes
from gait.synthetic.staging import Actor, Visible, stage

CAMERA = Camera.looking_at((-6.0, 0.0, 3.0), (0.0, 0.0, 0.8), 300.0, 320, 240)
LIGHT = Light((0.0, 0.6, 0.8), 0.5)


def block(x: float, y: float, height: float = 1.7) -> np.ndarray:
    """An upright box around (x, y): a person as far as staging cares."""
    corners = np.array([(i, j, k) for i in (-1, 1) for j in (-1, 1) for k in (0, 1)], np.float32)
    return (corners * [0.2, 0.25, height] + [x, y, 0]).astype(np.float32)


FACES = np.array(
    [
        *((0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1)),
        *((2, 3, 7), (2, 7, 6), (1, 5, 7), (1, 7, 3), (0, 2, 6), (0, 6, 4)),
    ],
    np.int32,
)


def actor(key: int, x: float, y: float) -> Actor:
    colours = np.full((len(FACES), 3), (40, 60, 200), np.uint8)
    return Actor(key, block(x, y), FACES, colours, (x, y))


def empty(depth: float = np.inf) -> Background:
    depths = np.full((240, 320), np.inf, np.float32)
    depths[:, 160:] = depth
    return Background(np.full((240, 320, 3), 128, np.uint8), depths)


def staged(
    *actors: Actor, background: Background | None = None
) -> tuple[np.ndarray, list[Visible]]:
    background = background or empty()
    image = background.image.copy()
    return image, stage(image, background, CAMERA, LIGHT, actors)


def alone(each: Actor) -> np.ndarray:
    pixels, _ = CAMERA.project(each.vertices)
    return silhouettes(pixels[None], FACES, (240, 320))[0] > 0


def framed(seen: Visible) -> np.ndarray:
    mask = np.zeros((240, 320), bool)
    height, width = seen.mask.shape
    mask[seen.top : seen.top + height, seen.left : seen.left + width] = seen.mask
    return mask


def test_the_nearer_person_hides_the_farther_one_whatever_their_order() -> None:
    near, far = actor(0, -1.0, 0.1), actor(1, 1.5, 0.0)
    for order in ((near, far), (far, near)):
        by_key = {each.key: each for each in staged(*order)[1]}
        np.testing.assert_array_equal(framed(by_key[0]), alone(near))
        np.testing.assert_array_equal(framed(by_key[1]), alone(far) & ~alone(near))
        assert by_key[0].share == 1
        expected = (alone(far) & ~alone(near)).sum() / alone(far).sum()
        assert by_key[1].share == pytest.approx(expected)
        assert 0 < expected < 0.9


def test_three_people_share_the_pixels_as_a_loop_over_depths_does() -> None:
    actors = [actor(at, x, y) for at, (x, y) in enumerate([(0.6, 0.2), (-0.6, -0.1), (0, 0.3)])]
    naive = np.full((240, 320), -1)
    for each in sorted(actors, key=lambda each: -CAMERA.project(each.vertices)[1].mean()):
        naive[alone(each)] = each.key
    for seen in staged(*actors)[1]:
        np.testing.assert_array_equal(framed(seen), naive == seen.key)
        assert seen.area == (naive == seen.key).sum()


def test_a_box_is_tight_around_the_mask_and_the_feet_stand_on_the_ground() -> None:
    each = actor(0, 0.4, 0.9)
    (seen,) = staged(each)[1]
    rows, columns = np.nonzero(alone(each))
    assert seen.box == seen.full_box
    assert seen.box is not None
    left, top, width, height = seen.box
    assert (left, top) == (columns.min(), rows.min())
    assert (left + width - 1, top + height - 1) == (columns.max(), rows.max())
    (foot,), _ = CAMERA.project([(0.2, 0.65, 0.0)])
    assert top + height == pytest.approx(foot[1], abs=1)


def test_a_thing_in_front_hides_and_one_behind_does_not() -> None:
    each = actor(0, 0.0, 0.0)
    (behind_it,) = staged(each, background=empty(depth=2.0))[1]
    (before_it,) = staged(each, background=empty(depth=20.0))[1]
    expected = alone(each)
    assert before_it.share == 1
    expected[:, 160:] = False
    np.testing.assert_array_equal(framed(behind_it), expected)
    assert behind_it.full_box == before_it.full_box


def test_the_pixels_of_a_thing_in_front_stay_as_they_were() -> None:
    image, _ = staged(actor(0, 0.0, 0.0), background=empty(depth=2.0))
    assert (image[:, 160:] == 128).all()
    assert (image[:, :160] != 128).any()


def test_who_leaves_the_frame_is_partly_visible_and_then_gone() -> None:
    half = actor(0, 0.0, 3.2)
    (seen,) = staged(half)[1]
    wide = Camera(CAMERA.position, CAMERA.yaw, CAMERA.pitch, CAMERA.roll, 300.0, 3200, 240)
    pixels, _ = wide.project(half.vertices)
    whole = int((silhouettes(pixels[None], FACES, (240, 3200)) > 0).sum())
    assert 0.1 < seen.share < 0.95
    assert seen.share == pytest.approx(seen.area / whole, abs=0.01)
    assert seen.full_box[0] < 0
    assert staged(actor(0, 0.0, 6.0))[1] == []
    assert staged(actor(0, -9.0, 0.0))[1] == []  # behind the camera


def test_the_hidden_are_told_of_too() -> None:
    seen = staged(
        actor(0, -1.0, 0.0), Actor(1, block(3, 0, 0.4), FACES, actor(1, 3, 0).colours, (3, 0))
    )
    by_key = {each.key: each for each in seen[1]}
    assert by_key[1].box is None
    assert by_key[1].area == 0


def test_a_shadow_falls_away_from_the_sun_and_darkens_the_ground() -> None:
    image, (seen,) = staged(actor(0, 0.0, 0.0))
    ground = image[..., 0].astype(int)
    (towards, away), _ = CAMERA.project([(0.0, 1.0, 0.0), (0.0, -1.0, 0.0)])
    # the sun stands at +y, so the shadow lies at -y
    assert ground[int(away[1]), int(away[0])] < 100
    assert ground[int(towards[1]), int(towards[0])] == 128
    assert not framed(seen)[int(away[1]), int(away[0])]
