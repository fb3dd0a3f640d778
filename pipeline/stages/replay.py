"""A detector that reads its boxes from a MOTChallenge file instead of looking at the frame."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from gait.strict import StrictModel
from pipeline.errors import ModelError
from pipeline.values import Frame
from pipeline.weights import sha256_of
from trackers.boxes import Detections

_Row = tuple[float, float, float, float, float]  # left, top, width, height, confidence


class ReplayConfig(StrictModel):
    """Recorded boxes: compare trackers on the very same detections, or use a detector elsewhere.

    Attributes:
        file: MOTChallenge det file, one box a line: frame (from 1), id, left, top, width, height,
            confidence (-1: certain); further columns are ignored. Frame n is `Frame.index` n - 1,
            of whichever stream.
    """

    kind: Literal["replay"] = "replay"
    file: str

    def build(self) -> ReplayDetector:
        """Read the file.

        Raises:
            ModelError: It is missing or not in the format.
        """
        return ReplayDetector(Path(self.file).expanduser())


class ReplayDetector:
    """Return each frame's recorded boxes; a frame the file does not mention has none."""

    def __init__(self, path: Path) -> None:
        self.model_hash: str | None = sha256_of(path)
        self.description = f"boxes replayed from {path.name}"
        rows: dict[int, list[_Row]] = defaultdict(list)
        for index, row in _read(path):
            rows[index].append(row)
        self._detections = {index: _detections(found) for index, found in rows.items()}

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the recorded boxes of each frame, by its index."""
        return [self._detections.get(frame.index, Detections()) for frame in frames]


def _detections(rows: Sequence[_Row]) -> Detections:
    values = np.array(rows, dtype=np.float32)
    xyxy = np.concatenate([values[:, :2], values[:, :2] + values[:, 2:4]], axis=1)
    return Detections(xyxy=xyxy, confidence=values[:, 4])


def _read(path: Path) -> Iterator[tuple[int, _Row]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"detector.file: cannot read {path} as text ({error})") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield _parse(line, f"{path}:{number}")


def _parse(line: str, where: str) -> tuple[int, _Row]:
    try:
        frame, _, left, top, width, height, confidence = map(float, line.split(",")[:7])
    except ValueError as error:
        raise ModelError(
            f"{where}: expected frame,id,left,top,width,height,confidence, got {line!r}"
        ) from error
    numbers_are_sane = all(map(math.isfinite, (frame, left, top, width, height, confidence)))
    if not (numbers_are_sane and frame >= 1 and width >= 0 and height >= 0 and confidence <= 1):
        raise ModelError(
            f"{where}: expected a frame from 1, sides from 0 and a confidence up to 1, got {line!r}"
        )
    return int(frame) - 1, (left, top, width, height, 1.0 if confidence < 0 else confidence)
