"""From what is said of tracklets to what is said of people."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gait.tracklet import Tracklet
from pipeline.gallery.association import Revision
from pipeline.values import Match, Sighting

SWITCHED = "switched"
"""The reason code of both parts of a track that went over to another person."""

_MOST_REVISABLE = 1000


@dataclass(frozen=True, slots=True)
class _Window:
    """What one tracklet adds."""

    uid: str
    times_s: tuple[float, float]
    quality: float
    weight: int
    num_silhouettes: int
    match: Match


@dataclass(slots=True)
class _Gathering:
    """What one track, or the part of it that is one person, has said so far."""

    stream: str
    track_id: int
    seen_s: tuple[float, float]
    from_s: float = -math.inf
    match: Match | None = None
    founded: str | None = None
    last_frame: int = -1
    windows: list[_Window] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    def hear(self, tracklet: Tracklet) -> None:
        self.seen_s = (
            max(self.from_s, min(self.seen_s[0], tracklet.seen_s[0])),
            max(self.seen_s[1], tracklet.seen_s[1]),
        )
        self.reasons.update(dict(tracklet.reasons))

    def rest_on(self, tracklet: Tracklet, match: Match) -> None:
        # Windows overlap; a silhouette in two of them is one silhouette.
        new = int((tracklet.frame_indices > self.last_frame).sum())
        self.last_frame = max(self.last_frame, int(tracklet.frame_indices[-1]))
        times_s = float(tracklet.times_s[0]), float(tracklet.times_s[-1])
        self.windows.append(
            _Window(tracklet.uid, times_s, tracklet.quality, len(tracklet), new, match)
        )
        self.match = match  # of all windows up to this one
        if match.is_new:
            self.founded = match.identity

    def cut(self, at_s: float) -> _Gathering:
        """Return the part from a moment on, and keep what was before."""
        later = _Gathering(self.stream, self.track_id, (at_s, self.seen_s[1]), at_s)
        later.windows = [each for each in self.windows if each.times_s[0] >= at_s]
        self.windows = [each for each in self.windows if each.times_s[0] < at_s]
        later.match, later.last_frame = self.match, self.last_frame
        self.match = self.windows[-1].match if self.windows else None
        self.seen_s = self.seen_s[0], max([self.seen_s[0], *(w.times_s[1] for w in self.windows)])
        for part in (self, later):
            part.reasons[SWITCHED] += 1
        return later

    def sighting(self) -> Sighting:
        match = self.match
        identity = None if match is None else match.identity
        is_new = identity is not None and identity == self.founded
        is_known = identity is not None and not is_new
        weight = sum(each.weight for each in self.windows)
        weighted = sum(each.quality * each.weight for each in self.windows)
        return Sighting(
            identity=identity,
            stream=self.stream,
            track_id=self.track_id,
            start_s=self.seen_s[0],
            end_s=self.seen_s[1],
            distance=match.distance if match and is_known else None,
            is_new=is_new,
            quality=weighted / weight if weight else 0.0,
            num_silhouettes=sum(each.num_silhouettes for each in self.windows),
            tracklets=tuple(each.uid for each in self.windows),
            reasons=tuple(sorted(self.reasons.items())),
            probability=match.probability if match else None,
            explanation=match.explanation if match else None,
        )


class SightingBook:
    """Gathers the tracklets of each track and gives one sighting when the track ends.

        book = SightingBook()
        for tracklets, matches in identified:
            yield from book.collect(tracklets, matches)
        yield from book.close()

    A track that went over to another person gives two: one up to then, one from then on, both with
    the reason "switched". It remembers tracks that have not ended, and what it said of the last
    thousand that have.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[str, int], _Gathering] = {}
        self._given: dict[tuple[str, int], Sighting] = {}

    def collect(
        self, tracklets: Sequence[Tracklet], matches: Sequence[Match | None]
    ) -> list[Sighting]:
        """Return the sightings of the tracks that end with these tracklets.

        Args:
            tracklets: With and without silhouettes; a track's in the order they were assembled.
            matches: One each; None for a tracklet that was not matched.
        """
        sightings = []
        for tracklet, match in zip(tracklets, matches, strict=True):
            key = tracklet.stream, tracklet.track_id
            track = self._open.setdefault(key, _Gathering(*key, tracklet.seen_s))
            track.hear(tracklet)
            if match is not None:
                if match.switched_at_s is not None:
                    self._open[key] = later = track.cut(match.switched_at_s)
                    sightings.append(track.sighting())
                    track = later
                track.rest_on(tracklet, match)
            if tracklet.is_last:
                sightings.append(self._ended(self._open.pop(key)))
        return sightings

    def revise(self, revisions: Sequence[Revision]) -> list[Sighting]:
        """Return anew the sightings of ended tracks that are somebody else's than was said."""
        sightings = []
        for revision in revisions:
            key = revision.stream, revision.track_id
            track, given = self._open.get(key), self._given.get(key)
            if track is not None and track.match is not None:
                track.match = replace(track.match, identity=revision.identity, distance=None)
                track.founded = revision.identity if revision.is_new else track.founded
            elif given is not None and given.identity != revision.identity:
                self._given[key] = revised = replace(
                    given,
                    identity=revision.identity,
                    distance=None,
                    is_new=revision.is_new,
                    probability=None,
                    explanation=None,
                    is_revision=True,
                    was=given.identity,
                )
                sightings.append(revised)
        return sightings

    def _ended(self, track: _Gathering) -> Sighting:
        sighting = track.sighting()
        self._given[track.stream, track.track_id] = sighting
        if len(self._given) > _MOST_REVISABLE:
            del self._given[next(iter(self._given))]
        return sighting

    def close(self) -> list[Sighting]:
        """Return the sightings of the tracks still open, oldest track first, and forget them."""
        sightings = [self._ended(track) for track in self._open.values()]
        self._open.clear()
        return sightings
