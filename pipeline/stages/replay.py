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

_Row = tuple[float, float, float, float, float, float]  # id, left, top, width, height, confidence
STREAM = "{stream}"


class ReplayConfig(StrictModel):
    """Recorded boxes: compare trackers on the very same detections, or use a detector elsewhere.

    Attributes:
        file: MOTChallenge det file, one box a line: frame (from 1), id, left, top, width, height,
            confidence (-1: certain); further columns are ignored. Frame n is `Frame.index` n - 1.
            `{stream}` in the path stands for the stream's name; without it the file serves
            whichever stream there is. Ids from 0 are kept for `tracker: replay`, -1 is none.
    """

    kind: Literal["replay"] = "replay"
    file: str

    def build(self) -> ReplayDetector:
        """Read the file; a file a stream is read with the stream's first frame.

        Raises:
            ModelError: It is missing or not in the format.
        """
        return ReplayDetector(str(Path(self.file).expanduser()))


class ReplayDetector:
    """Return each frame's recorded boxes; a frame the file does not mention has none."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.description = f"boxes replayed from {Path(file).name}"
        self._recordings: dict[str, dict[int, Detections]] = {}
        is_for_all = STREAM not in file
        self.model_hash: str | None = sha256_of(Path(file)) if is_for_all else None
        if is_for_all:
            self._recording("")

    def close(self) -> None:
        """Nothing is held that Python would not give back."""

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the recorded boxes of each frame, by its index.

        Raises:
            ModelError: The stream's file is missing or not in the format.
        """
        return [self._recording(frame.stream).get(frame.index, Detections()) for frame in frames]

    def _recording(self, stream: str) -> dict[int, Detections]:
        path = self._file.replace(STREAM, stream)
        if path not in self._recordings:
            rows: dict[int, list[_Row]] = defaultdict(list)
            for index, row in _read(Path(path)):
                rows[index].append(row)
            self._recordings[path] = {
                i: _detections(rows[i], f"{path}:frame {i + 1}") for i in rows
            }
        return self._recordings[path]


def _detections(rows: Sequence[_Row], where: str) -> Detections:
    values = np.array(rows, dtype=np.float64)
    corners = values[:, 1:3]
    ids = values[:, 0].astype(np.int64)
    try:
        return Detections(
            xyxy=np.concatenate([corners, corners + values[:, 3:5]], axis=1).astype(np.float32),
            confidence=values[:, 5].astype(np.float32),
            ids=ids if (ids >= 0).all() else None,
        )
    except ValueError as error:
        raise ModelError(f"{where}: {error}") from error


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
        frame, who, left, top, width, height, confidence = map(float, line.split(",")[:7])
    except ValueError as error:
        raise ModelError(
            f"{where}: expected frame,id,left,top,width,height,confidence, got {line!r}"
        ) from error
    numbers_are_sane = all(map(math.isfinite, (frame, who, left, top, width, height, confidence)))
    if not (numbers_are_sane and frame >= 1 and width >= 0 and height >= 0 and confidence <= 1):
        raise ModelError(
            f"{where}: expected a frame from 1, sides from 0 and a confidence up to 1, got {line!r}"
        )
    confidence = 1.0 if confidence < 0 else confidence
    return int(frame) - 1, (who, left, top, width, height, confidence)
