"""Draw synthetic silhouettes beside real ones: `python scripts/synth_sheet.py RESULTS`.

RESULTS is what `trackletgait process pipeline/samples/vtest-20s.mp4 --out RESULTS` wrote: its
tracklets hold the real silhouettes. The synthetic ones are SynthGait-Wild as a camera like the
clip's sees it: down by 10 to 30 degrees, people 60 to 120 pixels tall, 10 frames a second.

The picture shows both; with --blind they are shuffled and the answer is printed. Figures of their
shapes are printed too: what differs shows there.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gait.silhouette import cut
from gait.synthetic.filming import film
from gait.synthetic.noise import SegmentationNoise
from gait.synthetic.outfit import Condition
from gait.synthetic.recipes import WildRecipe
from pipeline.sinks.tracklets import read_tracklet

Tracklets = list[NDArray[np.uint8]]

_ROWS, _COLUMNS, _SCALE, _GAP = 12, 10, 2, 10
_LINE, _PAPER = 90, 160
_PERSON = 128


def real_tracklets(results: Path) -> Tracklets:
    """Return the silhouettes of each track of a results folder, (T, 64, 44) each."""
    tracks: dict[tuple[str, int], dict[int, NDArray[np.uint8]]] = {}
    for file in sorted(results.glob("streams/*/tracklets/*.npz")):
        stored = read_tracklet(file).tracklet
        frames = tracks.setdefault((stored.stream, stored.track_id), {})
        frames.update(zip(stored.frame_indices.tolist(), stored.silhouettes, strict=True))
    return [np.stack([frames[index] for index in sorted(frames)]) for frames in tracks.values()]


def synthetic_tracklets(num_people: int, seed: int) -> Tracklets:
    """Return a walk of each of as many people, as the clip's camera would see it."""
    recipe = WildRecipe(
        seed=seed,
        people=num_people,
        sequences=2,
        frames=60,
        pitch=(10.0, 30.0),
        height_px=(60.0, 120.0),
        fps=(10.0,),
        conditions={
            Condition.NORMAL: 0.6,
            Condition.BAG: 0.2,
            Condition.BACKPACK: 0.1,
            Condition.COAT: 0.1,
        },
    )
    noise = SegmentationNoise.learnt()
    first_walks = [replace(each, walks=each.walks[:1]) for each in recipe.plan().subjects]
    return [cut(film(seed, each, noise)[0]) for each in first_walks[:num_people]]


def figures(tracklets: Tracklets) -> dict[str, float]:
    """Return means over all silhouettes, lengths in pixels of 64 rows."""
    masks = np.concatenate(tracklets) >= _PERSON
    widths = masks.sum(axis=2)
    pieces = (np.diff(masks.astype(np.int8), axis=2, prepend=0) == 1).sum(axis=2)
    changes = [np.mean(each[1:] != each[:-1], axis=(1, 2)) for each in _masks(tracklets)]
    return {
        "share of 64x44 that is person": float(masks.mean()),
        "width at the head": float(widths[:, 2:9].mean()),
        "width at the shoulders": float(widths[:, 12:20].mean()),
        "width at the hips": float(widths[:, 28:36].mean()),
        "width of the legs": float(widths[:, 44:58].mean()),
        "from the leftmost to the rightmost pixel": float(masks.any(axis=1).sum(axis=1).mean()),
        "share of leg rows with a gap": float((pieces[:, 44:60] > 1).mean()),
        "length of the outline": float(np.mean([_outline(each) for each in masks])),
        "share of pixels that change in 0.1 s": float(np.concatenate(changes).mean()),
    }


def _masks(tracklets: Tracklets) -> list[NDArray[np.bool_]]:
    return [each >= _PERSON for each in tracklets if len(each) > 1]


def _outline(mask: NDArray[np.bool_]) -> float:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return float(max((cv2.arcLength(each, True) for each in contours), default=0.0))


def _strips(tracklets: Tracklets, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Return as many walks as there are rows, `_COLUMNS` frames each, tracks by turns."""
    order = np.concatenate([rng.permutation(len(tracklets)) for _ in range(_ROWS)])[:_ROWS]
    return [_strip(tracklets[each], rng) for each in order]


def _strip(frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    start = int(rng.integers(max(1, len(frames) - _COLUMNS + 1)))
    chosen = frames[np.arange(start, start + _COLUMNS) % len(frames)]
    framed = np.pad(chosen, ((0, 0), (1, 1), (1, 1)), constant_values=_LINE)
    return np.concatenate(list(framed), axis=1)


def sheet(left: list[NDArray[np.uint8]], right: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return both halves side by side, enlarged."""
    halves = np.concatenate(left), np.concatenate(right)
    gap = np.full((len(halves[0]), _GAP), _PAPER, np.uint8)
    both = np.concatenate([halves[0], gap, halves[1]], axis=1)
    return np.kron(both, np.ones((_SCALE, _SCALE), np.uint8))


def _report(real: dict[str, float], synthetic: dict[str, float]) -> str:
    rows = [f"| {name} | {real[name]:.3g} | {synthetic[name]:.3g} |" for name in real]
    return "\n".join(["| mean over all silhouettes | real | synthetic |", "|---|---|---|", *rows])


def main() -> int:
    """Write the picture and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="folder that `trackletgait process` wrote")
    parser.add_argument("--out", type=Path, default=Path("docs/images/synthgait-sheet.png"))
    parser.add_argument("--people", type=int, default=60, help="synthetic ones to measure")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--blind", action="store_true", help="shuffle rows, print the answer")
    options = parser.parse_args()
    real = real_tracklets(options.results)
    if not real:
        print(
            f"{options.results}: expected tracklets of `trackletgait process`, found none",
            file=sys.stderr,
        )
        return 1
    synthetic = synthetic_tracklets(options.people, options.seed)
    rng = np.random.default_rng(options.seed)
    left, right = _strips(real, rng), _strips(synthetic, rng)
    if options.blind:
        swapped = rng.random(_ROWS) < 0.5
        for row in np.flatnonzero(swapped).tolist():
            left[row], right[row] = right[row], left[row]
        print("real:", " ".join("right" if each else "left" for each in swapped))
    if not cv2.imwrite(str(options.out), sheet(left, right)):
        print(f"{options.out}: cannot write it; choose a folder that is there", file=sys.stderr)
        return 1
    print(f"{len(real)} real tracks, {len(synthetic)} synthetic walks\n")
    print(_report(figures(real), figures(synthetic)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
