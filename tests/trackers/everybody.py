"""Every tracker, and a scene in which four people pass each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from trackers.botsort import BotSort
from trackers.boxes import Detections, SavedTracker, Tracks
from trackers.bytetrack import ByteTrack
from trackers.deepsort import DeepSort
from trackers.ocsort import OCSort
from trackers.sort import Sort

Make = Callable[..., SavedTracker]
OURS = [Sort, ByteTrack, OCSort, BotSort]
ALL = [*OURS, DeepSort]
LOOKS = np.eye(8, dtype=np.float32)

ours = pytest.mark.parametrize("make", OURS)
all_trackers = pytest.mark.parametrize("make", ALL)


def ids(tracks: Tracks) -> list[int]:
    return [int(i) for i in tracks.track_ids]


def seen_by(
    tracker: SavedTracker, frames: list[Detections], interval_s: float = 0.04
) -> list[Tracks]:
    return [tracker.update(frame, interval_s=interval_s) for frame in frames]


def same(first: Tracks, second: Tracks) -> bool:
    return (
        ids(first) == ids(second)
        and first.ended == second.ended
        and np.array_equal(first.xyxy, second.xyxy)
    )


def crossing(n: int = 60, seed: int = 0) -> list[Detections]:
    """Return four people on lanes who pass each other, seen with jitter, each with their looks."""
    rng = np.random.default_rng(seed)
    lanes, starts, steps = np.arange(4) * 40.0, [0, 400, 20, 380], [5, -5, 4, -6]
    frames = []
    for i in range(n):
        x = np.array([a + b * i for a, b in zip(starts, steps, strict=True)], dtype=float)
        boxes = np.stack([x, lanes, x + 40, lanes + 100], axis=1) + rng.normal(0, 1, (4, 4))
        order = rng.permutation(4)
        frames.append(
            Detections(
                boxes[order].astype(np.float32),
                rng.uniform(0.7, 0.95, 4).astype(np.float32),
                features=LOOKS[order],
            )
        )
    return frames
