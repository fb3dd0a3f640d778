"""From seconds on a camera's clock to the time of day."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from gait.tracklet import Tracklet
from pipeline.values import Frame


class StreamClocks:
    """When each camera's clock read 0; all tracklets of a track are told the same.

    For one thread at a time.

    Args:
        clock: Unix time in seconds, for cameras that do not tell it.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._origins: dict[str, float] = {}
        self._of_tracks: dict[tuple[str, int], float] = {}

    def note(self, frame: Frame) -> None:
        """Learn from a frame what the time of day is on its camera's clock."""
        captured_s = self._clock() if frame.captured_s is None else frame.captured_s
        self._origins[frame.stream] = captured_s - frame.time_s

    def stamped(self, tracklet: Tracklet) -> Tracklet:
        """Return a tracklet that says when its camera's clock read 0, as its track's first did."""
        origin_s = self._of_tracks.setdefault(
            tracklet.track, self._origins.get(tracklet.stream, 0.0)
        )
        if tracklet.is_last:
            del self._of_tracks[tracklet.track]
        return dataclasses.replace(tracklet, origin_unix_s=origin_s)

    def forget(self, stream: str) -> None:
        """Forget a camera, but not its tracks."""
        self._origins.pop(stream, None)
