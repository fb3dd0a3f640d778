"""What a live run is doing now: one row a camera, for `top`, metrics and whoever asks."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import Field

from gait.strict import StrictModel
from pipeline.latency import Latencies
from pipeline.sources.camera import CameraCounts
from pipeline.sources.camera_state import CameraState, Change
from pipeline.sources.cameras import AnyCamera
from pipeline.values import Frame

TO_TRACK = "capture to track"
TO_SIGHTING = "capture to sighting"

_SAMPLES = 6  # one a second: rates are those of the last five seconds


class CameraStatus(StrictModel):
    """One camera now.

    Attributes:
        name: Of the camera.
        address: Without its password.
        state: As `CameraState` names it.
        state_s: Seconds it has been in that state.
        reason: What went wrong, where something did.
        retry_in_s: Seconds until it is tried again; None where it is not waiting.
        fps_in: Frames a second it sends.
        fps_processed: Frames a second that go through the models.
        fps_dropped: Frames a second that newer ones replaced.
        decoded: Frames it has sent.
        processed: Frames that went through the models.
        dropped: Frames that newer ones replaced, or that had become too old.
        damaged: Packets and frames that did not decode.
        connections: Times it became live.
        age_s: Seconds since the newest frame that was processed; None before the first.
        people: In that frame; 0 when the camera gives no frames.
        latency_p50_s: From capture to track, over the last minute; None of nothing.
        latency_p95_s: The same of 95 in a hundred.
    """

    name: str
    address: str
    state: str
    state_s: float
    reason: str | None = None
    retry_in_s: float | None = None
    fps_in: float = 0.0
    fps_processed: float = 0.0
    fps_dropped: float = 0.0
    decoded: int = 0
    processed: int = 0
    dropped: int = 0
    damaged: int = 0
    connections: int = 0
    age_s: float | None = None
    people: int = 0
    latency_p50_s: float | None = None
    latency_p95_s: float | None = None


class SinkStatus(StrictModel):
    """One sink now.

    Attributes:
        name: Of the sink.
        written: Events it has written.
        dropped: Events it was too slow for.
        waiting: Events not written yet.
        error: Why it does not write; None when it does.
    """

    name: str
    written: int
    dropped: int
    waiting: int
    error: str | None = None


class LinkStatus(StrictModel):
    """The link to another machine now.

    Attributes:
        endpoint: Where it goes, or where we listen.
        is_connected: Whether the other side is there; None where we listen.
        waiting: Tracklets in the spool.
        waiting_s: Age of the oldest of them, in seconds.
        fill: How full the spool is, 0..1.
        counts: What became of tracklets, as the link counts them.
        problem: Why it does not work; None when it does.
    """

    endpoint: str
    is_connected: bool | None = None
    waiting: int = 0
    waiting_s: float = 0.0
    fill: float = 0.0
    counts: dict[str, int] = Field(default_factory=dict)
    problem: str | None = None


class StreamStatus(StrictModel):
    """A camera of another machine, as identity knows it now.

    Attributes:
        name: The sender's name, a slash, the camera's.
        heard_s: Seconds since the last tracklet.
        tracklets: How many have come.
        people: Whose tracks have not ended.
        sightings: How many tracks have ended.
        latency_p50_s: From capture to sighting, over the last minute; None of nothing.
        latency_p95_s: The same of 95 in a hundred.
    """

    name: str
    heard_s: float
    tracklets: int
    people: int
    sightings: int
    latency_p50_s: float | None = None
    latency_p95_s: float | None = None


class RunStatus(StrictModel):
    """A live run now.

    Attributes:
        version: Of trackletgait.
        pid: Of the process.
        uptime_s: Seconds since the run began.
        cameras: In the order they were added; of `identify` none.
        streams: The cameras of other machines, where those send.
        link: To another machine; None without one.
        sinks: Where events go.
        overload: What gives way, as `Level` names it.
        queue: Tracklets that wait to be identified.
        queue_lost: Tracklets that made room for newer ones.
        sightings: Sightings told.
        failures: Batches that a step failed on, by step.
        latency_s: p50, p95 and p99 of the last minute, by stage; None of nothing.
    """

    version: str
    pid: int
    uptime_s: float
    cameras: list[CameraStatus]
    streams: list[StreamStatus] = Field(default_factory=list)
    link: LinkStatus | None = None
    sinks: list[SinkStatus]
    overload: str
    queue: int
    queue_lost: int
    sightings: int
    failures: dict[str, int]
    latency_s: dict[str, list[float | None]]


@dataclass(slots=True)
class _Row:
    since_s: float
    change: Change | None = None
    processed: int = 0
    people: int = 0
    newest_s: float | None = None
    samples: deque[tuple[float, CameraCounts, int]] = field(
        default_factory=lambda: deque(maxlen=_SAMPLES)
    )


class Board:
    """Gathers what is known of every camera, in memory that does not grow.

    Args:
        latencies: Where the latencies of all cameras together are counted.
    """

    def __init__(self, latencies: Latencies) -> None:
        self.latencies = latencies
        self._of_cameras = Latencies()
        self._lock = threading.Lock()
        self._rows: dict[str, _Row] = {}

    def changed(self, change: Change) -> None:
        """A camera is in another state."""
        with self._lock:
            if change.state is CameraState.CLOSED:
                return
            row = self._row(change.camera)
            row.change, row.since_s = change, time.monotonic()

    def saw(self, frame: Frame, people: int, now_unix_s: float) -> None:
        """A frame has been through the models."""
        captured_s = now_unix_s if frame.captured_s is None else frame.captured_s
        with self._lock:
            row = self._row(frame.stream)
            row.processed += 1
            row.people, row.newest_s = people, captured_s
        self.latencies.observe(TO_TRACK, now_unix_s - captured_s)
        self._of_cameras.observe(frame.stream, now_unix_s - captured_s)

    def left(self, stream: str) -> None:
        """Everybody has left a camera: it gives no frames."""
        with self._lock:
            if stream in self._rows:
                self._rows[stream].people = 0

    def tick(self, cameras: Mapping[str, AnyCamera]) -> None:
        """Note the counts of the cameras there are, and forget the others; once a second."""
        now_s = time.monotonic()
        with self._lock:
            for name in [name for name in self._rows if name not in cameras]:
                del self._rows[name]
                self._of_cameras.forget(name)
            for name, camera in cameras.items():
                row = self._row(name)
                row.samples.append((now_s, camera.counts, row.processed))

    def silent_for_s(self, camera: AnyCamera) -> float:
        """Return for how many seconds a camera has not been live; 0 when it is."""
        with self._lock:
            row = self._row(camera.name)
            return 0.0 if camera.state is CameraState.LIVE else time.monotonic() - row.since_s

    def rows(self, cameras: Mapping[str, AnyCamera]) -> list[CameraStatus]:
        """Return every camera's status."""
        return [self._status(camera) for camera in cameras.values()]

    def _status(self, camera: AnyCamera) -> CameraStatus:
        counts, p = camera.counts, self._of_cameras.percentiles(camera.name)
        with self._lock:
            row = self._row(camera.name)
            state_s = time.monotonic() - row.since_s
            change, samples = row.change, list(row.samples)
            processed, people, newest_s = row.processed, row.people, row.newest_s
        retry_in_s = change.retry_in_s if change else None
        fps_in, fps_dropped, fps_processed = _rates(samples)
        return CameraStatus(
            name=camera.name,
            address=camera.address.shown,
            state=camera.state.value,
            state_s=round(state_s, 1),
            reason=change.reason if change else None,
            retry_in_s=None if retry_in_s is None else round(max(0.0, retry_in_s - state_s), 1),
            fps_in=fps_in,
            fps_processed=fps_processed,
            fps_dropped=fps_dropped,
            decoded=counts.decoded,
            processed=processed,
            dropped=counts.dropped,
            damaged=counts.damaged,
            connections=counts.connections,
            age_s=None if newest_s is None else round(max(0.0, time.time() - newest_s), 3),
            people=people,
            latency_p50_s=known(p.p50_s),
            latency_p95_s=known(p.p95_s),
        )

    def _row(self, name: str) -> _Row:
        if name not in self._rows:
            self._rows[name] = _Row(time.monotonic())
        return self._rows[name]


def known(seconds: float) -> float | None:
    """Return a percentile as JSON can hold it; None of nothing."""
    return round(seconds, 4) if math.isfinite(seconds) else None


def _rates(samples: list[tuple[float, CameraCounts, int]]) -> tuple[float, float, float]:
    if len(samples) < 2:
        return 0.0, 0.0, 0.0
    (from_s, old, was_processed), (to_s, new, processed) = samples[0], samples[-1]
    spans = new.decoded - old.decoded, new.dropped - old.dropped, processed - was_processed
    decoded, dropped, through = (round(max(0, n) / (to_s - from_s), 1) for n in spans)
    return decoded, dropped, through
