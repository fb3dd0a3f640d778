"""The person of each box by BlazePose's segmentation output. The only file with ai_edge_litert."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.stages.segment_guard import MaskGuards, Region, guarded, padded_region
from pipeline.values import Frame
from pipeline.weights import sha256_of
from trackers.boxes import Mask, Tracks

_SIDE = 256  # pixels of the network's square input and mask
_MARGIN = 1.24  # side of the square crop in box heights; what the network was found to like best


class PoseSegmenter:
    """Return the person of each box, at the frame's resolution.

    The network takes a square crop around a box and answers 256 x 256 logits and the probability
    that there is a person. Crops go through one by one: a batch of 4 takes 9.5 ms a crop where one
    takes 9.1, with the identical result, and would be allocated anew at every change of size.
    Safe to call from any thread; calls of one object wait for each other.

    Attributes:
        description: File, runtime and threads.
        model_hash: SHA-256 of the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int,
        threshold: float,
        presence: float,
        guards: MaskGuards,
    ) -> None:
        self._network = _Network(path, threads)
        self._logit_threshold = math.log(threshold / (1 - threshold))
        self._presence = presence
        self._guards = guards
        self.model_hash: str | None = sha256_of(path)
        self.description = f"{path.name} by ai-edge-litert ({threads} threads)"

    def segment(
        self, frames: Sequence[Frame], tracks: Sequence[Tracks]
    ) -> list[tuple[Mask | None, ...]]:
        """Return one mask per track of each frame; None where nothing trustworthy was found.

        Raises:
            ModelError: The network fails.
        """
        return [
            tuple(self._mask(frame.image, xyxy) for xyxy in in_frame.xyxy)
            for frame, in_frame in zip(frames, tracks, strict=True)
        ]

    def _mask(self, image: NDArray[np.uint8], xyxy: NDArray[np.float32]) -> Mask | None:
        region = padded_region(xyxy, (image.shape[0], image.shape[1]), self._guards)
        if region is None:
            return None
        square = _square_around(xyxy)
        logits, presence = self._network.run(_crop(image, square))
        if presence < self._presence:
            return None
        pixels = _in_region(logits, square, region) > self._logit_threshold
        return guarded(np.asarray(pixels), region, xyxy, self._guards)


@dataclass(frozen=True, slots=True)
class _Square:
    """A square of the frame, in pixels, that the network sees."""

    left: float
    top: float
    side: float


def _square_around(xyxy: NDArray[np.float32]) -> _Square:
    left, top, right, bottom = xyxy.tolist()
    side = _MARGIN * (bottom - top)
    return _Square((left + right - side) / 2, (top + bottom - side) / 2, side)


def _to_square(square: _Square, left: int = 0, top: int = 0) -> NDArray[np.float64]:
    """Return the 2x3 matrix from indices of the square's pixels to those of a frame's region.

    Pixel i covers i to i + 1, so its centre, where it is sampled, lies at i + 0.5.
    """
    scale = square.side / _SIDE
    return np.array(
        [
            [scale, 0, square.left - left + scale / 2 - 0.5],
            [0, scale, square.top - top + scale / 2 - 0.5],
        ]
    )


def _crop(image: NDArray[np.uint8], square: _Square) -> NDArray[np.float32]:
    """Return the square of the image as the network takes it: (1, 256, 256, 3), RGB in 0..1."""
    bgr = cv2.warpAffine(
        image,
        _to_square(square),
        (_SIDE, _SIDE),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(bgr[None, ..., ::-1], dtype=np.float32) / np.float32(255)


def _in_region(logits: NDArray[np.float32], square: _Square, region: Region) -> NDArray[np.float32]:
    """Return the logits sampled at the region's pixels; outside the square nobody is."""
    return np.asarray(
        cv2.warpAffine(
            logits,
            _to_square(square, region.left, region.top),
            region.wh,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=-30.0,
        ),
        dtype=np.float32,
    )


class _Network:
    def __init__(self, path: Path, threads: int) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ModelError(
                "segmenter: ai-edge-litert is not installed; pip install ai-edge-litert"
            ) from error
        try:
            with _hushed():
                self._interpreter = Interpreter(str(path), num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(
                f"model {path}: expected a TensorFlow Lite file, got {error}"
            ) from error
        self._lock = threading.Lock()
        self._path = path
        self._input = self._find("input", self._interpreter.get_input_details(), (1, 256, 256, 3))
        outputs = self._interpreter.get_output_details()
        self._logits = self._find("output", outputs, (1, 256, 256, 1))
        self._presence = self._find("output", outputs, (1, 1))

    def run(self, crop: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
        """Return the mask's logits, (256, 256), and the probability that a person is there."""
        try:
            with self._lock:
                self._interpreter.set_tensor(self._input, crop)
                self._interpreter.invoke()
                logits = self._interpreter.get_tensor(self._logits)
                presence = self._interpreter.get_tensor(self._presence)
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"model {self._path}: inference failed ({error})") from error
        return np.asarray(logits[0, :, :, 0], dtype=np.float32), float(presence[0, 0])

    def _find(self, what: str, details: Sequence[Any], shape: tuple[int, ...]) -> int:
        for detail in details:
            if tuple(detail["shape"]) == shape and detail["dtype"] == np.float32:
                return int(detail["index"])
        got = [tuple(int(n) for n in detail["shape"]) for detail in details]
        raise ModelError(
            f"model {self._path}: expected a pose network with a float32 {what} of shape {shape}, "
            f"got {got}"
        )


@contextmanager
def _hushed() -> Iterator[None]:
    """Send what C++ writes to the error stream nowhere: TensorFlow Lite announces its delegate."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
