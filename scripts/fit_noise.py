"""Learn the noise of our own segmenter, and rewrite gait/synthetic/noise.json.

`python scripts/fit_noise.py`. Synthetic walkers are painted into frames of the bundled clip, where
nobody walks; the pipeline's segmenter cuts them out, in boxes as far off as the detector's; what it
does to their outlines is measured against the exact masks, and the numbers of `SegmentationNoise`
are chosen so that the noise model does the same. Ten minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from gait.synthetic.bodies import Bodies, Body, Region
from gait.synthetic.camera import Camera
from gait.synthetic.mask_errors import MaskErrors
from gait.synthetic.motion import walk
from gait.synthetic.noise import LEARNT, Lumps, SegmentationNoise
from gait.synthetic.outfit import Clothes, Condition, Habits, dressed
from gait.synthetic.render import brightness, paint, shadow, silhouettes
from gait.synthetic.style import Style
from pipeline.sources.source import ReadConfig
from pipeline.sources.video import VideoSource
from pipeline.stages.segment import PoseConfig, Segmenter
from pipeline.values import Frame
from trackers.boxes import Mask, Tracks

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "pipeline" / "samples" / "vtest-20s.mp4"
PAGE = ROOT / "docs" / "synthetic.md"
BEGIN, END = "<!-- noise: begin -->", "<!-- noise: end -->"
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


def fitted(walks: Sequence[Take], steps: int, seed: int) -> SegmentationNoise:
    """Return the noise model that spoils exact masks as the segmenter did.

    Every number of the model has a measure that answers to it. In each step the walks are spoilt
    anew, and each number is moved by how far its measure is from the segmenter's.
    """
    goal, noise = segmenter_errors(walks), SegmentationNoise(blocky=0.0)
    for step in track(range(steps), "fitting"):
        got = noise_errors(walks, noise, (seed, step))
        noise = _moved(noise, goal, got, rate=0.7 if step < steps / 2 else 0.3)
    return noise


def segmenter_errors(walks: Sequence[Take]) -> MaskErrors:
    """Measure what the segmenter did."""
    return MaskErrors.between((walk.exact, walk.found) for walk in walks)


def noise_errors(
    walks: Sequence[Take], noise: SegmentationNoise, seed: tuple[int, ...]
) -> MaskErrors:
    """Measure what the noise model does to the same walks."""
    rngs = [np.random.default_rng((*seed, index)) for index in range(len(walks))]
    spoilt = (noise.apply(walk.exact, rng, fps=FPS) for walk, rng in zip(walks, rngs, strict=True))
    return MaskErrors.between(zip((walk.exact for walk in walks), spoilt, strict=True))


def _moved(
    noise: SegmentationNoise, goal: MaskErrors, got: MaskErrors, rate: float
) -> SegmentationNoise:
    def towards(value: float, name: str, power: float, low: float, high: float) -> float:
        ratio = max(getattr(goal, name), 1e-4) / max(getattr(got, name), 1e-4)
        return round(float(np.clip(value * np.clip(ratio ** (power * rate), 0.5, 2), low, high)), 5)

    def lumps(these: Lumps, areas: str) -> Lumps:
        ratio = (getattr(goal, areas) + 0.01) / (getattr(got, areas) + 0.01)
        where = np.asarray(these.where) * np.clip(ratio, 0.2, 5) ** rate
        return these.model_copy(
            update={
                "rate": towards(these.rate, f"with_{areas}", 1, 0.01, 50),
                "radius": towards(these.radius, f"{areas}_area", 0.4, 0.01, 0.2),
                "duration_s": towards(these.duration_s, f"same_{areas}", 1, 0.01, 2),
                "inside": inside,
                "where": _rounded(8 * where / where.sum()),
            }
        )

    inside = towards(noise.bites.inside, "holes", 1, 0.01, 1)
    jitter = np.asarray(noise.jitter) * (goal.jitter / got.jitter) ** rate
    return noise.model_copy(
        update={
            "swell": _rounded(noise.swell + rate * (goal.swell - got.swell)),
            "jitter": _rounded(jitter.clip(0, 0.05)),
            "bites": lumps(noise.bites, "missing"),
            "blobs": lumps(noise.blobs, "extra"),
            "swell_spread": towards(noise.swell_spread, "area_spread", 1, 1e-5, 0.05),
            "flicker": towards(noise.flicker, "area_flicker", 1, 1e-5, 0.05),
            "fade": round(float(np.clip(noise.fade + rate * (goal.fade - got.fade), 0, 2)), 5),
            "unevenness": towards(noise.unevenness, "iou_spread", 1, 0.01, 1),
            "lasting": towards(noise.lasting, "same_error_later", 1, 0.01, 0.9),
            "memory_s": towards(noise.memory_s, "same_error", 2, 0.01, 1),
            "rounding": towards(noise.rounding, "thin_lost", 0.5, 0.001, 0.05),
            "webbing": towards(noise.webbing, "gaps_filled", 0.5, 0.001, 0.05),
            "grain": towards(noise.grain, "perimeter_ratio", -4, 0.01, 0.3),
            "wrong": towards(noise.wrong, "iou_lowest", -5, 1e-5, 0.1),
        }
    )


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(np.round(values, 5).tolist())


def thing_found(walks: Sequence[Take]) -> float:
    """Return the mean share of what is carried that the segmenter takes for the person."""
    shares = [float((walk.found > 0)[walk.thing > 0].mean()) for walk in walks if walk.thing.any()]
    return float(np.mean(shares))


def write_page(walks: Sequence[Take], noise: SegmentationNoise, seed: int) -> None:
    """Put the figures of segmenter and noise model into their section of the documentation."""
    bare = [walk for walk in walks if not walk.thing.any()]
    found, spoilt = segmenter_errors(bare), noise_errors(bare, noise, (seed, 1000))
    frames = sum(len(walk.exact) for walk in walks)
    dropped = sum(int((~walk.found.any(axis=(1, 2))).sum()) for walk in walks)
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    table = "\n".join(_table(found, spoilt))
    facts = (
        f"{len(walks)} walks of {frames} frames, {len(bare)} of them without a bag and compared "
        f"here. The segmenter returned nothing for {dropped / frames:.1%} of the frames, and took "
        f"{thing_found(walks):.0%} of a carried bag for the person, in some walks all of it and in "
        "others none."
    )
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n\n{facts}\n{END}{after}", encoding="utf-8")


def _table(found: MaskErrors, spoilt: MaskErrors) -> Iterator[str]:
    yield "| | segmenter | noise model |"
    yield "|---|---|---|"
    for field in fields(MaskErrors):
        a, b = (np.atleast_1d(getattr(each, field.name)) for each in (found, spoilt))
        cells = (", ".join(f"{value:.4g}" for value in np.round(row, 4)) for row in (a, b))
        yield f"| {field.name} | {' | '.join(cells)} |"


def main() -> None:
    """Measure, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--takes", type=int, default=150, help="walks to render")
    parser.add_argument("--steps", type=int, default=16, help="of the fit")
    parser.add_argument("--seed", type=int, default=4)
    options = parser.parse_args()
    segmenter = PoseConfig().build()
    walks = list(
        track(takes(Clip(), segmenter, options.takes, options.seed), "walks", options.takes)
    )
    bare = [walk for walk in walks if not walk.thing.any()]
    noise = fitted(bare, options.steps, options.seed)
    LEARNT.write_text(noise.model_dump_json(indent=2) + "\n", encoding="utf-8")
    write_page(walks, noise, options.seed)


if __name__ == "__main__":
    main()
