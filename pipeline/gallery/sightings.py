"""From what is said of tracklets to what is said of people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from gait.tracklet import Tracklet
from pipeline.values import Match, Sighting


@dataclass(slots=True)
class _Gathering:
    """What one track has said so far."""

    stream: str
    track_id: int
    seen_s: tuple[float, float]
    match: Match | None = None
    founded: str | None = None
    weighted_quality: float = 0.0
    weight: int = 0
    num_silhouettes: int = 0
    last_frame: int = -1
    uids: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    def hear(self, tracklet: Tracklet) -> None:
        self.seen_s = (
            min(self.seen_s[0], tracklet.seen_s[0]),
            max(self.seen_s[1], tracklet.seen_s[1]),
        )
        self.reasons.update(dict(tracklet.reasons))

    def rest_on(self, tracklet: Tracklet, match: Match) -> None:
        self.uids.append(tracklet.uid)
        self.weighted_quality += tracklet.quality * len(tracklet)
        self.weight += len(tracklet)
        # Windows overlap; a silhouette in two of them is one silhouette.
        self.num_silhouettes += int((tracklet.frame_indices > self.last_frame).sum())
        self.last_frame = max(self.last_frame, int(tracklet.frame_indices[-1]))
        self.match = match  # of all windows up to this one
        if match.is_new:
            self.founded = match.identity

    def sighting(self) -> Sighting:
        match = self.match
        identity = None if match is None else match.identity
        is_new = identity is not None and identity == self.founded
        is_known = identity is not None and not is_new
        return Sighting(
            identity=identity,
            stream=self.stream,
            track_id=self.track_id,
            start_s=self.seen_s[0],
            end_s=self.seen_s[1],
            distance=match.distance if match and is_known else None,
            is_new=is_new,
            quality=self.weighted_quality / self.weight if self.weight else 0.0,
            num_silhouettes=self.num_silhouettes,
            tracklets=tuple(self.uids),
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

    It remembers only tracks that have not ended.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[str, int], _Gathering] = {}

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
                track.rest_on(tracklet, match)
            if tracklet.is_last:
                sightings.append(self._open.pop(key).sighting())
        return sightings

    def close(self) -> list[Sighting]:
        """Return the sightings of the tracks still open, oldest track first, and forget them."""
        sightings = [track.sighting() for track in self._open.values()]
        self._open.clear()
        return sightings
