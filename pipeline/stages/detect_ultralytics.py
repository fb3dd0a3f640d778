"""Any YOLO file that Ultralytics can run. The only file that imports ultralytics (AGPL-3.0)."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.stages.detect_boxes import clip_to_frame
from pipeline.stages.detect_onnx import pick_classes
from pipeline.stages.torchvision_shim import ensure_torchvision
from pipeline.values import Frame
from pipeline.weights import sha256_of
from trackers.boxes import Detections, Mask

if TYPE_CHECKING:
    from pipeline.stages.detect import YoloConfig

logger = logging.getLogger(__name__)

_TASKS = {"detect", "segment"}
_SUFFIXES = {".pt", ".onnx", ".engine"}
_ZIP_MAGIC = b"PK\x03\x04"  # a .pt is a zip archive
_LARGEST_MASK_STEP = 4  # frames whose full-size masks are in memory at the same time


class UltralyticsDetector:
    """Return the people in each BGR frame, with masks when the model is a -seg model.

    A .pt file is a pickle, which can run code when it is opened. It is therefore opened with
    Ultralytics' safe loading (`weights_only=True` against a list of known classes), and refused
    where the installed version has none. An .engine is compiled code: use only your own.

    Ultralytics' automatic installation of packages, its telemetry and its settings file in the
    home folder are switched off, unless it was imported before this class was built.

    Attributes:
        description: File, version and device.
        model_hash: SHA-256 of the file.
    """

    def __init__(self, path: Path, config: YoloConfig) -> None:
        _check_file(path)
        ultralytics = _import_ultralytics()
        if path.suffix == ".pt":
            _require_safe_loading()
        self._config = config
        self._path = path
        try:
            self._model = ultralytics.YOLO(str(path), task=_task(path))
            self._predict([np.zeros((64, 64, 3), np.uint8)])  # opens the file, fails here if at all
        except ModelError:
            raise
        except Exception as error:  # Ultralytics raises whatever its parts do
            raise ModelError(f"model {path}: ultralytics cannot open it ({error})") from error
        if self._model.task not in _TASKS:
            raise ModelError(
                f"model {path}: expected a detection or -seg model, got one for {self._model.task}"
            )
        self._classes = pick_classes(str(path), dict(self._model.names), config.classes)
        self.model_hash: str | None = sha256_of(path)
        self.description = f"{path.name} by ultralytics {ultralytics.__version__} on {self._device}"

    def close(self) -> None:
        """Nothing is held that Python would not give back."""

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the people in each frame, in the frames' order.

        Raises:
            ModelError: Ultralytics fails.
        """
        found: list[Detections] = []
        step = self._step(len(frames))
        for start in range(0, len(frames), step):
            part = frames[start : start + step]
            results = self._predict([f.image for f in part], classes=self._classes)
            found += [self._detections(r, f.hw) for r, f in zip(results, part, strict=True)]
        return found

    @property
    def _device(self) -> str:
        if self._config.device != "auto":
            return self._config.device
        import torch

        return "cuda:0" if torch.cuda.is_available() else "cpu"

    def _step(self, num_frames: int) -> int:
        """Return how many frames one call may hold: exports have a fixed batch unless dynamic."""
        backend = getattr(self._model.predictor, "model", None)
        if self._path.suffix != ".pt" and not getattr(backend, "dynamic", False):
            return 1
        return max(1, min(num_frames, _LARGEST_MASK_STEP if self._is_seg else num_frames))

    @property
    def _is_seg(self) -> bool:
        return bool(self._model.task == "segment")

    def _predict(self, images: list[NDArray[np.uint8]], **extra: Any) -> list[Any]:
        if self._config.imgsz is not None:
            extra["imgsz"] = self._config.imgsz
        try:
            results: list[Any] = self._model.predict(
                images,
                conf=self._config.confidence,
                iou=self._config.iou,
                max_det=self._config.max_people,
                half=self._config.half,
                device=self._device,
                retina_masks=True,  # masks at the frame's resolution
                verbose=False,
                save=False,
                **extra,
            )
        except Exception as error:  # Ultralytics raises whatever its parts do
            raise ModelError(f"model {self._path}: ultralytics failed ({error})") from error
        return results

    def _detections(self, result: Any, frame_hw: tuple[int, int]) -> Detections:
        boxes = result.boxes.cpu().numpy()
        xyxy = clip_to_frame(boxes.xyxy.reshape(-1, 4), frame_hw)
        kept = np.flatnonzero(
            (xyxy[:, 3] - xyxy[:, 1] >= self._config.min_height_px) & (xyxy[:, 2] > xyxy[:, 0])
        )
        masks = None
        if self._is_seg:
            masks = tuple(_patch(result.masks.data[int(i)], xyxy[i]) for i in kept)
        confidence = np.clip(boxes.conf[kept], 0, 1).astype(np.float32)
        return Detections(xyxy=xyxy[kept], confidence=confidence, masks=masks)


def _patch(full: Any, xyxy: NDArray[np.float32]) -> Mask | None:
    """Return the part of a frame-sized mask inside its box, None when it is empty there."""
    left, top = np.floor(xyxy[:2]).astype(int).tolist()
    right, bottom = np.ceil(xyxy[2:]).astype(int).tolist()
    pixels = full[top:bottom, left:right].cpu().numpy() > 0.5
    return Mask(pixels, left, top) if pixels.any() else None


def _check_file(path: Path) -> None:
    if path.suffix not in _SUFFIXES:
        raise ModelError(
            f"model {path}: expected a file ending in {', '.join(sorted(_SUFFIXES))}, "
            f"got {path.suffix or 'no ending'}"
        )
    with path.open("rb") as file:
        head = file.read(4)
    if path.suffix == ".pt" and head != _ZIP_MAGIC:
        raise ModelError(
            f"model {path}: expected a PyTorch archive, got a file that begins with {head!r}; "
            "it is damaged, or no .pt at all"
        )


def _task(path: Path) -> str | None:
    """Return the task an .onnx export states; other files tell Ultralytics themselves."""
    if path.suffix != ".onnx":
        return None
    from pipeline.stages.detect_onnx import is_detection_model

    return "detect" if is_detection_model(path) else None


@cache
def _import_ultralytics() -> Any:
    folder = tempfile.TemporaryDirectory(prefix="trackletgait-ultralytics-")
    _kept_until_exit.append(folder)
    os.environ.setdefault("YOLO_CONFIG_DIR", folder.name)  # instead of ~/.config
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_OFFLINE", "true")  # no telemetry, no hub, no update checks
    os.environ.setdefault("YOLO_VERBOSE", "false")
    os.environ["ULTRALYTICS_SAFE_LOAD"] = "true"
    try:
        ensure_torchvision()
        import ultralytics
    except ImportError as error:
        raise ModelError(
            f"detector: this model needs ultralytics, which is not usable here ({error}); "
            "pip install 'trackletgait[yolo]'"
        ) from error
    return ultralytics


_kept_until_exit: list[tempfile.TemporaryDirectory[str]] = []


def _require_safe_loading() -> None:
    import ultralytics.utils

    if not getattr(ultralytics.utils, "SAFE_LOAD", False):
        raise ModelError(
            f"detector: ultralytics {ultralytics.__version__} cannot open a .pt without running "
            "the code in it; pip install -U ultralytics-opencv-headless, or export the model to "
            "ONNX where you trust it"
        )
