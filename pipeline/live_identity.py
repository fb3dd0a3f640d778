"""The second half of a live run: tracklets out of the queue, events about people out."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence

from pydantic import JsonValue

from gait.tracklet import Tracklet
from pipeline.identity import Identity
from pipeline.latency import Latencies
from pipeline.live_clocks import StreamClocks
from pipeline.live_failures import Failures
from pipeline.live_status import TO_SIGHTING
from pipeline.overload import OverloadPolicy
from pipeline.sinks.live import Event, sighting_event
from pipeline.transport.superseding import SupersedingQueue
from pipeline.values import Embedding, Frame, Match, Sighting
from trackers.boxes import Mask, Tracks

_INTERRUPTED_S = 1.0
"""Seconds kept for what is left when nothing is embedded any more."""


class LiveIdentity:
    """Identifies in a thread of its own; a `Witness` of its own work.

    Each track is told of as soon as somebody is recognised ("seen", again when the identity
    changes) and when it has ended ("ended"), under one id.

    Args:
        identity: Not used by anybody else meanwhile.
        queue: Where tracklets come from; closing it ends the thread.
        tell: Where events go; must not block.
        clocks: Told of every track that has ended.
        latencies: Where the time from capture to sighting is counted.
        failures: Told how each batch of tracklets went.
        overload: Asked how long to rest after each.
    """

    def __init__(
        self,
        identity: Identity,
        queue: SupersedingQueue,
        tell: Callable[[Event], None],
        *,
        clocks: StreamClocks,
        latencies: Latencies,
        failures: Failures,
        overload: OverloadPolicy,
    ) -> None:
        self.num_sightings = 0
        self._identity = identity
        self._queue = queue
        self._tell = tell
        self._clocks = clocks
        self._latencies = latencies
        self._failures = failures
        self._overload = overload
        self._is_ending = threading.Event()
        self._seen: dict[tuple[str, int], str] = {}  # identities told of tracks still open
        self._thread = threading.Thread(target=self._work, name="identity", daemon=True)

    def start(self) -> None:
        """Begin to identify."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it is at work."""
        return self._thread.is_alive()

    def end(self, within_s: float) -> bool:
        """Identify what waits, without embedding it when time runs out; say whether it is over."""
        self._queue.close()
        self._is_ending.set()
        if not self._thread.is_alive():
            return True
        self._thread.join(max(0.0, within_s - _INTERRUPTED_S))
        if self._thread.is_alive():
            self._identity.interrupt()
            self._thread.join(min(within_s, _INTERRUPTED_S))
        return not self._thread.is_alive()

    def saw(self, frame: Frame, tracks: Tracks, masks: Sequence[Mask | None]) -> None:
        """Nothing: this half sees no frames."""

    def recognised(
        self, tracklet: Tracklet, embedding: Embedding | None, match: Match | None
    ) -> None:
        """Tell of somebody who has just been recognised and is still there."""
        if match is None or match.identity is None or tracklet.is_last:
            return
        key = tracklet.stream, tracklet.track_id
        if self._seen.get(key) == match.identity:
            return
        self._seen[key] = match.identity
        self._tell_of(_first_sighting(tracklet, match), "seen")

    def _work(self) -> None:
        while not self._queue.is_over:
            if tracklets := self._queue.get():
                began_s = time.monotonic()
                self._identify(tracklets)
                rest_s = self._overload.identity_rest_s(time.monotonic() - began_s)
                self._is_ending.wait(rest_s)
        for sighting in self._identity.finish():
            self._end(sighting)

    def _identify(self, tracklets: Sequence[Tracklet]) -> None:
        try:
            sightings = self._identity.identify(tracklets, self)
        except Exception as error:
            self._failures.failed(error)
            sightings = self._without_looking(tracklets)
        else:
            self._failures.worked()
        for sighting in sightings:
            self._end(sighting)
        self._observe(tracklets)

    def _without_looking(self, tracklets: Sequence[Tracklet]) -> list[Sighting]:
        """Return what can be said when the models have failed: tracks must end all the same."""
        try:
            return self._identity.identify([_emptied(tracklet) for tracklet in tracklets], self)
        except Exception as error:
            self._failures.failed(error)
            return []

    def _end(self, sighting: Sighting) -> None:
        self._seen.pop((sighting.stream, sighting.track_id), None)
        self._tell_of(sighting, "ended")
        self._clocks.end(sighting.stream, sighting.track_id)
        self.num_sightings += 1

    def _tell_of(self, sighting: Sighting, what: str) -> None:
        def unix_s(time_s: float) -> float:
            return round(self._clocks.unix_s(sighting.stream, sighting.track_id, time_s), 3)

        start_unix_s = unix_s(sighting.start_s)
        more: dict[str, JsonValue] = {
            "event": what,
            "id": f"{sighting.stream}/{sighting.track_id}/{round(1000 * start_unix_s)}",
            "camera": sighting.stream,
            "start_unix_s": start_unix_s,
            "end_unix_s": unix_s(sighting.end_s),
        }
        self._tell(sighting_event(sighting, time.time(), more))

    def _observe(self, tracklets: Sequence[Tracklet]) -> None:
        now_s = time.time()
        for tracklet in tracklets:
            if len(tracklet):
                last_s = float(tracklet.times_s[-1])
                captured_s = self._clocks.unix_s(tracklet.stream, tracklet.track_id, last_s)
                self._latencies.observe(TO_SIGHTING, now_s - captured_s)


def _first_sighting(tracklet: Tracklet, match: Match) -> Sighting:
    return Sighting(
        identity=match.identity,
        stream=tracklet.stream,
        track_id=tracklet.track_id,
        start_s=tracklet.seen_s[0],
        end_s=tracklet.seen_s[1],
        distance=None if match.is_new else match.distance,
        is_new=match.is_new,
        quality=tracklet.quality,
        num_silhouettes=len(tracklet),
        tracklets=(tracklet.uid,),
        reasons=tracklet.reasons,
    )


def _emptied(tracklet: Tracklet) -> Tracklet:
    return dataclasses.replace(
        tracklet,
        silhouettes=tracklet.silhouettes[:0].copy(),
        frame_indices=tracklet.frame_indices[:0].copy(),
        times_s=tracklet.times_s[:0].copy(),
        quality=0.0,
    )
