"""People in a picture: lit, painted from far to near, hidden by what stands in front, with shadows.

Legend of the shape suffixes: V vertices, H, W.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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

_SKY_FROM_ABOVE = 0.30  # how much more light falls on what faces up than on what faces sideways
_SKY_AT_LEAST = 0.74
_CONTACT_M, _CONTACT_DARK = 0.25, 0.6
_SHADOW_BLUR_M = 0.025
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
    """An actor as the camera sees it, with depths in metres, and the window it may cover."""

    actor: Actor
    pixels: Vertices
    depth: NDArray[np.float32]
    mean_depth: float
    window: Window

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the window."""
        left, top, right, bottom = self.window
        return slice(top, bottom), slice(left, right)


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
    window = _window(pixels, (camera.width, camera.height))
    if window is None:
        return None
    return _Seen(actor, pixels, depth, float(depth.mean()), window)


def _extent(pixels: Vertices) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Least and greatest x and y of the points that have a pixel, or None."""
    # By column: numpy is several times slower along an axis of two.
    x, y = (np.ascontiguousarray(pixels[:, axis]) for axis in (0, 1))
    known = np.isfinite(x)
    if not known.all():
        x, y = x[known], y[known]
    if not len(x):
        return None
    return np.array([x.min(), y.min()]), np.array([x.max(), y.max()])


def _window(pixels: Vertices, size_wh: tuple[int, int], margin: float = 0.0) -> Window | None:
    """The part of an image that points reach into, or None."""
    extent = _extent(pixels)
    if extent is None:
        return None
    left, top = np.floor(extent[0] - margin).clip(0, size_wh).astype(int).tolist()
    right, bottom = np.ceil(extent[1] + margin).clip(0, size_wh).astype(int).tolist()
    return (left, top, right, bottom) if left < right and top < bottom else None


def _draw(
    image: Image, ids: NDArray[np.int32], background: Background, light: Light, seen: _Seen, at: int
) -> NDArray[np.bool_]:
    """Paint one person, and return the pixels of the window the person would cover alone."""
    actor, part = seen.actor, image[seen.slices]
    before = part.copy()
    mask = paint(
        image, seen.pixels, seen.depth, actor.faces, actor.colours, light=_lit(actor, light)
    )[seen.slices]
    behind = background.depth[seen.slices] < seen.mean_depth
    part[behind] = before[behind]
    ids[seen.slices][mask & ~behind] = at
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
    left, top = seen.window[:2]
    shown = ids[seen.slices] == at
    box = tight_box(shown)
    full_area, full_box = _whole(camera, seen, mask)
    area = int(shown.sum())
    if box is not None:
        box = (box[0] + left, box[1] + top, box[2], box[3])
    return Visible(seen.actor.key, shown, left, top, box, full_box, area, area / full_area)


def _whole(camera: Camera, seen: _Seen, mask: NDArray[np.bool_]) -> tuple[int, Box]:
    """Pixels and box of the whole person, also beyond the frame."""
    extent = _extent(seen.pixels)
    assert extent is not None
    low, high = extent
    size = np.array([camera.width, camera.height])
    if (low >= 0).all() and (high <= size).all():
        return int(mask.sum()), _moved(tight_box(mask), *seen.window[:2])
    low = np.floor(np.clip(low, -_MOST_BEYOND * size, size))
    high = np.ceil(np.clip(high, 0, (_MOST_BEYOND + 1) * size))
    width, height = (high - low).astype(int).tolist()
    pixels = (seen.pixels - low.astype(np.float32))[None]
    whole = silhouettes(pixels, seen.actor.faces, (height, width))[0] > 0
    return int(whole.sum()), _moved(tight_box(whole), int(low[0]), int(low[1]))


def _moved(box: Box | None, left: int, top: int) -> Box:
    assert box is not None
    return box[0] + left, box[1] + top, box[2], box[3]


def _cast_shadows(
    image: Image, background: Background, camera: Camera, light: Light, actors: Sequence[Actor]
) -> None:
    """Darken the ground where people keep the sun and, around their feet, the sky off it."""
    # Shadows are soft: half the resolution shows all there is, in a fifth of the time.
    half = replace(
        camera,
        focal_px=camera.focal_px / 2,
        width=(camera.width + 1) // 2,
        height=(camera.height + 1) // 2,
    )
    left = np.ones((half.height, half.width), dtype=np.float32)
    for actor in actors:
        _dim(left, half, actor, light)
    if left.min() == 1:
        return
    full = cv2.resize(left, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    full[background.depth < np.inf] = 1  # things stand out of the ground's shadows
    cv2.multiply(image, cv2.merge([full] * 3), dst=image, dtype=cv2.CV_8U)


def _dim(left: NDArray[np.float32], camera: Camera, actor: Actor, light: Light) -> None:
    """Multiply the light that is left by what one person leaves of it."""
    flat, depth = camera.project(shadow(actor.vertices, light.to_sun))
    ring, _ = camera.project(_around(actor.position))
    scale = camera.focal_px / max(float(np.median(depth)), 1.0)
    size = camera.width, camera.height
    window = _window(np.concatenate([flat, ring]), size, 1.5 * scale * _CONTACT_M + 2)
    if window is None:
        return
    x0, y0, x1, y1 = window
    corner = np.array([x0, y0], dtype=np.float32)
    sun = silhouettes((flat - corner)[None], actor.faces, (y1 - y0, x1 - x0))[0]
    feet = np.zeros_like(sun)
    if np.isfinite(ring).all():
        cv2.fillPoly(feet, [np.rint(ring - corner).astype(np.int32)], 255)
    dark = 1 - light.sunshine * _SHADOW_DARK * _blurred(sun, scale * _SHADOW_BLUR_M)
    dark *= 1 - (1 - light.sunshine) * _CONTACT_DARK * _blurred(feet, scale * _CONTACT_M / 2)
    left[y0:y1, x0:x1] *= dark


def _blurred(mask: Image, sigma: float) -> NDArray[np.float32]:
    soft = cv2.GaussianBlur(mask, (0, 0), max(0.6, sigma))
    return np.asarray(soft, dtype=np.float32) / np.float32(255)


def _around(position: tuple[float, float]) -> NDArray[np.float64]:
    """A circle on the ground around somebody's feet."""
    x, y = position
    ring = [x + _CONTACT_M * np.cos(_CIRCLE), y + _CONTACT_M * np.sin(_CIRCLE), 0 * _CIRCLE]
    return np.stack(ring, axis=1)
