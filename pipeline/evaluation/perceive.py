"""What perception makes of a scene, by the machine or partly from the truth, kept for reuse.

Perception does not depend on the encoder. So it runs once for each choice of stages and is read
back afterwards: other weights are judged in seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gait.data.atomic import write_atomically
from gait.tracklet import Tracklet
from pipeline.config import PipelineConfig
from pipeline.errors import SourceError
from pipeline.evaluation.boxes import Boxes
from pipeline.evaluation.perceived import Perceived
from pipeline.evaluation.scene import MASKS, MIN_VISIBLE, Scene
from pipeline.reading import Reader
from pipeline.runner import Pipeline
from pipeline.sources.source import Source
from pipeline.stages.replay import STREAM
from pipeline.stages.segment import ReplayMasksConfig, Segmenter
from pipeline.values import Embedding, Frame, Match
from pipeline.version import __version__
from trackers.boxes import Mask, Tracks

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stages:
    """Which stages are the machine's, and which are told the truth.

    Attributes:
        name: In words.
        true_boxes: Boxes and track ids are the truth.
        true_masks: Masks are the truth, wherever a box is on a person.
    """

    name: str
    true_boxes: bool
    true_masks: bool

    @property
    def key(self) -> str:
        """A short name for files."""
        boxes = "true" if self.true_boxes else "found"
        return f"{boxes}-boxes-{'true' if self.true_masks else 'found'}-masks"


STAGES = (
    Stages("the whole machine", true_boxes=False, true_masks=False),
    Stages("true masks", true_boxes=False, true_masks=True),
    Stages("true boxes and tracks", true_boxes=True, true_masks=False),
    Stages("true boxes, tracks and masks", true_boxes=True, true_masks=True),
)
"""From all found to all told."""


def perceive(
    scene: Scene, stages: Stages, cache: Path, tell: Told = lambda text: None
) -> Perceived:
    """Return what perception makes of a scene; from `cache` if it was there before.

    Args:
        scene: Videos and truth.
        stages: What is told instead of found.
        cache: Folder for what is kept.
        tell: Called with progress in words.

    Raises:
        SourceError: A video cannot be read to its end.
        ModelError: A model cannot be loaded.
        DataError: The cache cannot be written.
    """
    config = _config(scene, stages, cache)
    path = kept_in(cache, scene, stages)
    kept = Perceived.load(path)
    if kept is None:
        kept = _perceive(scene, config, tell)
        kept.save(path)
    return kept


def kept_in(cache: Path, scene: Scene, stages: Stages) -> Path:
    """Return the file that keeps what perception makes of a scene."""
    return cache / f"{stages.key}-{_digest(scene)}.npz"


def _config(scene: Scene, stages: Stages, cache: Path) -> PipelineConfig:
    """Return the default configuration but for what is told."""
    changes: dict[str, Any] = {}
    if stages.true_boxes:
        for name, truth in scene.cameras.items():
            write_atomically(cache / "truth" / f"{name}.txt", truth.mot().encode())
        changes["detector"] = {"kind": "replay", "file": str(cache / "truth" / f"{STREAM}.txt")}
        changes["tracker"] = {"kind": "replay"}
    if stages.true_masks:
        changes["segmenter"] = _true_masks(scene).model_dump()
    return PipelineConfig.model_validate(changes)


def _true_masks(scene: Scene) -> ReplayMasksConfig:
    return ReplayMasksConfig(file=str(scene.folder / STREAM / MASKS))


def _digest(scene: Scene) -> str:
    """Return a short hash of all that perception depends on, but for its code."""
    stages = {"read", "detector", "tracker", "segmenter", "assembler"}
    chosen = PipelineConfig().model_dump(mode="json", include=stages)
    digest = hashlib.sha256(json.dumps([__version__, MIN_VISIBLE, chosen]).encode())
    for video, name in scene.videos:
        for path in (video, scene.folder / name / MASKS):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _perceive(scene: Scene, config: PipelineConfig, tell: Told) -> Perceived:
    notebook = _Notebook(list(scene.cameras), _true_masks(scene).build(), tell)
    machine = Pipeline(config)
    try:
        machine.interrupt()  # embed nothing: that is for whoever judges an encoder
        reader = Reader(scene.videos, config.read, config.runtime, notebook)
        for _ in machine.run(reader.batches(), notebook):
            pass
    finally:
        machine.close()
    return notebook.perceived()


@dataclass(slots=True)
class _Notebook:
    """Writes down what a run shows, and compares masks with the true ones while they are there."""

    cameras: Sequence[str]
    truth: Segmenter
    tell: Told
    tracklets: list[Tracklet] = field(default_factory=list)
    rows: dict[str, list[tuple[int, str, list[float]]]] = field(default_factory=dict)
    overlaps: list[float] = field(default_factory=list)

    def opened(self, source: Source) -> None:
        """Ask nothing of a video."""

    def ended(self, name: str, problem: str | None) -> None:
        """Stop at a video that cannot be read: figures over a part of it would mislead.

        Raises:
            SourceError: There is a problem.
        """
        if problem is not None:
            raise SourceError(f"{name}: {problem}")

    def saw(self, frame: Frame, tracks: Tracks, masks: Sequence[Mask | None]) -> None:
        """Write down boxes and how good the masks are."""
        rows = self.rows.setdefault(frame.stream, [])
        ids = tracks.track_ids.tolist()
        rows += [
            (frame.index, str(i), box) for i, box in zip(ids, tracks.xyxy.tolist(), strict=True)
        ]
        [true_masks] = self.truth.segment([frame], [tracks])
        self.overlaps += [
            mask_iou(mask, true)
            for mask, true in zip(masks, true_masks, strict=True)
            if true is not None
        ]
        if frame.index % 50 == 0:
            self.tell(f"{frame.stream}: frame {frame.index}")

    def recognised(
        self, tracklet: Tracklet, embedding: Embedding | None, match: Match | None
    ) -> None:
        """Keep the tracklet."""
        self.tracklets.append(tracklet)

    def perceived(self) -> Perceived:
        return Perceived(
            tracklets=self.tracklets,
            tracks={name: Boxes.of(self.rows.get(name, [])) for name in self.cameras},
            mask_iou=float(np.mean(self.overlaps)) if self.overlaps else float("nan"),
        )


def mask_iou(mask: Mask | None, true: Mask) -> float:
    """Return the intersection over union of two masks of a frame; 0 for a missing one."""
    if mask is None:
        return 0.0
    left, top = max(mask.x, true.x), max(mask.y, true.y)
    right = min(each.x + each.pixels.shape[1] for each in (mask, true))
    bottom = min(each.y + each.pixels.shape[0] for each in (mask, true))
    shared = 0
    if left < right and top < bottom:
        one, two = (
            each.pixels[top - each.y : bottom - each.y, left - each.x : right - each.x]
            for each in (mask, true)
        )
        shared = int((one & two).sum())
    union = int(mask.pixels.sum()) + int(true.pixels.sum()) - shared
    return shared / union if union else 0.0
