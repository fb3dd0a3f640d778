"""From a container's timestamps to seconds that rise strictly."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

JUMP_S = 1.0
"""A step back by this much is a new recording joined on, less is a muddled timestamp."""


class FrameClock:
    """Seconds since the first frame, of frames in order of presentation.

    Timestamps are believed wherever they rise. Where they do not:

    * none at all: one frame period after the last frame;
    * equal to the last or less than `JUMP_S` before it: half a period after the last frame, so that
      the next good timestamp is right again;
    * further back: the clock is set so that this frame falls one period after the last, and
      `segment` rises by one: files were joined, and nobody walks across the joint.
    """

    def __init__(
        self,
        time_base: Fraction,
        fps: float,
        oddities: Counter[str],
        origin_pts: int | None = None,
    ) -> None:
        """Start at the first frame.

        Args:
            time_base: Seconds per tick of the timestamps.
            fps: Nominal frames per second, used where timestamps fail.
            oddities: Where departures are counted, in words.
            origin_pts: Timestamp of second 0; None takes the first one that comes.
        """
        self.segment = 0
        self._time_base = time_base
        self._period_s = 1 / fps
        self._oddities = oddities
        self._origin_s = None if origin_pts is None else origin_pts * time_base
        self._last_s: float | None = None

    def tick(self, pts: int | None) -> float:
        """Return the time of the next frame in seconds."""
        self._last_s = self._now(pts)
        return self._last_s

    def _now(self, pts: int | None) -> float:
        next_s = 0.0 if self._last_s is None else self._last_s + self._period_s
        if pts is None:
            self._oddities["frames without a timestamp, placed by the frame rate"] += 1
            return next_s
        if self._origin_s is None:
            self._origin_s = pts * self._time_base - Fraction(next_s)
        time_s = float(pts * self._time_base - self._origin_s)
        if self._last_s is None or time_s > self._last_s:
            return time_s
        if self._last_s - time_s < JUMP_S:
            self._oddities["timestamps that did not rise, moved half a frame on"] += 1
            return self._last_s + self._period_s / 2
        self.segment += 1
        self._origin_s -= Fraction(next_s - time_s)
        return next_s
