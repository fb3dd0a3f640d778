"""Detection models in Ultralytics' ONNX layout, run without ultralytics."""

from __future__ import annotations

import ast
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from gait.errors import CheckpointError, OutOfMemory, RuntimeFailed, RuntimeUnavailable
from gait.runtimes.onnx_file import OnnxFile, read_onnx
from gait.runtimes.opening import open_session
from gait.runtimes.session import Profile, Session, Vendor
from pipeline.errors import ModelError
from pipeline.stages.detect_boxes import clip_to_frame, suppress
from pipeline.stages.side_by_side import SideBySide
from pipeline.values import Frame
from pipeline.weights import sha256_of
from trackers.boxes import Detections

if TYPE_CHECKING:
    from pipeline.stages.detect import Resize, YoloConfig

logger = logging.getLogger(__name__)

_PADDING_GREY = 114  # what Ultralytics pads with in training and inference
_MAX_CANDIDATES = 1000  # boxes that enter suppression; beyond it the strongest
_DEFAULT_IMGSZ = 640  # of an export with a free input size that does not state one
_LARGEST_IMGSZ = 4096
_USUAL_BATCH, _LARGEST_BATCH = 8, 32  # pictures the model looks at together

_VENDORS: Mapping[str, Vendor | Literal["auto"]] = {
    "auto": "auto",
    "onnxruntime": "onnxruntime",
    "tensorrt": "tensorrt",
    "openvino": "openvino",
}


def is_detection_model(path: Path) -> bool:
    """Return whether an ONNX file is an Ultralytics export for detection (not -seg, -pose, ...).

    Raises:
        ModelError: The file is not an ONNX model.
    """
    return _read(path).metadata.get("task") == "detect"


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
    A model with a fixed batch of one is called once a frame, in as many threads at once as may be
    used; others with up to 32 frames at a time, and with fewer where the memory of a GPU does not
    suffice.

    Attributes:
        description: File, runtime, device and input size.
        model_hash: SHA-256 of the file.
    """

    def __init__(self, path: Path, config: YoloConfig) -> None:
        if config.half:
            raise ModelError("detector.half: an .onnx has its precision baked in; export it so")
        self._config = config
        file = _read(path)
        _check_task(path, file.metadata)
        self._classes = _class_indices(path, file.metadata, config.classes)
        input_name, shape = _input(path, file)
        self._imgsz = _image_size(path, shape, file.metadata, config.imgsz)
        self._batch = 1 if isinstance(shape[0], int) else _LARGEST_BATCH
        self.model_hash: str | None = sha256_of(path)
        # OpenVINO's calls wait for each other.
        at_once = config.threads if self._batch == 1 and config.backend != "openvino" else 1
        threads = config.threads if at_once == 1 else 1
        profile = _profile(self._imgsz, self._batch)
        self._session = _open(path, config, threads, {input_name: profile})
        self._calls = SideBySide(at_once, "detect")
        self.description = f"{self._session.description}, {self._imgsz} px"

    def close(self) -> None:
        """Give back the model; the detector cannot be used afterwards."""
        self._calls.close()
        self._session.close()

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the people in each frame, in the frames' order.

        Raises:
            ModelError: The model fails or answers in a layout that is not understood.
        """
        if self._batch == 1:
            return self._calls.map(lambda frame: self._detect_together([frame])[0], frames)
        found: list[Detections] = []
        while len(found) < len(frames):  # the batch may shrink meanwhile
            found += self._detect_together(frames[len(found) : len(found) + self._batch])
        return found

    def _detect_together(self, frames: Sequence[Frame]) -> list[Detections]:
        placed = [place(f.image, self._imgsz, self._config.resolved_resize) for f in frames]
        # Contiguous RGB planes first: runtimes would copy a strided array anyway.
        planes = np.stack(
            [np.ascontiguousarray(s[..., ::-1].transpose(2, 0, 1)) for s, _ in placed]
        )
        outputs = self._infer(np.divide(planes, 255, dtype=np.float32))
        return [
            self._decode(output, placement, frame.hw)
            for output, (_, placement), frame in zip(outputs, placed, frames, strict=True)
        ]

    def _infer(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the model answers for each image, shape (B, ...)."""
        port = self._session.inputs[0]
        try:
            answers = self._session.run({port.name: images.astype(port.dtype, copy=False)})
        except OutOfMemory as error:
            if len(images) == 1:
                raise ModelError(f"detector: {error}") from error
            self._batch = half = len(images) // 2
            logger.warning("%s; going on with %d at a time", error, half)
            return np.concatenate([self._infer(images[:half]), self._infer(images[half:])])
        except (RuntimeFailed, RuntimeUnavailable, ValueError) as error:
            raise ModelError(f"detector: inference failed: {error}") from error
        answer = answers[self._session.outputs[0].name]
        if len(answer) != len(images):
            raise ModelError(
                f"{self.description}: expected an answer for each of {len(images)} pictures, got "
                f"an output of shape {answer.shape}"
            )
        return answer.astype(np.float32, copy=False)

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
            people = output[wanted & (output[:, 4] >= self._config.confidence)]
            return people[:, :4], people[:, 4]
        rows = [4 + c for c in self._classes]
        if max(rows) >= len(output):
            raise ModelError(
                f"{self.description}: expected outputs (4 + classes, N) with row {max(rows)} for "
                f"people, got {output.shape}"
            )
        scores = output[rows].max(axis=0)
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


def _read(path: Path) -> OnnxFile:
    try:
        return read_onnx(path)
    except CheckpointError as error:
        raise ModelError(f"model {error}") from error


def _open(path: Path, config: YoloConfig, threads: int, profiles: dict[str, Profile]) -> Session:
    try:
        return open_session(
            path,
            vendor=_VENDORS[config.backend],
            device=config.device,
            threads=threads,
            profiles=profiles,
        )
    except CheckpointError as error:
        raise ModelError(f"model {error}") from error
    except (RuntimeUnavailable, RuntimeFailed, ValueError) as error:
        raise ModelError(f"detector: {error}") from error


def _profile(side: int, largest_batch: int) -> Profile:
    least, usual, most = (
        (min(batch, largest_batch), 3, side, side) for batch in (1, _USUAL_BATCH, _LARGEST_BATCH)
    )
    return Profile(least, usual, most)


def _input(path: Path, file: OnnxFile) -> tuple[str, tuple[int | str, ...]]:
    """Return name and shape of the one input."""
    shapes = list(file.inputs.items())
    if len(shapes) == 1:
        name, shape = shapes[0]
        if len(shape) == 4 and _may_be(shape[0], 1) and _may_be(shape[1], 3):
            return name, shape
    raise ModelError(
        f"model {path}: expected one input of shape (1 or free, 3, S, S), got "
        + (", ".join(f"{name} {shape}" for name, shape in shapes) or "none")
    )


def _may_be(axis: int | str, length: int) -> bool:
    return axis == length or isinstance(axis, str)


def _check_task(path: Path, metadata: Mapping[str, str]) -> None:
    task = metadata.get("task", "nothing")
    if task == "detect":
        return
    advice = "; use backend: ultralytics, which also yields the masks" if task == "segment" else ""
    raise ModelError(
        f"model {path}: expected an Ultralytics ONNX export for detection, "
        f"got one whose metadata names {task} as its task{advice}"
    )


def _class_indices(path: Path, metadata: Mapping[str, str], wanted: Sequence[str]) -> list[int]:
    names: dict[int, str] = _literal(path, metadata, "names", dict)
    if not all(isinstance(k, int) and k >= 0 and isinstance(v, str) for k, v in names.items()):
        raise ModelError(f"model {path}: metadata 'names': expected a name for each class number")
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
    path: Path, shape: Sequence[object], metadata: Mapping[str, str], asked: int | None
) -> int:
    height, width = shape[2:]
    if not (isinstance(height, int) and isinstance(width, int)):
        stated = (
            _literal(path, metadata, "imgsz", list) if "imgsz" in metadata else [_DEFAULT_IMGSZ]
        )
        return asked or _sensible(path, max(stated, default=_DEFAULT_IMGSZ))
    if height != width:
        raise ModelError(f"model {path}: expected a square input, got {height} x {width}")
    if asked not in (None, height):
        raise ModelError(
            f"detector.imgsz: {path.name} only takes {height}, got {asked}; leave imgsz out or "
            "export the model anew"
        )
    return _sensible(path, height)


def _sensible(path: Path, side: object) -> int:
    if isinstance(side, int) and 1 <= side <= _LARGEST_IMGSZ:
        return side
    raise ModelError(
        f"model {path}: expected an input of at most {_LARGEST_IMGSZ} pixels a side, got {side!r}"
    )


def _literal(path: Path, metadata: Mapping[str, str], key: str, expected: type) -> Any:
    try:
        value = ast.literal_eval(metadata[key])
    except (KeyError, ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise ModelError(
            f"model {path}: expected Ultralytics' metadata {key!r} in the file; export it with "
            "ultralytics"
        ) from error
    if not isinstance(value, expected):
        raise ModelError(f"model {path}: metadata {key!r}: expected a {expected.__name__}")
    return value
