"""Camera motion: how the picture moved since the frame before, as a matrix a tracker can use.

Off unless asked for: a camera that is screwed to a wall does not move. BoT-SORT (Aharon et al.,
2022, section 3.2) measures it so: corners of the previous picture are found again in this one by
optical flow, and the matrix that most of them agree on is that of the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gait.strict import StrictModel
from pipeline.values import Frame
from trackers.boxes import Detections

Motion = NDArray[np.float64]
Grey = NDArray[np.uint8]


class CameraMotion(Protocol):
    """Adds `camera_motion` to detections; remembers the last frame of each stream."""

    def measure(
        self, frames: Sequence[Frame], detections: Sequence[Detections]
    ) -> list[Detections]:
        """Return the detections with `camera_motion`, shape (2, 3), or None where nobody can say.

        Frames of one stream come in time order. It moves, turns and zooms the points of the
        stream's previous frame to where they lie in this one.
        """
        ...

    def finish(self, stream: str) -> None:
        """Forget a stream that is over."""
        ...


class FlowConfig(StrictModel):
    """Corners followed by optical flow (Lucas-Kanade). A few milliseconds a frame.

    Attributes:
        width: Pixels the picture is shrunk to before it is looked at. Higher measures more
            finely, at the price of time.
        corners: How many corners are followed at most. Higher is surer, at the price of time.
        min_agreement: Share of the corners that must agree on one motion. Higher believes fewer
            wrong motions, at the price of none in pictures with much movement.
    """

    kind: Literal["flow"] = "flow"
    width: int = Field(default=640, ge=32, le=4096)
    corners: int = Field(default=400, ge=8, le=10_000)
    min_agreement: float = Field(default=0.4, gt=0, le=1)

    def build(self) -> CameraMotion:
        """Return the stage."""
        return _Measured(_Flow(self))


class EccConfig(StrictModel):
    """Whole pictures laid over each other (ECC). Slower than flow; works without corners.

    Attributes:
        width: Pixels the picture is shrunk to before it is looked at. Higher measures more
            finely, at the price of time.
        steps: Iterations at most. Higher finds larger motions, at the price of time.
        min_correlation: How well the pictures must fit in the end, in 0..1. Higher believes fewer
            wrong motions, at the price of none in pictures with much movement.
    """

    kind: Literal["ecc"] = "ecc"
    width: int = Field(default=320, ge=32, le=4096)
    steps: int = Field(default=50, ge=1, le=1000)
    min_correlation: float = Field(default=0.8, gt=0, le=1)

    def build(self) -> CameraMotion:
        """Return the stage."""
        return _Measured(_Ecc(self))


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """A shrunk grey picture.

    Attributes:
        grey: Shape (h, w).
        background: Shape (h, w), uint8: 255 where no person was found, 0 elsewhere.
        scale: Its pixels per pixel of the frame.
        epoch: Of its frame.
        hw: Of its frame.
    """

    grey: Grey
    background: Grey
    scale: float
    epoch: int
    hw: tuple[int, int]


class _Method(Protocol):
    width: int

    def between(self, before: _View, now: _View) -> Motion | None:
        """Return how the shrunk picture moved, shape (2, 3), or None."""
        ...


class _Measured:
    """Shrinks pictures, remembers the last of each stream, and asks a method."""

    def __init__(self, method: _Method) -> None:
        self._method = method
        self._last: dict[str, _View] = {}

    def measure(
        self, frames: Sequence[Frame], detections: Sequence[Detections]
    ) -> list[Detections]:
        return [
            replace(found, camera_motion=self._of(frame, found))
            for frame, found in zip(frames, detections, strict=True)
        ]

    def finish(self, stream: str) -> None:
        self._last.pop(stream, None)

    def _of(self, frame: Frame, found: Detections) -> Motion | None:
        before, now = self._last.get(frame.stream), _view(frame, found, self._method.width)
        self._last[frame.stream] = now
        if before is None or (before.epoch, before.hw) != (now.epoch, now.hw):
            return None
        motion = self._method.between(before, now)
        if motion is None or not _is_plausible(motion):
            return None
        motion[:, 2] /= now.scale
        return motion


class _Flow:
    def __init__(self, config: FlowConfig) -> None:
        self.width = config.width
        self._corners = config.corners
        self._min_agreement = config.min_agreement

    def between(self, before: _View, now: _View) -> Motion | None:
        corners = cv2.goodFeaturesToTrack(
            before.grey, self._corners, qualityLevel=0.01, minDistance=5, mask=before.background
        )
        if corners is None or len(corners) < _FEWEST_CORNERS:
            return None
        there, is_found, _ = cv2.calcOpticalFlowPyrLK(before.grey, now.grey, corners, None)  # type: ignore[call-overload]
        is_found = is_found.ravel().astype(bool)
        if is_found.sum() < _FEWEST_CORNERS:
            return None
        # OpenCV draws the samples of RANSAC from a generator of its own with a fixed seed.
        motion, agree = cv2.estimateAffinePartial2D(
            corners[is_found], there[is_found], method=cv2.RANSAC, ransacReprojThreshold=1.5
        )
        if motion is None or agree.sum() < self._min_agreement * len(corners):
            return None
        return np.asarray(motion, dtype=np.float64)


class _Ecc:
    def __init__(self, config: EccConfig) -> None:
        self.width = config.width
        self._steps = config.steps
        self._min_correlation = config.min_correlation

    def between(self, before: _View, now: _View) -> Motion | None:
        both = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, self._steps, 1e-4)
        try:
            correlation, motion = cv2.findTransformECC(
                before.grey,
                now.grey,
                np.eye(2, 3, dtype=np.float32),
                cv2.MOTION_EUCLIDEAN,
                both,
                now.background,
                5,
            )
        except cv2.error:  # it did not converge: nobody can say
            return None
        if correlation < self._min_correlation:
            return None
        return np.asarray(motion, dtype=np.float64)


_FEWEST_CORNERS = 8


def _view(frame: Frame, found: Detections, width: int) -> _View:
    grey = cv2.cvtColor(frame.image, cv2.COLOR_BGR2GRAY)
    scale = min(1.0, width / grey.shape[1])
    grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    background = np.full(grey.shape, 255, dtype=np.uint8)
    for left, top, right, bottom in np.clip(found.xyxy * scale, 0, max(grey.shape)).astype(int):
        background[top : bottom + 1, left : right + 1] = 0
    return _View(np.asarray(grey, dtype=np.uint8), background, scale, frame.epoch, frame.hw)


def _is_plausible(motion: Motion) -> bool:
    """Return whether a camera can do that between two frames: it does not zoom by half."""
    return bool(np.isfinite(motion).all() and 0.5 < np.linalg.det(motion[:, :2]) < 2.0)


CAMERA_MOTIONS: dict[str, type[FlowConfig] | type[EccConfig]] = {
    "flow": FlowConfig,
    "ecc": EccConfig,
}
"""Every way to measure it by the `kind` that chooses it."""

CameraMotionConfig = Annotated[FlowConfig | EccConfig, Field(discriminator="kind")]
