"""What identity knows of the cameras of other machines, for `top` and the metrics."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from gait.tracklet import Tracklet
from pipeline.latency import Latencies
from pipeline.live.status import TO_SIGHTING, StreamStatus, known

_MOST = 500  # whoever may send can make up names


@dataclass(slots=True)
class _Row:
    heard_s: float
    tracklets: int = 0
    sightings: int = 0
    open: set[int] = field(default_factory=set)


class StreamBoard:
    """Gathers what came of every stream, in memory that does not grow; from any thread.

    Args:
        latencies: Where the latencies of all streams together are counted.
    """

    def __init__(self, latencies: Latencies) -> None:
        self._latencies = latencies
        self._of_streams = Latencies()
        self._lock = threading.Lock()
        self._rows: dict[str, _Row] = {}

    def identified(self, tracklet: Tracklet, latency_s: float) -> None:
        """A tracklet has been through identity, so long after its last frame."""
        with self._lock:
            row = self._rows.setdefault(tracklet.stream, _Row(0.0))
            row.heard_s = time.monotonic()
            row.tracklets += 1
            if tracklet.is_last:
                row.open.discard(tracklet.track_id)
                row.sightings += 1
            else:
                row.open.add(tracklet.track_id)
            if len(self._rows) > _MOST:
                oldest = min(self._rows, key=lambda name: self._rows[name].heard_s)
                del self._rows[oldest]
                self._of_streams.forget(oldest)
        if len(tracklet):
            self._of_streams.observe(tracklet.stream, latency_s)
            self._latencies.observe(TO_SIGHTING, latency_s)

    def __contains__(self, stream: object) -> bool:
        """Whether a stream has a row."""
        with self._lock:
            return stream in self._rows

    def rows(self) -> list[StreamStatus]:
        """Return every stream's status, by name."""
        with self._lock:
            rows = sorted(self._rows.items())
            return [self._status(name, row) for name, row in rows]

    def _status(self, name: str, row: _Row) -> StreamStatus:
        p = self._of_streams.percentiles(name)
        return StreamStatus(
            name=name,
            heard_s=round(time.monotonic() - row.heard_s, 1),
            tracklets=row.tracklets,
            people=len(row.open),
            sightings=row.sightings,
            latency_p50_s=known(p.p50_s),
            latency_p95_s=known(p.p95_s),
        )
