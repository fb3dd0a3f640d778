"""People who cross as boxes, and what a detector would make of them: scenes to try trackers on.

    scene = cross(CrossingConfig(people=20, seed=3))
    for detections in scene.detections: ...            # frame by frame
    scene.write(Path("scenes/crowd"))                  # gt/gt.txt, det/det.txt, seqinfo.ini

People of one real height walk on a plane that rises with the picture, so that whoever is nearer
is larger, lower and in front. They enter at the left or right, drift up and down, now and then
stop, and leave; somebody else comes in their place. Everything follows from the seed.

The detector's errors, of which `DetectorErrors` holds the numbers (chosen by hand to look like what
the bundled detector does to `vtest.avi`, not fitted):

* a box is around the part that is not hidden, when that is less than all;
* a person is missed more often the less of him is visible, and never found below `min_visible`;
* misses come in runs; boxes jump, partly from frame to frame and partly slowly;
* confidence falls with what is hidden;
* two boxes that overlap by more than `nms` become one, the surer;
* there are false boxes, some for a frame and some that stay for a while;
* now and then a whole frame is lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trackers.association import iou_matrix
from trackers.boxes import Detections

Floats = NDArray[np.float64]

_STRIDE_HEIGHTS = 0.76  # a person covers so many of his heights in a second
_ASPECT = 0.38
_FEATURES = 32


@dataclass(frozen=True)
class DetectorErrors:
    """How bad the detector is; all zero is a perfect one."""

    miss: float = 0.04
    miss_hidden: float = 1.2  # times the hidden share, added
    min_visible: float = 0.25
    miss_memory: float = 0.6  # share of misses that last on
    jitter: float = 0.015  # of the height, from frame to frame
    drift: float = 0.015  # of the height, slow
    nms: float = 0.6
    false_per_frame: float = 0.15
    ghosts: int = 1  # places where something is taken for a person, now and then
    lost_frames: float = 0.005
    feature_noise: float = 0.6


PERFECT = DetectorErrors(0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0)


@dataclass(frozen=True)
class CrossingConfig:
    """A scene."""

    people: int = 12
    frames: int = 600
    fps: float = 25.0
    seed: int = 0
    errors: DetectorErrors = field(default_factory=DetectorErrors)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height: as crowded however many people there are."""
        scale = np.sqrt(self.people / 12)
        return round(1280 * scale), round(720 * scale)


@dataclass(frozen=True, eq=False)
class Truth:
    """Everybody in one frame: ids, boxes and visible shares."""

    ids: NDArray[np.int64]
    xyxy: Floats
    visible: Floats


@dataclass(frozen=True, eq=False)
class CrossingScene:
    """Truth and detections, frame by frame."""

    config: CrossingConfig
    truth: list[Truth]
    detections: list[Detections]

    def write(self, folder: Path) -> None:
        """Write the scene as MOTChallenge has it."""
        write_mot(folder, self.config.fps, self.truth, self.detections)


def cross(config: CrossingConfig) -> CrossingScene:
    """Return a scene."""
    rng = np.random.default_rng(config.seed)
    truth = list(_walks(config, rng))
    return CrossingScene(config, truth, detect(truth, config.size, config.errors, rng))


def _walks(config: CrossingConfig, rng: np.random.Generator) -> list[Truth]:
    width, height = config.size
    n = config.people
    x, feet, way = rng.uniform(0, width, n), _feet(rng, n, height), rng.choice([-1.0, 1.0], n)
    speed, rise = rng.normal(1, 0.15, n), np.zeros(n)
    ids, stands = np.arange(1, n + 1), np.zeros(n)
    frames = []
    for _ in range(config.frames):
        tall = _tall(feet, height)
        stands = np.maximum(0, stands - 1 / config.fps)
        stands[(rng.random(n) < 0.04 / config.fps) & (stands == 0)] = rng.uniform(1, 4)
        step = _STRIDE_HEIGHTS * tall / config.fps * (stands == 0)
        rise += rng.normal(0, 0.02, n) - 0.02 * rise
        x = x + way * np.maximum(0.3, speed) * step
        feet = np.clip(feet + rise * step, 0.4 * height, height * 1.05)
        is_out = (x < -0.5 * tall) | (x > width + 0.5 * tall)
        count = int(is_out.sum())
        ids[is_out] = ids.max() + 1 + np.arange(count)
        way[is_out] = rng.choice([-1.0, 1.0], count)
        feet[is_out] = _feet(rng, count, height)
        edge = 0.4 * _tall(feet[is_out], height)
        x[is_out] = np.where(way[is_out] > 0, -edge, width + edge)
        frames.append(_seen(ids, x, feet, _tall(feet, height), (width, height)))
    return frames


def _feet(rng: np.random.Generator, n: int, height: int) -> Floats:
    return rng.uniform(0.42, 1.0, n) * height


def _tall(feet: Floats, height: int) -> Floats:
    """Return how high somebody is whose feet are there: in pixels, whatever the picture's size."""
    return 70 + 190 * (feet / height - 0.4)


def _seen(
    ids: NDArray[np.int64], x: Floats, feet: Floats, tall: Floats, size: tuple[int, int]
) -> Truth:
    half = _ASPECT * tall / 2
    boxes = np.stack([x - half, feet - tall, x + half, feet], axis=1)
    inside = np.clip(boxes, 0, [*size, *size])
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    visible = np.prod(np.maximum(0, inside[:, 2:] - inside[:, :2]), axis=1) / area
    for nearer in np.argsort(-feet):
        behind = feet < feet[nearer]
        visible[behind] *= 1 - _covered(boxes[behind], boxes[nearer])
    kept = visible > 0.01
    return Truth(ids[kept].astype(np.int64), inside[kept], visible[kept])


def _covered(boxes: Floats, by: Floats) -> Floats:
    """Return the share of each box that is covered; people fill three quarters of theirs."""
    w = np.minimum(boxes[:, 2], by[2]) - np.maximum(boxes[:, 0], by[0])
    h = np.minimum(boxes[:, 3], by[3]) - np.maximum(boxes[:, 1], by[1])
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    share: Floats = np.maximum(0, w) * np.maximum(0, h) / np.maximum(area, 1)
    return np.minimum(1.0, share)


def detect(
    truth: list[Truth], size: tuple[int, int], errors: DetectorErrors, rng: np.random.Generator
) -> list[Detections]:
    """Return what a detector with these errors finds."""
    looks = rng.normal(size=(1 + max(int(t.ids.max(initial=0)) for t in truth), _FEATURES))
    drifts: dict[int, Floats] = {}
    missing: set[int] = set()
    ghosts = [_somewhere(rng, size) for _ in range(errors.ghosts)]
    found = []
    for frame in truth:
        if rng.random() < errors.lost_frames:
            found.append(Detections(features=np.empty((0, _FEATURES), dtype=np.float32)))
            continue
        found.append(_found(frame, errors, rng, looks, drifts, missing, ghosts, size))
    return found


def _found(
    frame: Truth,
    errors: DetectorErrors,
    rng: np.random.Generator,
    looks: Floats,
    drifts: dict[int, Floats],
    missing: set[int],
    ghosts: list[Floats],
    size: tuple[int, int],
) -> Detections:
    n = len(frame.ids)
    tall = (frame.xyxy[:, 3] - frame.xyxy[:, 1])[:, None]
    for who in frame.ids.tolist():
        old = drifts.get(who, np.zeros(4))
        drifts[who] = 0.95 * old + rng.normal(0, errors.drift * 0.31, 4)
    drift = np.array([drifts[who] for who in frame.ids.tolist()]).reshape(-1, 4)
    boxes = frame.xyxy + tall * (drift + rng.normal(0, 1, (n, 4)) * errors.jitter)
    chance = errors.miss + errors.miss_hidden * np.maximum(0, 0.7 - frame.visible)
    was_missing = np.array([who in missing for who in frame.ids.tolist()], dtype=bool)
    chance = np.where(was_missing & (chance > 0), np.maximum(chance, errors.miss_memory), chance)
    is_missed = (rng.random(n) < chance) | (frame.visible < errors.min_visible)
    missing.clear()
    missing.update(frame.ids[is_missed].tolist())
    sure = np.clip(0.25 + 0.65 * frame.visible + rng.normal(0, 0.08, n) * (errors.miss > 0), 0, 1)
    look = looks[frame.ids] + rng.normal(size=(n, _FEATURES)) * errors.feature_noise * (
        2 - frame.visible[:, None]
    )
    boxes, sure, look = boxes[~is_missed], sure[~is_missed], look[~is_missed]
    false = [_somewhere(rng, size) for _ in range(rng.poisson(errors.false_per_frame))]
    false += [ghost + rng.normal(0, 2, 4) for ghost in ghosts if rng.random() < 0.3]
    boxes = np.concatenate([boxes, np.array(false).reshape(-1, 4)])
    sure = np.concatenate([sure, rng.beta(2, 3, len(false))])
    look = np.concatenate([look, rng.normal(size=(len(false), _FEATURES))])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    kept = _survivors(boxes, sure, errors.nms)
    look /= np.linalg.norm(look, axis=1, keepdims=True)
    return Detections(
        boxes[kept].astype(np.float32),
        sure[kept].astype(np.float32),
        features=look[kept].astype(np.float32),
    )


def _somewhere(rng: np.random.Generator, size: tuple[int, int]) -> Floats:
    feet = _feet(rng, 1, size[1])
    tall = _tall(feet, size[1])
    x = rng.uniform(0, size[0], 1)
    half = _ASPECT * tall / 2
    return np.concatenate([x - half, feet - tall, x + half, feet])


def _survivors(boxes: Floats, sure: Floats, nms: float) -> NDArray[np.int64]:
    """Return the boxes that no surer one suppresses."""
    overlap = iou_matrix(boxes, boxes)
    alive = np.ones(len(boxes), dtype=bool)
    for row in np.argsort(-sure):
        if alive[row]:
            alive[(overlap[row] > nms) & (np.arange(len(boxes)) != row)] = False
    return np.flatnonzero(alive)


def write_mot(folder: Path, fps: float, truth: list[Truth], detections: list[Detections]) -> None:
    """Write gt/gt.txt, det/det.txt, det/features.npy and seqinfo.ini."""
    for name in ("gt", "det"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname={folder.name}\nframeRate={fps:g}\nseqLength={len(truth)}\n"
    )
    with (folder / "gt" / "gt.txt").open("w") as file:
        for index, frame in enumerate(truth):
            rows = zip(frame.ids.tolist(), frame.xyxy.tolist(), frame.visible.tolist(), strict=True)
            for who, (x0, y0, x1, y1), visible in rows:
                file.write(
                    f"{index + 1},{who},{x0:.3f},{y0:.3f},{x1 - x0:.3f},{y1 - y0:.3f},1,1,"
                    f"{visible:.4f}\n"
                )
    write_detections(folder / "det", detections)


def write_detections(folder: Path, detections: list[Detections]) -> None:
    """Write det.txt, and features.npy when there are features."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "det.txt").open("w") as file:
        for index, found in enumerate(detections):
            for (x0, y0, x1, y1), sure in zip(
                found.xyxy.tolist(), found.confidence.tolist(), strict=True
            ):
                file.write(
                    f"{index + 1},-1,{x0:.3f},{y0:.3f},{x1 - x0:.3f},{y1 - y0:.3f},{sure:.4f}\n"
                )
    features = [found.features for found in detections if found.features is not None]
    if len(features) == len(detections) and features:
        np.save(folder / "features.npy", np.concatenate(features))
