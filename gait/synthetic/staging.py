"""People in a picture: lit, painted from far to near, hidden by what stands in front, with shadows.

Legend of the shape suffixes: V vertices, H, W.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gait.synthetic.background import Background
from gait.synthetic.camera import Camera
from gait.synthetic.ground_truth import Box, tight_box
from gait.synthetic.place import Light
from gait.synthetic.render import brightness, paint, shadow, silhouettes

Image = NDArray[np.uint8]
Vertices = NDArray[np.float32]
Window = tuple[int, int, int, int]  # left, top, right, bottom

_SKY_FROM_ABOVE = 0.36  # how much more light falls on what faces up than on what faces sideways
_SKY_AT_LEAST = 0.66
_CONTACT_M, _CONTACT_DARK = 0.3, 0.45
_SHADOW_BLUR_M = 0.045
_SHADOW_DARK = 0.92
_MOST_BEYOND = 2  # frame sizes around the frame that the whole of a person is looked for in
_CIRCLE = np.linspace(0, 2 * np.pi, 20, endpoint=False)


@dataclass(frozen=True, slots=True, eq=False)
class Actor:
    """A person in one frame.

    Attributes:
        key: Whose appearance comes out.
        vertices: In the world, shape (V, 3), metres.
        faces: Shape (F, 3).
        colours: Of the faces, shape (F, 3), uint8, BGR.
        position: On the ground below the pelvis, (x, y).
    """

    key: int
    vertices: Vertices
    faces: NDArray[np.int32]
    colours: Image
    position: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Visible:
    """What is to be seen of an actor.

    Attributes:
        key: Of the actor.
        mask: Visible pixels within the window, bool.
        left: Column of the window in the frame.
        top: Row of the window in the frame.
        box: Around the visible pixels, in the frame; None when there are none.
        full_box: Around the whole person, also where hidden or beyond the frame.
        area: Visible pixels.
        share: Of the person's pixels that are visible.
    """

    key: int
    mask: NDArray[np.bool_]
    left: int
    top: int
    box: Box | None
    full_box: Box
    area: int
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """An actor as the camera sees it, with depths in metres."""

    actor: Actor
    pixels: Vertices
    depth: NDArray[np.float32]
    mean_depth: float


def stage(
    image: Image, background: Background, camera: Camera, light: Light, actors: Sequence[Actor]
) -> list[Visible]:
    """Paint the actors and their shadows into a frame, and return what is visible of each.

    A person hides everybody whose middle is further away, and is hidden by the things of the
    background that are nearer than that.

    Args:
        image: The background, shape (H, W, 3), uint8; changed.
        background: With the depth of its things.
        camera: Who looks.
        light: Of the place.
        actors: Who is there.

    Returns:
        Those within the frame, from far to near, also those who are hidden.
    """
    seen = [each for actor in actors if (each := _seen(camera, actor)) is not None]
    seen.sort(key=lambda each: -each.mean_depth)
    _cast_shadows(image, background, camera, light, actors)
    ids = np.full(image.shape[:2], -1, dtype=np.int32)
    drawn = [_draw(image, ids, background, light, each, at) for at, each in enumerate(seen)]
    return [
        _visible(camera, each, ids, mask, at)
        for at, (each, mask) in enumerate(zip(seen, drawn, strict=True))
        if mask.any()
    ]


def _seen(camera: Camera, actor: Actor) -> _Seen | None:
    pixels, depth = camera.project(actor.vertices)
    window = _window(pixels, camera)
    if window is None:
        return None
    return _Seen(actor, pixels, depth, float(depth.mean()))


def _window(pixels: Vertices, camera: Camera) -> Window | None:
    """The part of the frame that points reach into, or None."""
    known = pixels[np.isfinite(pixels).all(axis=1)]
    if not len(known):
        return None
    size = (camera.width, camera.height)
    left, top = np.floor(known.min(axis=0)).clip(0, size).astype(int).tolist()
    right, bottom = np.ceil(known.max(axis=0)).clip(0, size).astype(int).tolist()
    return (left, top, right, bottom) if left < right and top < bottom else None


def _draw(
    image: Image, ids: NDArray[np.int32], background: Background, light: Light, seen: _Seen, at: int
) -> NDArray[np.bool_]:
    """Paint one person, and return the pixels of the frame the person would cover alone."""
    actor = seen.actor
    before = image.copy()
    mask = paint(
        image, seen.pixels, seen.depth, actor.faces, actor.colours, light=_lit(actor, light)
    )
    behind = background.depth < seen.mean_depth
    image[behind] = before[behind]
    ids[mask & ~behind] = at
    return mask


def _lit(actor: Actor, light: Light) -> NDArray[np.float32]:
    """Brightness of the vertices: the sky's from above, the sun's from its side."""
    above = brightness(actor.vertices, actor.faces, (0.0, 0.0, 1.0), 0.0)
    sky = _SKY_AT_LEAST + _SKY_FROM_ABOVE * above
    sun = brightness(actor.vertices, actor.faces, light.to_sun, 0.0)
    return np.asarray((1 - light.sunshine) * sky + 1.2 * light.sunshine * sun, dtype=np.float32)


def _visible(
    camera: Camera, seen: _Seen, ids: NDArray[np.int32], mask: NDArray[np.bool_], at: int
) -> Visible:
    window = _window(seen.pixels, camera)
    assert window is not None
    left, top, right, bottom = window
    shown = ids[top:bottom, left:right] == at
    box = tight_box(shown)
    full_area, full_box = _whole(camera, seen, mask)
    area = int(shown.sum())
    if box is not None:
        box = (box[0] + left, box[1] + top, box[2], box[3])
    return Visible(seen.actor.key, shown, left, top, box, full_box, area, area / full_area)


def _whole(camera: Camera, seen: _Seen, mask: NDArray[np.bool_]) -> tuple[int, Box]:
    """Pixels and box of the whole person, also beyond the frame."""
    low, high = np.nanmin(seen.pixels, axis=0), np.nanmax(seen.pixels, axis=0)
    size = np.array([camera.width, camera.height])
    if (low >= 0).all() and (high <= size).all():
        box = tight_box(mask)
        assert box is not None
        return int(mask.sum()), box
    low = np.floor(np.clip(low, -_MOST_BEYOND * size, size)).astype(int)
    high = np.ceil(np.clip(high, 0, (_MOST_BEYOND + 1) * size)).astype(int)
    pixels = seen.pixels[None] - low.astype(np.float32)
    width, height = (high - low).tolist()
    whole = silhouettes(pixels, seen.actor.faces, (height, width))[0] > 0
    box = tight_box(whole)
    assert box is not None
    return int(whole.sum()), (box[0] + int(low[0]), box[1] + int(low[1]), box[2], box[3])


def _cast_shadows(
    image: Image, background: Background, camera: Camera, light: Light, actors: Sequence[Actor]
) -> None:
    """Darken the ground where people keep the sun and, around their feet, the sky off it."""
    left = np.ones(image.shape[:2], dtype=np.float32)
    for actor in actors:
        _dim(left, camera, actor, light)
    left[np.isfinite(background.depth)] = 1  # things stand out of the ground's shadows
    rows = np.flatnonzero((left < 1).any(axis=1))
    if not len(rows):
        return
    part = slice(int(rows[0]), int(rows[-1]) + 1)
    image[part] = cv2.multiply(image[part], cv2.merge([left[part]] * 3), dtype=cv2.CV_8U)


def _dim(left: NDArray[np.float32], camera: Camera, actor: Actor, light: Light) -> None:
    """Multiply the light that is left by what one person leaves of it."""
    flat, depth = camera.project(shadow(actor.vertices, light.to_sun))
    scale = camera.focal_px / max(float(np.median(depth)), 1.0)
    margin = 3 * scale * _CONTACT_M * 0.5 + 2
    ring = camera.project(_around(actor.position))[0]
    window = _grown(_window(np.concatenate([flat, ring]), camera), margin, camera)
    if window is None:
        return
    x0, y0, x1, y1 = window
    corner = np.array([x0, y0], dtype=np.float32)
    sun = silhouettes((flat - corner)[None], actor.faces, (y1 - y0, x1 - x0))[0]
    feet = np.zeros_like(sun)
    if np.isfinite(ring).all():
        cv2.fillPoly(feet, [np.rint(ring - corner).astype(np.int32)], 255)
    left[y0:y1, x0:x1] *= 1 - light.sunshine * _SHADOW_DARK * _blurred(sun, scale * _SHADOW_BLUR_M)
    left[y0:y1, x0:x1] *= 1 - (1 - light.sunshine) * _CONTACT_DARK * _blurred(
        feet, scale * _CONTACT_M * 0.5
    )


def _blurred(mask: Image, sigma: float) -> NDArray[np.float32]:
    soft = cv2.GaussianBlur(mask, (0, 0), max(0.6, sigma))
    return np.asarray(soft, dtype=np.float32) / np.float32(255)


def _around(position: tuple[float, float]) -> NDArray[np.float64]:
    """A circle on the ground around somebody's feet."""
    x, y = position
    ring = [x + _CONTACT_M * np.cos(_CIRCLE), y + _CONTACT_M * np.sin(_CIRCLE), 0 * _CIRCLE]
    return np.stack(ring, axis=1)


def _grown(window: Window | None, margin: float, camera: Camera) -> Window | None:
    if window is None:
        return None
    by = int(margin)
    return (
        max(0, window[0] - by),
        max(0, window[1] - by),
        min(camera.width, window[2] + by),
        min(camera.height, window[3] + by),
    )
