"""Synthetic walkers in the bundled clip, as they are and as our segmenter sees them.

For fit_noise.py. The background is real; where somebody walks in it, nobody is painted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gait.synthetic.bodies import Bodies, Body, Region
from gait.synthetic.camera import Camera
from gait.synthetic.motion import walk
from gait.synthetic.outfit import Clothes, Condition, Habits, dressed
from gait.synthetic.render import brightness, paint, shadow, silhouettes
from gait.synthetic.style import Style
from pipeline.sources.source import ReadConfig
from pipeline.sources.video import VideoSource
from pipeline.stages.segment import Segmenter
from pipeline.values import Frame
from trackers.boxes import Mask, Tracks

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "pipeline" / "samples" / "vtest-20s.mp4"
FPS = 25.0
TAKE_FRAMES = 24
MARGIN = 0.15  # of the person's height around the crop
HEIGHTS_PX = (60.0, 200.0)
# Of the box's edges, in person heights: how far the bundled detector's lay outside on average
# (left, top, right, bottom), how much that differed between people, and from frame to frame.
BOX_BIAS, BOX_SPREAD, BOX_JITTER = (0.0, 0.034, 0.01, 0.013), 0.03, 0.027

Bgr = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Take:
    """One walk as it is and as the segmenter saw it, person-centred.

    Attributes:
        exact: Shape (T, H, W), uint8, 0 or 255.
        found: The same of the segmenter, empty frames where it found nobody.
        thing: Which pixels of `exact` show only what is carried; the same shape.
        image: The last frame's crop.
        height_px: Of the person.
    """

    exact: NDArray[np.uint8]
    found: NDArray[np.uint8]
    thing: NDArray[np.uint8]
    image: Bgr
    height_px: float


@dataclass(frozen=True, slots=True, eq=False)
class Walker:
    """A painted person: vertices in the image and what they look like; `is_thing` of each face."""

    pixels: NDArray[np.float32]
    depth: NDArray[np.float32]
    shadow: NDArray[np.float32]
    light: list[NDArray[np.float32]]
    faces: NDArray[np.int32]
    colours: Bgr
    is_thing: NDArray[np.bool_]


class Clip:
    """The bundled clip, and where in it nobody is."""

    def __init__(self) -> None:
        with VideoSource(CLIP, "clip", ReadConfig()) as source:
            self.frames = np.stack([frame.image for frame in source])
        empty = np.median(self.frames[::4], axis=0).astype(np.uint8)
        small = [cv2.absdiff(frame, empty).max(axis=-1) for frame in self.frames]
        self._moved = np.stack([cv2.resize(s, None, fx=0.25, fy=0.25) for s in small]) > 35

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.frames.shape[1], self.frames.shape[2]

    def is_empty(self, first: int, box: NDArray[np.float32]) -> bool:
        """Return whether nobody is in a box for the frames of a take."""
        left, top, right, bottom = (box / 4).astype(int).tolist()
        seen = self._moved[first : first + TAKE_FRAMES, top : bottom + 1, left : right + 1]
        return bool(seen.mean(axis=(1, 2)).max() < 0.01)


def takes(clip: Clip, segmenter: Segmenter, count: int, seed: int) -> Iterator[Take]:
    """Yield walks of drawn people in empty places of the clip."""
    bodies = Bodies.load()
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        walker = _walker(bodies, clip.size_hw, rng)
        first = _placed(walker, clip, rng)
        if first is not None:
            yield _take(walker, clip.frames[first : first + TAKE_FRAMES], segmenter, rng)


def _walker(bodies: Bodies, size_hw: tuple[int, int], rng: np.random.Generator) -> Walker:
    clothes = Clothes.sample(Habits.sample(rng), rng)
    condition = Condition(str(rng.choice(["nm", "nm", "nm", "cl", "cl", "bg", "bp"])))
    body = dressed(bodies.sample(rng), clothes, condition, rng).body
    times = rng.uniform(0, 3) + np.arange(TAKE_FRAMES) / FPS
    motion = walk(Style.sample(rng), leg_length_m=body.leg_length_m, time_s=times, rng=rng)
    places = body.posed(motion)
    middle = (*motion.position[TAKE_FRAMES // 2].tolist(), body.height_m / 2)
    height_px = float(np.exp(rng.uniform(*np.log(HEIGHTS_PX))))
    distance = rng.uniform(6, 25)
    pitch = np.radians(rng.uniform(0, 40))
    camera = Camera.around(
        middle,
        rng.uniform(0, 2 * np.pi),
        pitch,
        distance,
        focal_px=height_px * distance / (body.height_m * np.cos(pitch)),
        width=size_hw[1],
        height=size_hw[0],
    )
    sun = (float(rng.normal()), float(rng.normal()), float(rng.uniform(0.8, 2.5)))
    ambient, glare = rng.uniform(0.45, 0.8), rng.uniform(0.75, 1.1)
    pixels, depth = camera.project(places)
    return Walker(
        pixels=pixels,
        depth=depth,
        shadow=camera.project(shadow(places, sun))[0],
        light=[brightness(each, body.faces, sun, ambient) * np.float32(glare) for each in places],
        faces=body.faces,
        colours=_colours(body, rng),
        is_thing=body.parts == Region.THING,
    )


def _colours(body: Body, rng: np.random.Generator) -> Bgr:
    """Return a colour for each face: one a region, a little uneven as cloth is."""
    skin = np.array([110, 140, 190]) * rng.uniform(0.35, 1.15)
    regions = {Region.SKIN: skin, Region.HAIR: np.array([40, 50, 60]) * rng.uniform(0.3, 2.5)}
    colours = np.empty((len(body.faces), 3))
    top = _cloth(rng)
    for region in Region:
        cloth = top if region is Region.SLEEVES else _cloth(rng)
        top = cloth if region is Region.TOP else top
        colours[body.parts == region] = regions.get(region, cloth)
    colours *= 1 + 0.08 * rng.standard_normal((len(colours), 1))
    return colours.clip(0, 255).astype(np.uint8)


def _cloth(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a colour people wear: mostly dark or grey."""
    value = 255 * rng.beta(1.2, 1.8)
    return np.asarray(value * (1 - rng.uniform(0, 0.15 + 0.5 * (rng.random() < 0.4), size=3)))


def _placed(walker: Walker, clip: Clip, rng: np.random.Generator) -> int | None:
    """Move the walker to an empty place; return the take's first frame, None if there is none."""
    low, high = walker.pixels.min(axis=(0, 1)), walker.pixels.max(axis=(0, 1))
    room = 0.25 * (high[1] - low[1])
    size = np.array([clip.size_hw[1], clip.size_hw[0]]) - (high - low) - 2 * room
    if size.min() <= 0:
        return None
    for _ in range(60):
        corner = rng.uniform(0, 1, 2) * size
        first = int(rng.integers(len(clip.frames) - TAKE_FRAMES))
        box = np.concatenate([corner, corner + high - low + 2 * room]).astype(np.float32)
        if clip.is_empty(first, box):
            shift = (corner + room - low).astype(np.float32)
            walker.pixels[:] += shift
            walker.shadow[:] += shift
            return first
    return None


def _take(walker: Walker, frames: Bgr, segmenter: Segmenter, rng: np.random.Generator) -> Take:
    exact, images = _painted(walker, frames, rng)
    boxes = _boxes(walker.pixels, rng)
    found = np.zeros_like(exact)
    for index, (image, box) in enumerate(zip(images, boxes, strict=True)):
        mask = segmenter.segment([Frame(image, "clip", index, index / FPS)], [_track(box)])[0][0]
        if mask is not None:
            _pasted(mask, found[index])
    bare = silhouettes(walker.pixels, walker.faces[~walker.is_thing], exact.shape[1:])
    height = float(np.median(np.ptp(walker.pixels[..., 1], axis=1)))
    windows = _windows(walker.pixels, MARGIN * height)
    return Take(
        exact=_cut(exact, windows),
        found=_cut(found, windows),
        thing=_cut(exact & ~bare, windows),
        image=_cut(images[-1:], windows[-1:])[0],
        height_px=height,
    )


def _painted(
    walker: Walker, frames: Bgr, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Bgr]:
    """Return exact masks and the frames with the walker in them, as a camera would record them."""
    size_hw = (frames.shape[1], frames.shape[2])
    shade = silhouettes(walker.shadow, walker.faces, size_hw)
    darkness, softness = rng.uniform(0, 0.5), rng.uniform(1, 4)
    blur, grain, quality = rng.uniform(0.4, 0.9), rng.uniform(0, 5), int(rng.integers(60, 95))
    exact, images = [], []
    for index, frame in enumerate(frames):
        image = frame.copy()
        dark = cv2.GaussianBlur(shade[index], (0, 0), softness).astype(np.float32) / 255
        image = (image * (1 - darkness * dark[..., None])).astype(np.uint8)
        light = walker.light[index]
        mask = paint(
            image,
            walker.pixels[index],
            walker.depth[index],
            walker.faces,
            walker.colours,
            light=light,
        )
        exact.append(mask.astype(np.uint8) * np.uint8(255))
        images.append(_recorded(image, mask, blur, grain, quality, rng))
    return np.stack(exact), np.stack(images)


def _recorded(
    image: Bgr,
    mask: NDArray[np.bool_],
    blur: float,
    grain: float,
    quality: int,
    rng: np.random.Generator,
) -> Bgr:
    """Return the image with the person as blurred, grainy and compressed as the rest."""
    near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    soft = cv2.GaussianBlur(image, (0, 0), blur)
    image[near] = soft[near]
    noisy = image[mask] + rng.normal(0, grain, (int(mask.sum()), 3))
    image[mask] = noisy.clip(0, 255).astype(np.uint8)
    coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), dtype=np.uint8)


def _boxes(pixels: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the exact boxes, shape (T, 4), as far off as the detector's."""
    exact = np.concatenate([pixels.min(axis=1), pixels.max(axis=1)], axis=1)
    height = exact[:, 3:] - exact[:, 1:2]
    off = rng.normal(BOX_BIAS, BOX_SPREAD, 4) + rng.normal(0, BOX_JITTER, exact.shape)
    return np.asarray(exact + off * height * [-1, -1, 1, 1], dtype=np.float32)


def _track(box: NDArray[np.float32]) -> Tracks:
    one = np.zeros(1, dtype=np.int64)
    return Tracks(one, box[None], np.ones(1, dtype=np.float32), one)


def _pasted(mask: Mask, onto: NDArray[np.uint8]) -> None:
    height, width = mask.pixels.shape
    onto[mask.y : mask.y + height, mask.x : mask.x + width] = mask.pixels * np.uint8(255)


def _windows(pixels: NDArray[np.float32], margin: float) -> list[tuple[slice, slice]]:
    """Return the part of each frame around the person, all of the same size."""
    low, high = pixels.min(axis=1) - margin, pixels.max(axis=1) + margin
    width, height = np.ceil((high - low).max(axis=0)).astype(int).tolist()
    corners = np.stack([(low[:, 0] + high[:, 0] - width) / 2, low[:, 1]], axis=-1)
    return [
        (slice(y, y + height), slice(x, x + width))
        for x, y in np.rint(corners).astype(int).clip(0).tolist()
    ]


def _cut(images: NDArray[np.uint8], windows: list[tuple[slice, slice]]) -> NDArray[np.uint8]:
    return np.stack([image[window] for image, window in zip(images, windows, strict=True)])
