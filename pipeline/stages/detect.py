"""Detectors: the people in each frame. The table of choices and how each is configured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import Field

from gait.strict import StrictModel
from pipeline.errors import ModelError
from pipeline.stages.replay import ReplayConfig
from pipeline.values import Frame
from pipeline.weights import resolve
from trackers.boxes import Detections

DEFAULT_MODEL = "ssdlite-coco-300"

Resize = Literal["stretch", "letterbox"]
Backend = Literal["auto", "onnxruntime", "tensorrt", "openvino", "ultralytics"]


class Detector(Protocol):
    """Finds the people in each frame; holds no state, so all streams share one.

    Attributes:
        description: What runs, in words for the run's record.
        model_hash: SHA-256 of the model file, or None when no model is involved.
    """

    description: str
    model_hash: str | None

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the people in each frame, in the frames' order."""
        ...

    def close(self) -> None:
        """Give back the model; the detector cannot be used afterwards."""
        ...


class YoloConfig(StrictModel):
    """A YOLO model, or the bundled SSDLite in the same layout.

    Attributes:
        model: The bundled "ssdlite-coco-300", or the path of an Ultralytics .pt, .onnx or .engine
            (detection or -seg) that has a person class. Only load a .pt whose source you trust.
        backend: "onnxruntime", "tensorrt" and "openvino" run .onnx detection models without
            ultralytics; "ultralytics" runs everything. "auto" takes, for an .onnx detection model,
            tensorrt where a GPU and the package are there, else onnxruntime; and for all others
            ultralytics. TensorRT is the fastest on a GPU, at the price of a first start that
            compiles; openvino can be faster than onnxruntime on Intel's processors.
        device: "auto" (a GPU where the backend finds one), "cpu", "cuda" or "cuda:N".
        half: Run in half precision on a GPU. Only ultralytics; an .onnx has its precision baked in.
        imgsz: Side in pixels the picture is resized to; None is the model's own. Higher finds
            smaller people, at the price of time that grows with its square.
        confidence: Boxes below are dropped. Kept low on purpose: ByteTrack uses weak boxes to
            bridge occlusions and has thresholds of its own. Higher costs it those, lower feeds it
            more false ones.
        iou: Of two boxes that overlap more, the weaker is dropped. Higher keeps people who stand
            close together, at the price of double boxes.
        classes: Names of the model's classes that count as people.
        min_height_px: Boxes that are not this high are dropped. Higher spares work on people too
            small to recognise, lower follows them anyway.
        max_people: At most so many boxes a frame, the strongest. Higher serves crowds, at the
            price of segmentation time.
        threads: Cores that may be used on the CPU, except with ultralytics: for as many frames or
            tiles at once where the model takes one a call, else for one call. One is best when
            the stages overlap; higher shortens the wait where nothing else runs. A live run takes
            all cores unless told.
        tiles: Overlapping pieces a frame is cut into along its longer side; None is 2 for the
            bundled model and 1 for any other. Higher finds smaller people, at a proportional cost.
        resize: "letterbox" keeps the picture's proportions, "stretch" fills the model's square;
            None is "stretch" for the bundled model and "letterbox" for any other. Ultralytics
            cannot stretch.
    """

    kind: Literal["yolo"] = "yolo"
    model: str = DEFAULT_MODEL
    backend: Backend = "auto"
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    half: bool = False
    imgsz: int | None = Field(default=None, ge=32, le=4096)
    confidence: float = Field(default=0.1, gt=0, lt=1)
    iou: float = Field(default=0.5, gt=0, le=1)
    classes: list[str] = Field(default=["person"], min_length=1)
    min_height_px: float = Field(default=16.0, ge=1)
    max_people: int = Field(default=100, ge=1)
    threads: int = Field(default=1, ge=1)
    tiles: int | None = Field(default=None, ge=1, le=8)
    resize: Resize | None = None

    def build(self) -> Detector:
        """Load the model.

        Raises:
            ModelError: The model is missing, unreadable, or has none of `classes`; or ultralytics
                is needed and not installed.
        """
        from pipeline.stages.detect_tiles import TiledDetector

        detector = self._build_whole(resolve(self.model))
        tiles = self.tiles or (2 if self._is_bundled else 1)
        if tiles == 1:
            return detector
        return TiledDetector(detector, tiles=tiles, iou=self.iou, max_people=self.max_people)

    @property
    def resolved_resize(self) -> Resize:
        """How the picture is brought to the model's size once None is decided."""
        return self.resize or ("stretch" if self._is_bundled else "letterbox")

    @property
    def _is_bundled(self) -> bool:
        return self.model == DEFAULT_MODEL

    def _build_whole(self, path: Path) -> Detector:
        if self._needs_ultralytics(path):
            if self.resize == "stretch":
                raise ModelError("detector.resize: ultralytics only letterboxes; drop 'stretch'")
            from pipeline.stages.detect_ultralytics import UltralyticsDetector

            return UltralyticsDetector(path, self)
        from pipeline.stages.detect_onnx import OnnxDetector

        return OnnxDetector(path, self)

    def _needs_ultralytics(self, path: Path) -> bool:
        if self.backend != "auto":
            return self.backend == "ultralytics"
        if path.suffix != ".onnx" or self.half:
            return True
        from pipeline.stages.detect_onnx import is_detection_model

        return not is_detection_model(path)


DETECTORS: dict[str, type[YoloConfig] | type[ReplayConfig]] = {
    "yolo": YoloConfig,
    "replay": ReplayConfig,
}
"""Every detector by the `kind` that chooses it."""

DetectorConfig = Annotated[YoloConfig | ReplayConfig, Field(discriminator="kind")]
