"""Learn the noise of our own segmenter, and rewrite gait/synthetic/noise.json.

`python scripts/fit_noise.py`. Synthetic walkers are painted into frames of the bundled clip, where
nobody walks; the pipeline's segmenter cuts them out, in boxes as far off as the detector's; what it
does to their outlines is measured against the exact masks, and the numbers of `SegmentationNoise`
are chosen so that the noise model does the same. Ten minutes on one core. The figures of both go
into docs/synthetic.md, masks of both into docs/images/synthetic-noise.png.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from noise_takes import FPS, Clip, Take, takes
from numpy.typing import NDArray
from rich.progress import track

from gait.synthetic.mask_errors import MaskErrors
from gait.synthetic.noise import LEARNT, Lumps, SegmentationNoise
from pipeline.stages.segment import PoseConfig

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "synthetic.md"
SHEET = ROOT / "docs" / "images" / "synthetic-noise.png"
BEGIN, END = "<!-- noise: begin -->", "<!-- noise: end -->"
WORDS = {
    "iou": "IoU with the exact mask",
    "iou_spread": "... how much it differs between walks",
    "iou_lowest": "... that 5 % of the frames fall below",
    "fade": "how fast 1 - IoU falls with the person's height (power)",
    "area_ratio": "area over exact area",
    "area_spread": "... how much it differs between walks",
    "area_flicker": "... and from frame to frame",
    "perimeter_ratio": "length of the outline over the exact one's",
    "gaps_filled": "share of narrow gaps that are filled",
    "thin_lost": "share of thin parts that are lost",
    "holes": "frames with a new hole",
    "with_missing": "frames in which a lump is missing",
    "missing_area": "... its area",
    "same_missing": "... overlap with the next frame's",
    "with_extra": "frames with a lump too many",
    "extra_area": "... its area",
    "same_extra": "... overlap with the next frame's",
    "same_error": "overlap of other errors with the next frame's",
    "same_error_later": "... with those 8 frames later",
    "top_off": "how far the mask's top is off (standard deviation)",
    "bottom_off": "how far its bottom is off",
    "swell": "mean shift of the outline outward, head to feet",
    "jitter": "its standard deviation",
    "missing": "area of missing lumps, head to feet",
    "extra": "area of lumps too many",
}


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


def without_things(walks: Sequence[Take]) -> list[Take]:
    """Return the walks in which nothing is carried: a bag is missed as a whole, unlike a body."""
    return [walk for walk in walks if not walk.thing.any()]


def thing_found(walks: Sequence[Take]) -> float:
    """Return the mean share of what is carried that the segmenter takes for the person."""
    shares = [float((walk.found > 0)[walk.thing > 0].mean()) for walk in walks if walk.thing.any()]
    return float(np.mean(shares))


def write_page(walks: Sequence[Take], noise: SegmentationNoise, seed: int) -> None:
    """Put the figures of segmenter and noise model into their section of the documentation."""
    bare = without_things(walks)
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
    for name, words in WORDS.items():
        a, b = (np.atleast_1d(getattr(each, name)) for each in (found, spoilt))
        digits = 3 if name in ("swell", "jitter") else 2
        yield f"| {words} | {_cell(a, digits)} | {_cell(b, digits)} |"


def _cell(values: NDArray[np.float64], digits: int) -> str:
    return " ".join(f"{value:.{digits if abs(value) < 2 else 1}f}" for value in values)


def write_sheet(walks: Sequence[Take], noise: SegmentationNoise, seed: int) -> None:
    """Draw exact masks on the left, the segmenter's in the middle, the noise model's on the right.

    One walk a row, from the smallest person to the largest.
    """
    chosen = sorted(walks, key=lambda walk: walk.height_px)[:: max(1, len(walks) // 8)][:8]
    rows = []
    for index, walk in enumerate(chosen):
        spoilt = noise.apply(walk.exact, np.random.default_rng((seed, index)), fps=FPS)
        shown = (walk.exact, walk.found, spoilt)
        rows.append(np.concatenate([_tile(masks[i]) for masks in shown for i in (3, 9, 15, 21)], 1))
    sheet = np.concatenate(rows)
    sheet[:, [4 * 80 - 1, 8 * 80 - 1]] = 160
    cv2.imwrite(str(SHEET), sheet)


def _tile(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the mask 110 pixels high in the middle of 80 columns."""
    width = round(mask.shape[1] * 110 / mask.shape[0])
    scaled = cv2.resize(mask, (width, 110), interpolation=cv2.INTER_NEAREST)
    padded = np.pad(scaled, ((0, 0), (80, 80)))
    left = 80 + width // 2 - 40
    return np.asarray(padded[:, left : left + 80], dtype=np.uint8)


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
    bare = without_things(walks)
    noise = fitted(bare, options.steps, options.seed)
    LEARNT.write_text(noise.model_dump_json(indent=2) + "\n", encoding="utf-8")
    write_page(walks, noise, options.seed)
    write_sheet(bare, noise, options.seed)


if __name__ == "__main__":
    main()
