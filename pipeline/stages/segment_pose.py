"""The person of each box by BlazePose's segmentation output (`scripts/pose_to_onnx.py`)."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from gait.errors import CheckpointError, OutOfMemory, RuntimeFailed, RuntimeUnavailable
from gait.runtimes.opening import open_session
from gait.runtimes.session import Profile, Session, Vendor
from pipeline.errors import ModelError
from pipeline.stages.segment_guard import MaskGuards, Region, guarded, padded_region
from pipeline.stages.side_by_side import SideBySide
from pipeline.values import Frame
from pipeline.weights import sha256_of
from trackers.boxes import Mask, Tracks

logger = logging.getLogger(__name__)

_SIDE = 256  # pixels of the network's square input and mask
_MARGIN = 1.24  # side of the square crop in box heights; what the network was found to like best
_USUAL_BATCH, _LARGEST_BATCH = 8, 32  # crops that a GPU looks at together


class PoseSegmenter:
    """Return the person of each box, at the frame's resolution.

    The network takes a square crop around a box and answers 256 x 256 logits and the probability
    that there is a person. A GPU looks at up to 32 crops together, and at fewer where its memory
    does not suffice. The CPU looks at each by itself, in as many threads at once as may be used: 8
    in one call take it 25 % longer.
    Safe to call from any thread.

    Attributes:
        description: File, runtime and device.
        model_hash: SHA-256 of the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        backend: Vendor | Literal["auto"],
        device: str,
        threads: int,
        threshold: float,
        presence: float,
        guards: MaskGuards,
    ) -> None:
        at_once = 1 if backend == "openvino" else threads  # OpenVINO's calls wait for each other
        self._network = _Network(path, backend, device, threads if at_once == 1 else 1)
        self._calls = SideBySide(at_once, "segment")
        self._logit_threshold = math.log(threshold / (1 - threshold))
        self._presence = presence
        self._guards = guards
        self.model_hash: str | None = sha256_of(path)

    @property
    def description(self) -> str:
        """File, runtime and device, which may have changed when a GPU was lost."""
        return self._network.description

    def close(self) -> None:
        """Give back the network; the segmenter cannot be used afterwards."""
        self._calls.close()
        self._network.close()

    def segment(
        self, frames: Sequence[Frame], tracks: Sequence[Tracks]
    ) -> list[tuple[Mask | None, ...]]:
        """Return one mask per track of each frame; None where nothing trustworthy was found.

        Raises:
            ModelError: The network fails.
        """
        boxes = [
            _Box((i, j), frame.image, xyxy, region)
            for i, (frame, in_frame) in enumerate(zip(frames, tracks, strict=True))
            for j, xyxy in enumerate(in_frame.xyxy)
            if (region := padded_region(xyxy, frame.hw, self._guards)) is not None
        ]
        found: list[Mask | None] = []
        while len(found) < len(boxes) and (batch := self._network.batch) > 1:  # it may shrink
            found += self._masks(boxes[len(found) : len(found) + batch])
        found += self._calls.map(lambda box: self._masks([box])[0], boxes[len(found) :])
        masks = dict(zip((box.place for box in boxes), found, strict=True))
        return [
            tuple(masks.get((i, j)) for j in range(len(in_frame)))
            for i, in_frame in enumerate(tracks)
        ]

    def _masks(self, boxes: Sequence[_Box]) -> list[Mask | None]:
        squares = [_square_around(box.xyxy) for box in boxes]
        crops = [_crop(box.image, square) for box, square in zip(boxes, squares, strict=True)]
        logits, presences = self._network.run(np.stack(crops))
        return [
            self._mask(box, _in_region(answer, square, box.region))
            if presence >= self._presence
            else None
            for box, square, answer, presence in zip(boxes, squares, logits, presences, strict=True)
        ]

    def _mask(self, box: _Box, logits: NDArray[np.float32]) -> Mask | None:
        pixels = logits > self._logit_threshold
        return guarded(np.asarray(pixels), box.region, box.xyxy, self._guards)


@dataclass(frozen=True, slots=True)
class _Box:
    """A box large enough to be looked at.

    Attributes:
        place: Index of its frame, and of its track there.
        image: The frame.
        xyxy: The box.
        region: Where its mask may lie.
    """

    place: tuple[int, int]
    image: NDArray[np.uint8]
    xyxy: NDArray[np.float32]
    region: Region


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
    """Return the square of the image as the network takes it: (3, 256, 256), RGB in 0..1."""
    bgr = cv2.warpAffine(
        image,
        _to_square(square),
        (_SIDE, _SIDE),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    # Contiguous planes first: runtimes would copy a strided array anyway.
    planes = np.ascontiguousarray(bgr[..., ::-1].transpose(2, 0, 1))
    return np.divide(planes, 255, dtype=np.float32)


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
    """The graph, wherever it runs.

    Attributes:
        batch: Crops to look at together.
    """

    def __init__(
        self, path: Path, backend: Vendor | Literal["auto"], device: str, threads: int
    ) -> None:
        self._session = _open(path, backend, device, threads)
        _check(path, self._session)
        self._most = _LARGEST_BATCH

    def close(self) -> None:
        self._session.close()

    @property
    def description(self) -> str:
        return self._session.description

    @property
    def batch(self) -> int:
        # Asked each time: where a GPU is lost, the session goes on on the CPU.
        return 1 if self._session.description.endswith("(CPU)") else self._most

    def run(self, crops: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits, (N, 256, 256), and the probability of a person, (N,), of each crop."""
        try:
            answers = self._session.run({"crops": crops})
        except OutOfMemory as error:
            if len(crops) == 1:
                raise ModelError(f"segmenter: {error}") from error
            self._most = half = len(crops) // 2
            logger.warning("%s; going on with %d at a time", error, half)
            parts = [self.run(crops[:half]), self.run(crops[half:])]
            return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
        except (RuntimeFailed, RuntimeUnavailable, ValueError) as error:
            raise ModelError(f"segmenter: inference failed: {error}") from error
        return answers["mask"][:, 0], answers["presence"]


def _open(path: Path, backend: Vendor | Literal["auto"], device: str, threads: int) -> Session:
    least, usual, most = ((batch, 3, _SIDE, _SIDE) for batch in (1, _USUAL_BATCH, _LARGEST_BATCH))
    try:
        return open_session(
            path,
            vendor=backend,
            device=device,
            threads=threads,
            profiles={"crops": Profile(least, usual, most)},
        )
    except CheckpointError as error:
        raise ModelError(f"model {error}") from error
    except (RuntimeUnavailable, RuntimeFailed, ValueError) as error:
        raise ModelError(f"segmenter: {error}") from error


def _check(path: Path, session: Session) -> None:
    """Refuse a graph that takes or gives something else; the names of free axes do not matter."""
    wanted = {
        "crops": (3, _SIDE, _SIDE),
        "mask": (1, _SIDE, _SIDE),
        "presence": (),
    }
    found = {port.name: port for port in (*session.inputs, *session.outputs)}
    fits = len(session.inputs) == 1 and all(
        name in found
        and found[name].dtype == np.float32
        and isinstance(found[name].shape[0], str)
        and found[name].shape[1:] == shape
        for name, shape in wanted.items()
    )
    if not fits:
        told = ", ".join(f"{port.name} {port.shape}" for port in found.values())
        raise ModelError(
            f"model {path}: expected a graph from crops (N, 3, {_SIDE}, {_SIDE}) to mask "
            f"(N, 1, {_SIDE}, {_SIDE}) and presence (N,), all float32, as scripts/pose_to_onnx.py "
            f"writes it; got {told}"
        )
