"""Detection models in Ultralytics' ONNX layout, run by ONNX Runtime. No torch, no ultralytics."""

from __future__ import annotations

import ast
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.stages.detect_boxes import clip_to_frame, suppress
from pipeline.values import Frame
from pipeline.weights import sha256_of
from trackers.boxes import Detections

if TYPE_CHECKING:
    from pipeline.stages.detect import Resize, YoloConfig

logger = logging.getLogger(__name__)

_PADDING_GREY = 114  # what Ultralytics pads with in training and inference
_MAX_CANDIDATES = 1000  # boxes that enter suppression; beyond it the strongest
_DEFAULT_IMGSZ = 640  # of an export with a free input size that does not state one


def is_detection_model(path: Path) -> bool:
    """Return whether an ONNX file is an Ultralytics export for detection (not -seg, -pose, ...).

    Raises:
        ModelError: The file is not an ONNX model.
    """
    return _metadata(_open(path, threads=1, device="cpu")).get("task") == "detect"


@dataclass(frozen=True, slots=True)
class _Placement:
    """Where a frame's pixels went in the model's square: model = frame * scale + offset."""

    scale_xy: tuple[float, float]
    offset_xy: tuple[float, float]

    def to_frame(self, xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        scale = np.array(self.scale_xy * 2, dtype=np.float32)
        offset = np.array(self.offset_xy * 2, dtype=np.float32)
        return (xyxy - offset) / scale


class OnnxDetector:
    """Return the people in each BGR frame.

    The model takes RGB in 0..1 of shape (B, 3, S, S). Two output layouts are understood:
    (B, 4 + classes, N) with centres and sizes that still need suppression (YOLOv8, YOLO11, the
    bundled SSDLite), and (B, N, 6) with corners, confidence and class (end-to-end exports).
    A model with a fixed batch of one is called once a frame.

    Attributes:
        description: File, runtime and device.
        model_hash: SHA-256 of the file.
    """

    def __init__(self, path: Path, config: YoloConfig) -> None:
        if config.half:
            raise ModelError("detector.half: an .onnx has its precision baked in; export it so")
        self._config = config
        self._session = _open(path, threads=config.threads, device=config.device)
        metadata = _metadata(self._session)
        _check_task(path, metadata)
        self._classes = _class_indices(path, metadata, config.classes)
        self._input = self._session.get_inputs()[0]
        self._imgsz = _image_size(path, self._input.shape, metadata, config.imgsz)
        self._batches = not isinstance(self._input.shape[0], int)
        self._dtype = np.float16 if "float16" in self._input.type else np.float32
        self.model_hash: str | None = sha256_of(path)
        provider = self._session.get_providers()[0].removesuffix("ExecutionProvider")
        self.description = f"{path.name} at {self._imgsz} px by onnxruntime ({provider})"

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the people in each frame, in the frames' order.

        Raises:
            ModelError: The model fails or answers in a layout that is not understood.
        """
        if not frames:
            return []
        placed = [place(f.image, self._imgsz, self._config.resolved_resize) for f in frames]
        outputs = self._infer([square for square, _ in placed])
        return [
            self._decode(output, placement, frame.hw)
            for output, (_, placement), frame in zip(outputs, placed, frames, strict=True)
        ]

    def _infer(self, squares: Sequence[NDArray[np.uint8]]) -> Sequence[NDArray[np.float32]]:
        # Contiguous RGB planes first: ONNX Runtime would copy a strided array anyway.
        planes = np.stack([np.ascontiguousarray(s[..., ::-1].transpose(2, 0, 1)) for s in squares])
        batch = (planes / np.float32(255)).astype(self._dtype)
        steps = [batch] if self._batches else [batch[i : i + 1] for i in range(len(batch))]
        try:
            outputs = [self._session.run(None, {self._input.name: step})[0] for step in steps]
        except Exception as error:  # onnxruntime's own classes derive from nothing narrower
            raise ModelError(f"{self.description}: inference failed ({error})") from error
        return [row.astype(np.float32) for output in outputs for row in output]

    def _decode(
        self, output: NDArray[np.float32], placement: _Placement, frame_hw: tuple[int, int]
    ) -> Detections:
        xyxy, scores = self._people(output)
        strongest = np.argsort(-scores, kind="stable")[:_MAX_CANDIDATES]
        xyxy = clip_to_frame(placement.to_frame(xyxy[strongest]), frame_hw)
        scores = np.clip(scores[strongest], 0, 1)
        usable = (xyxy[:, 3] - xyxy[:, 1] >= self._config.min_height_px) & (
            xyxy[:, 2] - xyxy[:, 0] >= 1
        )
        xyxy, scores = xyxy[usable], scores[usable]
        kept = suppress(xyxy, scores, self._config.iou)[: self._config.max_people]
        return Detections(xyxy=xyxy[kept], confidence=scores[kept])

    def _people(
        self, output: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if output.ndim != 2:
            raise ModelError(
                f"{self.description}: expected (N, 6) or (4 + classes, N) outputs, "
                f"got {output.shape}"
            )
        if output.shape[1] == 6:
            wanted = np.isin(output[:, 5].astype(np.int64), self._classes)
            rows = output[wanted & (output[:, 4] >= self._config.confidence)]
            return rows[:, :4], rows[:, 4]
        scores = output[[4 + c for c in self._classes]].max(axis=0)
        confident = scores >= self._config.confidence
        centre, half_side = output[:2, confident].T, output[2:4, confident].T / 2
        return np.hstack([centre - half_side, centre + half_side]), scores[confident]


def place(
    image: NDArray[np.uint8], side: int, resize: Resize
) -> tuple[NDArray[np.uint8], _Placement]:
    """Return the image brought to (side, side, 3), and where its pixels went."""
    height, width = image.shape[:2]
    if resize == "stretch":
        stretched = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
        return np.asarray(stretched, np.uint8), _Placement((side / width, side / height), (0, 0))
    scale = side / max(height, width)
    inner_wh = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (side - inner_wh[0]) // 2, (side - inner_wh[1]) // 2
    square = np.full((side, side, 3), _PADDING_GREY, dtype=np.uint8)
    inner = square[top : top + inner_wh[1], left : left + inner_wh[0]]
    inner[:] = cv2.resize(image, inner_wh, interpolation=cv2.INTER_LINEAR)
    return square, _Placement((scale, scale), (left, top))


def _open(path: Path, *, threads: int, device: str) -> Any:
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError as error:
        raise ModelError(
            f"{path.name}: onnxruntime is not installed; pip install onnxruntime"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # A thread that spins while it waits takes the core from the stage that runs beside it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = _providers(onnxruntime.get_available_providers(), device)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's own classes derive from nothing narrower
        raise ModelError(
            f"model {path}: expected an ONNX file that onnxruntime can open, got {error}"
        ) from error


def _providers(available: Sequence[str], device: str) -> list[Any]:
    if device == "cpu" or (device == "auto" and "CUDAExecutionProvider" not in available):
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in available:
        raise ModelError(
            f"detector.device: expected cpu, got {device}: this onnxruntime has no CUDA; "
            "pip install onnxruntime-gpu in its place"
        )
    index = int(device.partition(":")[2] or 0)
    return [("CUDAExecutionProvider", {"device_id": index}), "CPUExecutionProvider"]


def _metadata(session: Any) -> dict[str, str]:
    return dict(session.get_modelmeta().custom_metadata_map)


def _check_task(path: Path, metadata: dict[str, str]) -> None:
    task = metadata.get("task", "nothing")
    if task == "detect":
        return
    advice = "; use backend: ultralytics, which also yields the masks" if task == "segment" else ""
    raise ModelError(
        f"model {path}: expected an Ultralytics ONNX export for detection, "
        f"got one whose metadata names {task} as its task{advice}"
    )


def _class_indices(path: Path, metadata: dict[str, str], wanted: Sequence[str]) -> list[int]:
    names: dict[int, str] = _literal(path, metadata, "names", dict)
    return pick_classes(str(path), names, wanted)


def pick_classes(model: str, names: dict[int, str], wanted: Sequence[str]) -> list[int]:
    """Return the indices of the classes that count as people.

    Raises:
        ModelError: The model has none of them; the message lists those it has.
    """
    found = [index for index, name in names.items() if name in wanted]
    if not found:
        has = list(names.values())
        more = f" and {len(has) - 10} more" if len(has) > 10 else ""
        raise ModelError(
            f"model {model}: expected a class named {' or '.join(wanted)}, "
            f"got {', '.join(has[:10])}{more}; choose another model or set detector.classes"
        )
    return found


def _image_size(
    path: Path, shape: Sequence[object], metadata: dict[str, str], asked: int | None
) -> int:
    height, width = shape[2:]
    if not (isinstance(height, int) and isinstance(width, int)):
        stated = (
            _literal(path, metadata, "imgsz", list) if "imgsz" in metadata else [_DEFAULT_IMGSZ]
        )
        return asked or int(max(stated))
    if height != width:
        raise ModelError(f"model {path}: expected a square input, got {height} x {width}")
    if asked not in (None, height):
        raise ModelError(
            f"detector.imgsz: {path.name} only takes {height}, got {asked}; leave imgsz out or "
            "export the model anew"
        )
    return height


def _literal(path: Path, metadata: dict[str, str], key: str, expected: type) -> Any:
    try:
        value = ast.literal_eval(metadata[key])
    except (KeyError, ValueError, SyntaxError) as error:
        raise ModelError(
            f"model {path}: expected Ultralytics' metadata {key!r} in the file; export it with "
            "ultralytics"
        ) from error
    if not isinstance(value, expected):
        raise ModelError(f"model {path}: metadata {key!r}: expected a {expected.__name__}")
    return value
