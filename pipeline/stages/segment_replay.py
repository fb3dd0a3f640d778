"""A segmenter that reads its masks from a COCO file instead of looking at the frame."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gait.errors import DataError
from gait.synthetic.ground_truth import decode_rle
from pipeline.errors import ModelError
from pipeline.stages.replay import STREAM
from pipeline.values import Frame
from trackers.association import iou_matrix
from trackers.boxes import Mask, Tracks


@dataclass(frozen=True, slots=True)
class RecordedMask:
    """One mask as the file has it.

    Attributes:
        box: Left, top, width, height in pixels.
        hw: Height and width of the frame.
        counts: COCO's compressed run lengths.
    """

    box: tuple[int, int, int, int]
    hw: tuple[int, int]
    counts: str

    def decode(self) -> Mask | None:
        """Return the pixels inside the box; None when there are none.

        Raises:
            DataError: The run lengths are damaged.
        """
        left, top, width, height = self.box
        patch = decode_rle(self.counts, self.hw)[top : top + height, left : left + width]
        return Mask(np.ascontiguousarray(patch), left, top) if patch.any() else None


class ReplaySegmenter:
    """Gives each track the recorded mask whose box overlaps its own most."""

    model_hash: str | None = None

    def __init__(self, file: str, *, min_overlap: float) -> None:
        self._file = file
        self._min_overlap = min_overlap
        self.description = f"masks replayed from {Path(file).name}"
        self._recordings: dict[str, dict[int, list[RecordedMask]]] = {}

    def close(self) -> None:
        """Nothing is held that Python would not give back."""

    def segment(
        self, frames: Sequence[Frame], tracks: Sequence[Tracks]
    ) -> list[tuple[Mask | None, ...]]:
        """Return one mask per track of each frame; None where none was recorded.

        Raises:
            ModelError: The stream's file is missing, damaged or of frames of another size.
        """
        return [self._masks(f, t) for f, t in zip(frames, tracks, strict=True)]

    def _masks(self, frame: Frame, tracks: Tracks) -> tuple[Mask | None, ...]:
        path = Path(self._file.replace(STREAM, frame.stream))
        recorded = self._recording(path).get(frame.index, [])
        if not recorded or not len(tracks):
            return (None,) * len(tracks)
        overlaps = iou_matrix(tracks.xyxy.astype(np.float64), _corners(recorded))
        best = overlaps.argmax(axis=1)
        near = overlaps[np.arange(len(best)), best] >= self._min_overlap
        try:
            return tuple(
                _of_frame(recorded[row], frame).decode() if is_near else None
                for row, is_near in zip(best.tolist(), near.tolist(), strict=True)
            )
        except DataError as error:
            raise ModelError(f"segmenter.file: {path}: frame {frame.index + 1}: {error}") from error

    def _recording(self, path: Path) -> dict[int, list[RecordedMask]]:
        key = str(path)
        if key not in self._recordings:
            self._recordings[key] = read_masks(path)
        return self._recordings[key]


def _corners(recorded: Sequence[RecordedMask]) -> NDArray[np.float64]:
    boxes = np.array([each.box for each in recorded], dtype=np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _of_frame(recorded: RecordedMask, frame: Frame) -> RecordedMask:
    if recorded.hw != frame.hw:
        raise DataError(f"expected masks of {frame.hw} pixels like the frame, got {recorded.hw}")
    return recorded


def read_masks(path: Path) -> dict[int, list[RecordedMask]]:
    """Return the masks of each frame (from 0) of a COCO file whose images are frames from 1.

    Raises:
        ModelError: The file is missing or not in the format.
    """
    try:
        annotations = json.loads(path.read_bytes())["annotations"]
        masks: dict[int, list[RecordedMask]] = defaultdict(list)
        for each in annotations:
            masks[int(each["image_id"]) - 1].append(_parse(each))
    except OSError as error:
        raise ModelError(f"segmenter.file: cannot read {path} ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"segmenter.file: {path}: expected COCO annotations with image_id, bbox and "
            f"compressed run lengths ({type(error).__name__}: {error})"
        ) from error
    return dict(masks)


def _parse(annotation: dict[str, Any]) -> RecordedMask:
    left, top, width, height = (int(side) for side in annotation["bbox"])
    segmentation = annotation["segmentation"]
    rows, columns = (int(side) for side in segmentation["size"])
    if not isinstance(segmentation["counts"], str):
        raise ValueError("segmentation.counts is no text")
    return RecordedMask((left, top, width, height), (rows, columns), segmentation["counts"])
