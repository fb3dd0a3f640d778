"""What the overload policy knows of one camera."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.values import Frame


@dataclass(slots=True)
class CameraLoad:
    """What is known of one camera.

    Attributes:
        last_index: Of its newest frame, admitted or not.
        admitted_index: Of the newest frame that was.
        epoch: Of that.
        counted_index: `last_index` at the beginning of the period.
        fps: Frames a second it makes, dropped ones included.
        stride: Of how many frames one is wanted.
        admitted: Frames admitted in the period.
        missed: Frames that were wanted besides and dropped before anybody could look at them.
    """

    last_index: int
    admitted_index: int
    epoch: int
    counted_index: int
    fps: float | None = None
    stride: int = 1
    admitted: int = 0
    missed: float = 0.0

    def due(self, frame: Frame) -> float:
        """Return how much a frame is wanted: 1 when it is just due, 0 when it is not."""
        self.last_index = frame.index
        if frame.epoch != self.epoch:
            return math.inf
        gap = frame.index - self.admitted_index
        return gap / self.stride if gap >= self.stride else 0.0

    def admit(self, frame: Frame) -> None:
        """Note that a frame is looked at."""
        if frame.epoch == self.epoch:
            self.missed += (frame.index - self.admitted_index) / self.stride - 1
        self.admitted += 1
        self.admitted_index, self.epoch = frame.index, frame.epoch

    def end_period(self, elapsed_s: float) -> None:
        """Measure the rate over a period of so many seconds, and begin the next one."""
        fps = (self.last_index - self.counted_index) / elapsed_s
        self.fps = fps if self.fps is None else (self.fps + fps) / 2
        self.counted_index, self.admitted, self.missed = self.last_index, 0, 0.0

    def wanted_fps(self, stride: int | None = None) -> float:
        """Return the frames a second that a stride (None: the present one) leaves."""
        return (self.fps or 0.0) / (stride or self.stride)
