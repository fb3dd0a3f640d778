"""Camera motion: how the picture moved since the frame before, as a matrix a tracker can use.

Off unless asked for: a camera that is screwed to a wall does not move. BoT-SORT (Aharon et al.,
2022, section 3.2) measures it so: corners of the previous picture are found again in this one by
optical flow, and the matrix that most of them agree on is that of the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gait.strict import StrictModel
from pipeline.values import Frame
from trackers.boxes import Detections

Motion = NDArray[np.float64]
Grey = NDArray[np.uint8]

_FEWEST_CORNERS = 8  # that must be found again; a motion has four unknowns, and two numbers each


class FlowConfig(StrictModel):
    """Corners followed by optical flow (Lucas-Kanade). 8 ms a frame on one core.

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
        return CameraMotion(self)


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


class CameraMotion:
    """Adds `camera_motion` to detections; remembers the last frame of each stream."""

    def __init__(self, config: FlowConfig) -> None:
        self._config = config
        self._last: dict[str, _View] = {}

    def measure(
        self, frames: Sequence[Frame], detections: Sequence[Detections]
    ) -> list[Detections]:
        """Return the detections with `camera_motion`, shape (2, 3), or None where nobody can say.

        Frames of one stream come in time order. It moves, turns and zooms the points of the
        stream's previous frame to where they lie in this one.
        """
        return [
            replace(found, camera_motion=self._of(frame, found))
            for frame, found in zip(frames, detections, strict=True)
        ]

    def finish(self, stream: str) -> None:
        """Forget a stream that is over."""
        self._last.pop(stream, None)

    def _of(self, frame: Frame, found: Detections) -> Motion | None:
        before, now = self._last.get(frame.stream), _view(frame, found, self._config.width)
        self._last[frame.stream] = now
        if before is None or (before.epoch, before.hw) != (now.epoch, now.hw):
            return None
        motion = self._between(before, now)
        if motion is None or not _is_plausible(motion):
            return None
        motion[:, 2] /= now.scale
        return motion

    def _between(self, before: _View, now: _View) -> Motion | None:
        """Return how the shrunk picture moved."""
        corners = cv2.goodFeaturesToTrack(
            before.grey,
            self._config.corners,
            qualityLevel=0.01,
            minDistance=5,
            mask=before.background,
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
        if motion is None or agree.sum() < self._config.min_agreement * len(corners):
            return None
        return np.asarray(motion, dtype=np.float64)


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
