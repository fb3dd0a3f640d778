"""Trackers on recorded detections: run, time and score them.

sequences = find_sequences(Path("MOT17/train"))
run = follow(ByteTrack(), sequences[0].detections(), fps=sequences[0].fps)
print(score(sequences[0].truth(), run.boxes, num_frames=..., fps=...).hota)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gait.errors import ConfigError
from pipeline.config import load_config
from pipeline.evaluation.tracking_folder import MotBoxes
from pipeline.stages.track import TRACKERS, TrackerConfig
from trackers.boxes import Detections, Tracker

Clock = Callable[[], float]
"""Seconds since whenever; only differences count."""


@dataclass(frozen=True, slots=True, eq=False)
class TrackingRun:
    """What a tracker made of one recording.

    Attributes:
        boxes: The tracks' boxes.
        frame_s: Shape (F,), float64: seconds the tracker took for each frame.
    """

    boxes: MotBoxes
    frame_s: NDArray[np.float64]


def follow(
    tracker: Tracker,
    detections: Iterable[Detections],
    *,
    fps: float,
    on_frame: Callable[[], None] = lambda: None,
    clock: Clock = time.perf_counter,
) -> TrackingRun:
    """Return what a tracker makes of recorded detections.

    Args:
        tracker: A new one.
        detections: Of each frame, in order.
        fps: Frames a second.
        on_frame: Called after each frame.
        clock: What tells the time.

    Raises:
        ConfigError: The tracker cannot work with these detections; the message says why.
    """
    frames, ids, xyxy, confidence, taken = [], [], [], [], []
    for index, found in enumerate(detections):
        start = clock()
        try:
            tracks = tracker.update(found, interval_s=1 / fps)
        except ValueError as error:
            raise ConfigError(f"frame {index + 1}: {error}") from error
        taken.append(clock() - start)
        frames.append(np.full(len(tracks), index))
        ids.append(tracks.track_ids)
        xyxy.append(tracks.xyxy.astype(np.float64))
        confidence.append(tracks.confidence.astype(np.float64))
        on_frame()
    tracker.finish()
    return TrackingRun(_joined(frames, ids, xyxy, confidence), np.array(taken))


def _joined(
    frames: list[NDArray[np.int64]],
    ids: list[NDArray[np.int64]],
    xyxy: list[NDArray[np.float64]],
    confidence: list[NDArray[np.float64]],
) -> MotBoxes:
    if not frames:
        nobody = np.empty(0, dtype=np.int64)
        return MotBoxes(nobody, nobody, np.empty((0, 4)), np.empty((0, 1)), nobody)
    all_frames, all_ids = np.concatenate(frames), np.concatenate(ids)
    order = np.lexsort((all_ids, all_frames))
    rest = np.concatenate(confidence)[:, None]
    rows = np.arange(len(order))
    return MotBoxes(all_frames, all_ids, np.concatenate(xyxy), rest, rows)[order]


def named_tracker(text: str) -> tuple[str, TrackerConfig]:
    """Return a tracker and what to call it.

    Args:
        text: A kind such as `bytetrack`, or a pipeline's YAML file, such as `trackletgait tune`
            writes; with changes if need be, as in `bytetrack,lost_s=3,box_margin=0`.

    Raises:
        ConfigError: No such tracker, file or parameter.
    """
    kind, *changes = text.split(",")
    overrides = [f"tracker.{change}" for change in changes]
    if Path(kind).suffix in (".yaml", ".yml"):
        config = load_config(Path(kind), overrides)
        return ",".join([Path(kind).stem, *changes]), config.tracker
    if kind == "deepsort":  # a pipeline with it must say where its features come from
        overrides.append("appearance=histogram")
    return text, load_config(None, [f"tracker={kind}", *overrides]).tracker


def followers() -> list[str]:
    """Return every kind of tracker that follows by itself and needs no features."""
    return [kind for kind in TRACKERS if kind not in ("replay", "deepsort")]
