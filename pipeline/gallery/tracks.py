"""What is remembered of tracks while they last, and a little longer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from gait.tracklet import Tracklet
from pipeline.gallery.decision import DecisionConfig, Evidence, Hysteresis
from pipeline.gallery.exemplar import Exemplar, Identity
from pipeline.gallery.place import Place, places
from pipeline.gallery.whereabouts import Presence

_MOST = 20_000
"""Tracks remembered of all streams: a sender whose clock rests must not fill the memory."""


@dataclass(slots=True)
class Walk:
    """What is remembered of a track's present walk.

    Attributes:
        uid: Of its first tracklet.
        start_s: When that began.
        key: Of the exemplar that tells of it; None if none was kept.
    """

    uid: str
    start_s: float
    key: int | None = None


@dataclass(slots=True)
class Track:
    """What is remembered of a track.

    Attributes:
        stream: The camera or file.
        track_id: Its number there.
        first_seen_s: When it was first seen.
        last_seen_s: When it was last seen, as far as was reported.
        evidence: What its tracklets say.
        hysteresis: Keeps it from changing over too easily.
        identity: Who it is, once a tracklet of it was matched.
        founded: Number of the last identity that nobody had before it; None if there is none.
        exemplars: Keys of the exemplars it gave.
        walk: Its present walk, once a tracklet of it was matched.
        companions: Tracks seen in one frame with it.
        barred: Identities of those that are not remembered any more.
        origin_s: When its stream's clock read 0 on the clock of all; None when nobody knows.
        came: Where in the picture its first tracklet began; None when nobody knows.
        left: Where its last tracklet ended.
        is_over: Whether it has ended.
        reviewed_s: When it was last looked at again, or ended.
        told: Who it was last said to be; None when it was never said.
    """

    stream: str
    track_id: int
    first_seen_s: float
    last_seen_s: float
    evidence: Evidence
    hysteresis: Hysteresis
    identity: Identity | None = None
    founded: int | None = None
    exemplars: set[int] = field(default_factory=set)
    walk: Walk | None = None
    companions: set[int] = field(default_factory=set)
    barred: set[int] = field(default_factory=set)
    origin_s: float | None = None
    came: Place | None = None
    left: Place | None = None
    is_over: bool = False
    reviewed_s: float = -math.inf
    told: str | None = None

    @property
    def name(self) -> str:
        """Stream and number, for logs."""
        return f"{self.stream}/{self.track_id}"

    @property
    def is_founder(self) -> bool:
        """Whether nobody had its identity before it."""
        return self.identity is not None and self.identity.id == self.founded

    @property
    def presence(self) -> Presence:
        """Where it was, and when."""
        seen_s = self.first_seen_s, self.last_seen_s
        # the first place is that of somebody else once the track was cut
        is_own = self.came is not None and self.came.time_s >= self.first_seen_s
        came = self.came if is_own else None
        return Presence(self.stream, *seen_s, self.origin_s, came, self.left)

    def goes_on(self, exemplar: Exemplar) -> Exemplar:
        """Return what is to be kept: under the name of the walk, and of all of it."""
        walk = self.walk
        if walk is None or not exemplar.continues:
            self.walk = Walk(exemplar.tracklet_uid, exemplar.times_s[0])
            return exemplar
        times_s = walk.start_s, exemplar.times_s[1]
        return replace(exemplar, tracklet_uid=walk.uid, times_s=times_s)

    def become(self, identity: Identity) -> None:
        """Be somebody whom nobody was before."""
        self.identity, self.founded = identity, identity.id

    def gave(self, key: int) -> None:
        """Take note of an exemplar that tells of the present walk."""
        assert self.walk is not None
        self.exemplars.add(key)
        self.walk.key = key

    def went(self, found: tuple[Place, Place] | None) -> None:
        """Take note of where a tracklet began and ended."""
        if found is None:
            return
        came, left = found
        if self.came is None:
            self.came = came
        if self.left is None or left.time_s > self.left.time_s:
            self.left = left

    def lose(self) -> None:
        """Begin anew: whoever it was is not known any more."""
        self.identity = None
        self.exemplars.clear()
        if self.walk is not None:
            self.walk.key = None


class TrackMemory:
    """All tracks of all streams.

    Args:
        config: For each track's evidence.
        remember_s: How long a track is remembered after its last report, on its stream's clock.
        shared_clock: Whether all streams that tell no other clock began at the same moment.
    """

    def __init__(
        self, config: DecisionConfig, remember_s: float, *, shared_clock: bool = False
    ) -> None:
        self._config = config
        self._remember_s = remember_s
        self._origin_s = 0.0 if shared_clock else None
        self._tracks: dict[str, dict[int, Track]] = {}
        self._heard_s: dict[str, float] = {}

    def __len__(self) -> int:
        return sum(len(tracks) for tracks in self._tracks.values())

    def __iter__(self) -> Iterator[Track]:
        for tracks in self._tracks.values():
            yield from tracks.values()

    def of(self, stream: str, track_id: int) -> Track:
        """Return a track that was heard of."""
        return self._tracks[stream][track_id]

    def hear(self, tracklets: Iterable[Tracklet]) -> None:
        """Learn when tracks were seen, and with whom."""
        for tracklet in tracklets:
            tracks = self._tracks.setdefault(tracklet.stream, {})
            track = tracks.get(tracklet.track_id)
            if track is None:
                track = tracks[tracklet.track_id] = self._new(tracklet)
            track.first_seen_s = min(track.first_seen_s, tracklet.seen_s[0])
            track.last_seen_s = max(track.last_seen_s, tracklet.seen_s[1])
            track.is_over |= tracklet.is_last
            track.went(places(tracklet))
            track.companions.update(tracklet.companions)
            for other in tracklet.companions:  # the other one's next report may come too late
                if other in tracks:
                    tracks[other].companions.add(tracklet.track_id)
            self._heard_s[tracklet.stream] = tracklet.seen_s[1]

    def ruled_out(self, track: Track) -> set[int]:
        """Return the identities of those who were ever seen in one frame with `track`."""
        others = self.companions(track)
        return track.barred | {other.identity.id for other in others if other.identity}

    def companions(self, track: Track) -> list[Track]:
        """Return those that were ever seen in one frame with `track`."""
        tracks = self._tracks[track.stream]
        return [tracks[other] for other in sorted(track.companions) if other in tracks]

    def now_s(self, track: Track) -> float:
        """Return what its stream's clock reads."""
        return self._heard_s[track.stream]

    def replace(self, was: Identity, identity: Identity) -> None:
        """Give everybody who was one identity another."""
        for track in self:
            if track.identity is not None and track.identity.id == was.id:
                track.identity = identity
            if was.id in track.barred:
                track.barred.add(identity.id)

    def forget(self) -> None:
        """Drop the tracks that are too far from now, on their stream's clock.

        Either way: a clock that was set back must not keep old tracks for ever. Where there are too
        many nevertheless, the stream that has most loses those that were reported first.
        """
        for stream, tracks in list(self._tracks.items()):
            now_s = self._heard_s[stream]
            gone = [t for t in tracks.values() if abs(now_s - t.last_seen_s) > self._remember_s]
            for track in gone:
                self._drop(track)
            if not tracks:
                del self._tracks[stream], self._heard_s[stream]
        for _ in range(len(self) - _MOST):
            most = max(self._tracks.values(), key=len)
            self._drop(next(iter(most.values())))

    def _drop(self, track: Track) -> None:
        del self._tracks[track.stream][track.track_id]
        for other in self.companions(track):
            other.barred |= {track.identity.id} if track.identity else set()

    def _new(self, tracklet: Tracklet) -> Track:
        evidence, hysteresis = Evidence(self._config), Hysteresis(self._config)
        track = Track(tracklet.stream, tracklet.track_id, *tracklet.seen_s, evidence, hysteresis)
        known = tracklet.origin_unix_s is not None
        track.origin_s = tracklet.origin_unix_s if known else self._origin_s
        return track
