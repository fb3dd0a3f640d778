"""The second half of a live run: tracklets in, events about people out."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import JsonValue

from gait.tracklet import Tracklet
from pipeline.errors import PipelineError
from pipeline.identity import Identity
from pipeline.live.failures import Failures
from pipeline.sinks.live import Event, sighting_event
from pipeline.transport.spool import Track
from pipeline.values import Embedding, Frame, Match, Sighting
from trackers.boxes import Mask, Tracks

logger = logging.getLogger(__name__)

_MOST_REVISABLE = 1000

_INTERRUPTED_S = 1.0
"""Seconds kept for what is left when nothing is embedded any more."""


class TrackletSource(Protocol):
    """Where tracklets come from: the queue of this process, or other machines."""

    @property
    def is_over(self) -> bool:
        """Whether no more will come."""
        ...

    def get(self) -> list[Tracklet]:
        """Wait for tracklets and return some; now and then none."""
        ...

    def close(self) -> None:
        """Say that no more are wanted, and wake who waits."""
        ...


@dataclass(slots=True)
class Told:
    """What is known of a track that has not ended.

    Attributes:
        origin_unix_s: When its camera's clock read 0, in seconds since 1970.
        identity: Who was told of; None when nobody was yet.
        is_new: Whether it was told as somebody new.
        start_s: Since when it is this person, on the camera's clock, where it was somebody else
            before.
    """

    origin_unix_s: float
    identity: str | None = None
    is_new: bool = False
    start_s: float | None = None


class LiveIdentity:
    """Identifies in a thread of its own; a `Witness` of its own work.

    Each track is told of as soon as somebody is recognised ("seen") and when it has ended
    ("ended"), under one id; where it turns out to be somebody else, before its end or after, with
    who it was said to be ("revised"). A track that goes over to somebody else is two sightings, the
    first of which says when ("switched_at_s"). The same tracklets give events of the same uids.

    Args:
        identity: Not used by anybody else meanwhile.
        source: Where tracklets come from; closing it ends the thread.
        tell: Where events go; must not block.
        observe: Told of every tracklet that was identified, and the seconds since its last frame.
        failures: Told how each batch of tracklets went.
        rest_s: Asked, with the seconds a batch took, how long to rest after it.
        written: Told which tracks have ended, once their events were told. Given where a source
            keeps the tracklets of the others and brings them again in the next run, so that what
            is left at the end stays as it is: embedding is not cut short, no track ends.
        told: What earlier runs have told of such tracks.
        gallery: Uid of the gallery whose pseudonyms these are, which every event says.
    """

    def __init__(
        self,
        identity: Identity,
        source: TrackletSource,
        tell: Callable[[Event], None],
        *,
        observe: Callable[[Tracklet, float], None],
        failures: Failures,
        rest_s: Callable[[float], float] = lambda worked_s: 0.0,
        written: Callable[[Collection[Track]], None] | None = None,
        told: Mapping[Track, Told] | None = None,
        gallery: str | None = None,
    ) -> None:
        self.num_sightings = 0
        self._identity = identity
        self._source = source
        self._tell = tell
        self._observe = observe
        self._failures = failures
        self._rest_s = rest_s
        self._written = written
        self._gallery = gallery
        self._is_ending = threading.Event()
        self._told = dict(told or {})
        self._over: dict[Track, Told] = {}  # the last that ended: they may be revised
        # What is told of somebody once it is told that who the track was before has ended.
        self._next: dict[Track, list[tuple[Sighting, str]]] = {}
        self._thread = threading.Thread(target=self._work, name="identity", daemon=True)

    @property
    def when_lost(self) -> str:
        """What it means when `end` says that it is not over."""
        fate = "are lost" if self._written is None else "come again in the next run"
        return f"identity is still at work: its last tracklets {fate}"

    def start(self) -> None:
        """Begin to identify."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it is at work."""
        return self._thread.is_alive()

    def end(self, within_s: float) -> bool:
        """Identify what waits, without embedding it when time runs out; say whether it is over."""
        self._source.close()
        self._is_ending.set()
        if not self._thread.is_alive():
            return True
        self._thread.join(max(0.0, within_s - _INTERRUPTED_S))
        if self._thread.is_alive() and self._written is None:
            self._identity.interrupt()
        self._thread.join(min(within_s, _INTERRUPTED_S))
        return not self._thread.is_alive()

    def saw(self, frame: Frame, tracks: Tracks, masks: Sequence[Mask | None]) -> None:
        """Nothing: this half sees no frames."""

    def recognised(
        self, tracklet: Tracklet, embedding: Embedding | None, match: Match | None
    ) -> None:
        """Tell of somebody who has just been recognised and is still there."""
        if match is None:
            return
        told = self._told[tracklet.track]
        if match.switched_at_s is not None:
            told.identity, told.start_s = None, match.switched_at_s
            self._next.setdefault(tracklet.track, [])
        if match.identity is None or tracklet.is_last or told.identity == match.identity:
            return
        was, told.identity, told.is_new = told.identity, match.identity, match.is_new
        sighting = _first_sighting(tracklet, match, told.start_s)
        what = "seen"
        if was is not None:
            sighting, what = dataclasses.replace(sighting, is_revision=True, was=was), "revised"
        if tracklet.track in self._next:
            self._next[tracklet.track].append((sighting, what))
        else:
            self._tell_of(sighting, what)

    def _work(self) -> None:
        try:
            while not self._source.is_over:
                if tracklets := self._source.get():
                    began_s = time.monotonic()
                    self._identify(tracklets)
                    self._is_ending.wait(self._rest_s(time.monotonic() - began_s))
            if self._written is None:
                self._end(self._identity.finish())
        except BaseException as error:  # none is expected here: those of a batch are dealt with
            logger.exception("identity ended")
            words = f"identity ended: {type(error).__name__}: {error}"
            self._failures.give_up(PipelineError(words))

    def _identify(self, tracklets: Sequence[Tracklet]) -> None:
        for tracklet in tracklets:
            self._told.setdefault(tracklet.track, Told(tracklet.origin_unix_s or 0.0))
        self._next.clear()
        try:
            sightings = self._identity.identify(tracklets, self)
        except Exception as error:
            self._failures.failed(error)
            sightings = self._without_looking(tracklets)
        else:
            self._failures.worked()
        self._count(tracklets)
        self._end(sightings)

    def _without_looking(self, tracklets: Sequence[Tracklet]) -> list[Sighting]:
        """Return what can be said when the models have failed: tracks must end all the same."""
        try:
            return self._identity.identify([each.emptied() for each in tracklets], self)
        except Exception as error:
            self._failures.failed(error)
            return []

    def _end(self, sightings: Iterable[Sighting]) -> None:
        ended = []
        for sighting in sightings:
            track = sighting.stream, sighting.track_id
            if sighting.is_revision:
                self._tell_of(sighting, "revised")
                continue
            goes_on_s = self._goes_on_s(sighting)
            self._tell_of(self._as_told(sighting), "ended", switched_at_s=goes_on_s)
            self.num_sightings += 1
            if goes_on_s is None:
                self._close(track)
                ended.append(track)
            for said in self._next.pop(track, ()):
                self._tell_of(*said)
        if ended and self._written is not None:
            self._written(ended)

    def _goes_on_s(self, sighting: Sighting) -> float | None:
        """Return since when the sighting's track is another's; None when it has ended."""
        start_s = self._told.get((sighting.stream, sighting.track_id), _NOTHING).start_s
        return start_s if start_s is not None and sighting.start_s < start_s else None

    def _close(self, track: Track) -> None:
        self._over[track] = self._told.pop(track, _NOTHING)
        if len(self._over) > _MOST_REVISABLE:
            del self._over[next(iter(self._over))]

    def _as_told(self, sighting: Sighting) -> Sighting:
        """Return a sighting that still is of somebody new after a restart in between."""
        told = self._told.get((sighting.stream, sighting.track_id))
        if told is None or not told.is_new or told.identity != sighting.identity:
            return sighting
        return dataclasses.replace(sighting, is_new=True, distance=None)

    def _tell_of(
        self, sighting: Sighting, what: str, *, switched_at_s: float | None = None
    ) -> None:
        track = sighting.stream, sighting.track_id
        told = self._told.get(track) or self._over.get(track, _NOTHING)
        start_unix_s = round(told.origin_unix_s + sighting.start_s, 3)
        id_ = sighting_id(sighting.stream, sighting.track_id, start_unix_s)
        more: dict[str, JsonValue] = {
            "event": what,
            "id": id_,
            "camera": sighting.stream,
            "gallery": self._gallery,
            "start_unix_s": start_unix_s,
            "end_unix_s": round(told.origin_unix_s + sighting.end_s, 3),
        }
        if switched_at_s is not None:
            more["switched_at_s"] = switched_at_s
        event = sighting_event(sighting, time.time(), more)
        evidence = () if what == "ended" else sighting.tracklets[-1:]
        if what == "revised":
            evidence = (*evidence, sighting.was or "", sighting.identity or "")
        uid = uuid.uuid5(uuid.NAMESPACE_OID, "\n".join([id_, what, *evidence])).hex
        self._tell(dataclasses.replace(event, uid=uid))

    def _count(self, tracklets: Sequence[Tracklet]) -> None:
        now_s = time.time()
        for tracklet in tracklets:
            last_s = float(tracklet.times_s[-1]) if len(tracklet) else tracklet.seen_s[1]
            self._observe(tracklet, now_s - self._told[tracklet.track].origin_unix_s - last_s)


_NOTHING = Told(0.0)


def sighting_id(stream: str, track_id: int, start_unix_s: float) -> str:
    """Return what all events of one track have in common, and no other's."""
    return f"{stream}/{track_id}/{round(1000 * start_unix_s)}"


def _first_sighting(tracklet: Tracklet, match: Match, start_s: float | None) -> Sighting:
    return Sighting(
        identity=match.identity,
        stream=tracklet.stream,
        track_id=tracklet.track_id,
        start_s=tracklet.seen_s[0] if start_s is None else start_s,
        end_s=tracklet.seen_s[1],
        distance=None if match.is_new else match.distance,
        is_new=match.is_new,
        quality=tracklet.quality,
        num_silhouettes=len(tracklet),
        tracklets=(tracklet.uid,),
        reasons=tracklet.reasons,
        probability=match.probability,
        explanation=match.explanation,
    )
