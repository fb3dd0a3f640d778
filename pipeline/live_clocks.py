"""From seconds on a camera's clock to the time of day."""

from __future__ import annotations

import threading
import time

from gait.tracklet import Tracklet
from pipeline.values import Frame


class StreamClocks:
    """When each camera's clock read 0, remembered for every track until its sighting is told.

    A camera that is removed and added again begins a new clock, while tracklets of the old one may
    still wait to be identified.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._origins: dict[str, float] = {}
        self._of_tracks: dict[tuple[str, int], float] = {}

    def note(self, frame: Frame) -> None:
        """Learn from a frame what the time of day is on its camera's clock."""
        captured_s = time.time() if frame.captured_s is None else frame.captured_s
        with self._lock:
            self._origins[frame.stream] = captured_s - frame.time_s

    def begin(self, tracklet: Tracklet) -> None:
        """Remember the clock of a tracklet's track."""
        key = tracklet.stream, tracklet.track_id
        with self._lock:
            self._of_tracks.setdefault(key, self._origins.get(tracklet.stream, 0.0))

    def unix_s(self, stream: str, track_id: int, time_s: float) -> float:
        """Return a moment of a track in seconds since 1970."""
        with self._lock:
            origin_s = self._of_tracks.get((stream, track_id), self._origins.get(stream, 0.0))
        return origin_s + time_s

    def end(self, stream: str, track_id: int) -> None:
        """Forget a track."""
        with self._lock:
            self._of_tracks.pop((stream, track_id), None)

    def forget(self, stream: str) -> None:
        """Forget a camera, but not its tracks."""
        with self._lock:
            self._origins.pop(stream, None)
