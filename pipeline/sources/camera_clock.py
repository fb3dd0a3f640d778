"""From a live stream's timestamps and the moments its frames arrive to seconds that rise."""

from __future__ import annotations

from fractions import Fraction

BELIEVED_S = 0.5
"""Timestamps further than this from the arrival are not believed: another clock, or a burst."""

BELIEVED_DELAY_S = 2.0
"""A camera that says a frame is older than this, or is yet to come, has not set its clock."""

_SMALLEST_STEP_S = 0.001
_EARLIEST_S = 0.1  # a frame may come so long before its time by the camera's clock: clocks differ


def captured_s(
    began_s: float | None, pts: int | None, time_base: Fraction, arrived_s: float
) -> float:
    """Return when a frame came to be: the camera's word where it has our time, else its arrival.

    Args:
        began_s: Unix time of timestamp 0 by the camera's clock (RTCP); None without.
        pts: The frame's timestamp in ticks; None without one.
        time_base: Seconds of a tick.
        arrived_s: Unix time of its arrival.
    """
    if began_s is None or pts is None:
        return arrived_s
    told_s = began_s + float(pts * time_base)
    is_believed = -_EARLIEST_S <= arrived_s - told_s <= BELIEVED_DELAY_S
    return min(told_s, arrived_s) if is_believed else arrived_s


class CameraClock:
    """Seconds since the camera's first frame, over all its connections.

    Within a connection frames are as far apart as the camera says: the network's jitter would look
    like a change of pace. The camera's clock is tied to ours at the frame that came with the least
    delay so far, and anew when the two are too far apart.
    """

    def __init__(self) -> None:
        self._origin_s: float | None = None
        self._last_s = -_SMALLEST_STEP_S
        self._time_base = Fraction(1, 1000)
        self._offset_s: float | None = None  # our time - the camera's

    def begin(self, time_base: Fraction) -> None:
        """A new connection: its timestamps have nothing to do with the last one's."""
        self._time_base = time_base
        self._offset_s = None

    def tick(self, pts: int | None, arrived_s: float) -> float:
        """Return the time of the next frame.

        Args:
            pts: Its timestamp in ticks; None without one.
            arrived_s: When it came, in seconds of a clock that never steps.
        """
        if self._origin_s is None:
            self._origin_s = arrived_s
        time_s = arrived_s - self._origin_s
        if pts is not None:
            time_s = self._smoothed(float(pts * self._time_base), time_s)
        self._last_s = max(time_s, self._last_s + _SMALLEST_STEP_S)
        return self._last_s

    def _smoothed(self, camera_s: float, ours_s: float) -> float:
        offset_s = ours_s - camera_s
        if self._offset_s is None or abs(offset_s - self._offset_s) > BELIEVED_S:
            self._offset_s = offset_s
        self._offset_s = min(self._offset_s, offset_s)
        return camera_s + self._offset_s
