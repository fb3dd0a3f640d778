"""What a camera sees when nobody is there: a traced place, or a picture from a file.

Legend of the shape suffixes: H, W.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from gait.errors import DataError
from gait.synthetic.camera import Camera
from gait.synthetic.place import Ball, Block, Colour, Light, Place, Post, Shape, Thing
from gait.synthetic.surfaces import Texture, ground_colour, leaf_colour, wall_colour

Plane = NDArray[np.float32]

_PASSES = 9  # jittered rays a pixel: smooth edges and the sun's soft shadow
_SUN_SPREAD = 0.035  # of a unit vector: wider than the sun, as in haze
_NEAR, _FAR = np.float32(0.05), np.float32(np.inf)
_SKY: Colour = (0.90, 0.86, 0.80)
_MOST_FRAMES = 48
_TALLEST_M = 5.0  # no thing is taller


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """The scene without people.

    Attributes:
        image: Shape (H, W, 3), uint8, BGR.
        depth: Depth in metres of the things that can hide a person, shape (H, W), float32;
            infinity where nothing stands.
    """

    image: NDArray[np.uint8]
    depth: Plane


def traced(place: Place, camera: Camera, rng: np.random.Generator) -> Background:
    """Return the place as the camera sees it.

    Args:
        place: What stands there; the camera is between its walls.
        camera: Who looks.
        rng: Draws the jitter of the rays.
    """
    texture = Texture(place.texture_seed)
    total = np.zeros((camera.height, camera.width, 3), dtype=np.float32)
    steps = np.array([(i % 3 + 0.5, i // 3 + 0.5) for i in range(_PASSES)]) / 3
    for step in steps:
        sun = np.array(place.light.to_sun) + rng.normal(0, _SUN_SPREAD, 3)
        rays = _rays(camera, step + rng.uniform(-1 / 6, 1 / 6, 2))
        total += _Trace(place, camera, rays, sun / np.linalg.norm(sun), texture).colours()
    image = np.clip(total * (255 / _PASSES), 0, 255).astype(np.uint8)
    return Background(image, _depth_of_things(place, camera))


def from_file(path: Path, width: int, height: int) -> Background:
    """Return a picture, or what stays the same in a video, at the size of the frames.

    What does not fit the proportions is cut off at the edges. Of a video the median of up to 48
    frames is taken, so that whoever moves through it vanishes.

    Raises:
        DataError: It cannot be read as a picture or video.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
    if image is None:
        image = np.median(_frames(path), axis=0).astype(np.uint8)
    scale = max(width / image.shape[1], height / image.shape[0])
    size = max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale))
    scaled = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    cut = np.ascontiguousarray(scaled[top : top + height, left : left + width], dtype=np.uint8)
    return Background(cut, np.full((height, width), _FAR, dtype=np.float32))


def _frames(path: Path) -> NDArray[np.uint8]:
    """Return up to 48 frames of a video, evenly apart."""
    try:
        with av.open(str(path)) as container:
            count = container.streams.video[0].frames if container.streams.video else 0
            every = max(1, count // _MOST_FRAMES)
            kept = [
                frame.to_ndarray(format="bgr24")
                for index, frame in enumerate(container.decode(video=0))
                if index % every == 0 and index // every < _MOST_FRAMES
            ]
    except (FFmpegError, OSError, IndexError) as error:
        raise DataError(
            f"background {path}: expected a picture or a video ({error}); choose another file"
        ) from error
    if not kept:
        raise DataError(f"background {path}: expected a picture or a video, it has no frames")
    return np.stack(kept).astype(np.uint8)


def brightness(normals: Plane, light: Light) -> Plane:
    """Return how bright surfaces are: 1 for ground in the sun.

    Args:
        normals: Unit vectors, shape (..., 3).
        light: Of the place. The sky lights what faces up more than what faces down.
    """
    up = np.float32(0.8) + np.float32(0.2) * normals[..., 2]
    towards = sum(normals[..., at] * np.float32(light.to_sun[at]) for at in range(3))
    sunlit = np.clip(towards, 0, None) / np.float32(light.to_sun[2])
    return np.asarray(
        (1 - light.sunshine) * up + light.sunshine * np.minimum(sunlit, 1.35), dtype=np.float32
    )


def _rays(camera: Camera, offset: NDArray[np.float64]) -> Plane:
    """Directions (H, W, 3), so long that a ray's parameter is the depth in metres."""
    right, down, forward = camera.rotation.astype(np.float32)
    u = (np.arange(camera.width) + offset[0] - camera.width / 2) / camera.focal_px
    v = (np.arange(camera.height) + offset[1] - camera.height / 2) / camera.focal_px
    across = u.astype(np.float32)[None, :, None] * right
    return np.asarray(forward + across + v.astype(np.float32)[:, None, None] * down)


def _depth_of_things(place: Place, camera: Camera) -> Plane:
    rays = _rays(camera, np.full(2, 0.5))
    depth = np.full(rays.shape[:2], _FAR, dtype=np.float32)
    origin = camera.position.astype(np.float32)
    for thing in place.things:
        window = _window(thing, camera)
        for shape in thing.shapes:
            depth[window] = np.minimum(depth[window], _hit(shape, origin, rays[window]))
    return depth


def _window(thing: Thing, camera: Camera) -> tuple[slice, slice]:
    """The rows and columns a thing may be seen in."""
    spread = 1.5 * thing.radius + 0.3
    corners = [
        (thing.x + dx, thing.y + dy, z)
        for dx in (-spread, spread)
        for dy in (-spread, spread)
        for z in (0.0, _TALLEST_M)
    ]
    pixels, _ = camera.project(corners)
    if np.isnan(pixels).any():
        return slice(None), slice(None)
    size = camera.width, camera.height
    left, top = np.floor(pixels.min(axis=0)).clip(0, size).astype(int).tolist()
    right, bottom = np.ceil(pixels.max(axis=0)).clip(0, size).astype(int).tolist()
    return slice(top, bottom), slice(left, right)


class _Trace:
    """One pass over the picture: the nearest surface of each ray, coloured and lit."""

    def __init__(
        self, place: Place, camera: Camera, rays: Plane, sun: NDArray[np.float64], texture: Texture
    ) -> None:
        self._place, self._rays, self._texture = place, rays, texture
        self._camera = camera
        self._origin = camera.position.astype(np.float32)
        self._sun = sun.astype(np.float32)

    def colours(self) -> Plane:
        """Return the picture, shape (H, W, 3), 0..1."""
        colours, depth = self._ground()
        for axis in (0, 1):
            for side in (1, -1):
                self._wall(axis, side, colours, depth)
        for thing in self._place.things:
            window = _window(thing, self._camera)
            for shape in thing.shapes:
                self._thing(shape, self._rays[window], colours[window], depth[window])
        return colours

    def _ground(self) -> tuple[Plane, Plane]:
        """The ground, and the sky above the horizon."""
        down = self._rays[..., 2] < -1e-4
        depth = np.where(down, self._origin[2] / np.where(down, -self._rays[..., 2], 1), _FAR)
        x, y = (np.where(down, self._origin[i] + depth * self._rays[..., i], 0) for i in (0, 1))
        lit = 1 - self._place.light.sunshine * self._in_shadow(x, y)
        colours = ground_colour(self._place, self._texture, x, y) * lit[..., None]
        sky = np.array(_SKY, dtype=np.float32)
        return np.where(down[..., None], colours, sky).astype(np.float32), depth.astype(np.float32)

    def _in_shadow(self, x: Plane, y: Plane) -> Plane:
        shade = np.zeros(x.shape, dtype=np.bool_)
        for thing in self._place.things:
            # The sun is no lower than 38 degrees.
            reach = thing.radius + 1.4 * max(map(_top, thing.shapes))
            near = (np.abs(x - thing.x) < reach) & (np.abs(y - thing.y) < reach)
            origin = np.stack([x[near], y[near], np.zeros_like(x[near])], axis=-1)
            hit = [np.isfinite(_hit(shape, origin, self._sun)) for shape in thing.shapes]
            shade[near] |= np.any(hit, axis=0)
        return shade.astype(np.float32)

    def _wall(self, axis: int, side: int, colours: Plane, depth: Plane) -> None:
        place, other = self._place, 1 - axis
        at = np.float32((place.x, place.y)[axis] + side * place.half_size)
        along = self._rays[..., axis]
        towards = along * side > 1e-4
        t = np.where(towards, (at - self._origin[axis]) / np.where(towards, along, 1), -1)
        height = self._origin[2] + t * self._rays[..., 2]
        seen = (t < depth) & (t > _NEAR) & (height < place.wall_height)
        u = self._origin[other] + t[seen] * self._rays[..., other][seen]
        index = 2 * axis + (side < 0)
        normal = np.zeros(3, dtype=np.float32)
        normal[axis] = -side
        lit = brightness(normal, place.light)
        colours[seen] = wall_colour(place, index, self._texture, u, height[seen]) * lit
        depth[seen] = t[seen]

    def _thing(self, shape: Shape, rays: Plane, colours: Plane, depth: Plane) -> None:
        t = _hit(shape, self._origin, rays)
        seen = t < depth
        points = self._origin + t[seen][:, None] * rays[seen]
        lit = brightness(_normals(shape, points), self._place.light)[:, None]
        surface = np.array(shape.colour, dtype=np.float32)
        if isinstance(shape, Ball):
            surface = leaf_colour(shape.colour, self._texture, points)
        colours[seen] = surface * lit
        depth[seen] = t[seen]


def _top(shape: Shape) -> float:
    if isinstance(shape, Block):
        return shape.high[2]
    return shape.height if isinstance(shape, Post) else shape.centre[2] + shape.radius


def _hit(shape: Shape, origin: Plane, rays: Plane) -> Plane:
    """The parameter at which each ray meets the shape, infinity where it does not."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if isinstance(shape, Block):
            enter, leave = _within_slabs(shape.low, shape.high, origin, rays)
        elif isinstance(shape, Post):
            enter, leave = _within_post(shape, origin, rays)
        else:
            enter, leave = _within_ball(shape, origin, rays)
        meets = (enter <= leave) & (enter > _NEAR)
    return np.where(meets, enter, _FAR).astype(np.float32)


def _within_slabs(
    low: tuple[float, ...], high: tuple[float, ...], origin: Plane, rays: Plane
) -> tuple[Plane, Plane]:
    near = (np.array(low, dtype=np.float32) - origin) / rays
    far = (np.array(high, dtype=np.float32) - origin) / rays
    return np.minimum(near, far).max(axis=-1), np.maximum(near, far).min(axis=-1)


def _within_post(post: Post, origin: Plane, rays: Plane) -> tuple[Plane, Plane]:
    level = origin[..., :2] - np.array((post.x, post.y), dtype=np.float32)
    low, high = _roots(rays[..., :2], level, post.radius)
    floor, top = -origin[..., 2] / rays[..., 2], (post.height - origin[..., 2]) / rays[..., 2]
    return np.maximum(low, np.minimum(floor, top)), np.minimum(high, np.maximum(floor, top))


def _within_ball(ball: Ball, origin: Plane, rays: Plane) -> tuple[Plane, Plane]:
    return _roots(rays, origin - np.array(ball.centre, dtype=np.float32), ball.radius)


def _roots(rays: Plane, offset: Plane, radius: float) -> tuple[Plane, Plane]:
    """Where |offset + t ray| = radius; NaN, which compares as false, where nowhere."""
    a, b = (rays * rays).sum(axis=-1), (rays * offset).sum(axis=-1)
    root = np.sqrt(b * b - a * ((offset * offset).sum(axis=-1) - np.float32(radius**2)))
    return (-b - root) / a, (-b + root) / a


def _normals(shape: Shape, points: Plane) -> Plane:
    if isinstance(shape, Ball):
        return (points - np.array(shape.centre, dtype=np.float32)) / np.float32(shape.radius)
    if isinstance(shape, Post):
        out = np.zeros_like(points)
        out[:, :2] = (points[:, :2] - np.array((shape.x, shape.y), np.float32)) / shape.radius
        return out
    low, high = (np.array(side, dtype=np.float32) for side in (shape.low, shape.high))
    # The face a point lies on is the one whose plane it is nearest to.
    place = (points - (low + high) / 2) / ((high - low) / 2)
    axis = np.abs(place).argmax(axis=1)
    normals = np.zeros_like(points)
    rows = np.arange(len(points))
    normals[rows, axis] = np.sign(place[rows, axis])
    return normals
