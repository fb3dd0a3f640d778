"""Who a track can be beside the others: what the gallery's tracks say of each other.

Walks propose (`pipeline.gallery.decision`); here place, time and the other tracks' claims have
their say. Nothing needs a name: this is how people are the same across cameras without a gallery.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.gallery.decision import DecisionConfig, Limit
from pipeline.gallery.tracks import Track, TrackMemory
from pipeline.gallery.whereabouts import Presence, Way, Whereabouts, WhereaboutsConfig

Ranked = list[tuple[int, float]]
"""People and their distances, nearest first."""


_REVISE_LEAD, _MERGE_LEAD = 0.15, 0.3  # docs/association.md has the figures


@dataclass(frozen=True, slots=True)
class Revision:
    """What was said of a track is not what is thought of it now.

    Attributes:
        stream: The camera or file.
        track_id: The track.
        was: Who it was said to be; None for nobody.
        identity: Who it is now.
        is_new: Whether nobody was that before this track.
    """

    stream: str
    track_id: int
    was: str | None
    identity: str | None
    is_new: bool


class Association:
    """Puts what tracks look like together with where they were, and with whose claim is better.

    Args:
        tracks: All of them.
        decision: How distances and odds compare: `scale` is worth a factor e.
        config: What place and time may say.
    """

    def __init__(
        self, tracks: TrackMemory, decision: DecisionConfig, config: WhereaboutsConfig
    ) -> None:
        self._tracks = tracks
        self._decision = decision
        self._whereabouts = Whereabouts(config)

    def ways(self, track: Track) -> dict[int, Way]:
        """Return how everybody who was seen lately would have come to be this track."""
        seen: dict[int, list[Presence]] = {}
        for other in self._tracks:
            if other.identity is not None and other is not track:
                seen.setdefault(other.identity.id, []).append(other.presence)
        found = {who: self._whereabouts.way(track.presence, each) for who, each in seen.items()}
        return {who: way for who, way in found.items() if way is not None}

    def log_odds(self, way: Way | None) -> float:
        """Return what a way says of whether a person came by it."""
        return self._whereabouts.log_odds(way)

    def fitting(self, track: Track, ranked: Ranked, ways: Mapping[int, Way]) -> Ranked:
        """Return who a track can be, and as how far each counts, nearest first.

        Args:
            track: Which.
            ranked: People and their distances.
            ways: How they would have come.
        """
        fitting = [
            (who, distance - self._decision.scale * self.log_odds(ways.get(who)))
            for who, distance in ranked
            if not self._loses(track, who, distance, self._conflicts(track, who, ways))
        ]
        return sorted(fitting, key=lambda each: (each[1], each[0]))

    def must_yield(self, track: Track, ways: Mapping[int, Way]) -> bool:
        """Return whether a track cannot be who it is taken for, since another one rather is."""
        if track.identity is None:
            return False
        who = track.identity.id
        rivals = [each for each in self._tracks.companions(track) if _is(each, who)]
        rivals += self._conflicts(track, who, ways)
        return self._loses(track, who, _claim(track, who), rivals)

    @staticmethod
    def better(
        shown: int | None, fitting: Ranked, ways: Mapping[int, Way], limit: float
    ) -> int | None:
        """Return who a track is in hindsight: who is shown, unless another is clearly nearer.

        Where nobody but the track tells of who is shown, another one must be well within the limit:
        two people taken for one are worse than one taken for two. Somebody on cameras that have
        turned out to overlap need not be clearly nearer: known before, the two would have been
        taken for one at once.
        """
        best = fitting[0] if fitting and fitting[0][1] <= limit else None
        if best is None or shown is None:
            return shown if best is None else best[0]
        own, way = dict(fitting).get(shown), ways.get(best[0])
        if way is not None and way.is_at_once:
            return best[0]
        if own is None:
            return best[0] if limit - best[1] >= _MERGE_LEAD else shown
        return best[0] if own - best[1] >= _REVISE_LEAD else shown

    def learn(self, track: Track, ranked: Ranked, ways: Mapping[int, Way], limit: Limit) -> None:
        """Learn how people come and go from a track that is over.

        Args:
            track: Which.
            ranked: Distances of people by the walk alone.
            ways: How they would have come.
            limit: At which it is as probably somebody as nobody.
        """
        scale = self._decision.scale
        odds = {who: math.exp(min(50.0, (limit.distance - d) / scale)) for who, d in ranked}
        self._whereabouts.learn(ways, odds)

    def _conflicts(self, track: Track, who: int, ways: Mapping[int, Way]) -> list[Track]:
        """Return the tracks of a person that are elsewhere while this one is here."""
        if not self._whereabouts.rules_out(ways.get(who)):
            return []
        return [
            other
            for other in self._tracks
            if _is(other, who)
            and other is not track
            and self._whereabouts.rules_out(self._whereabouts.way(track.presence, [other.presence]))
        ]

    def _loses(self, track: Track, who: int, claim: float, rivals: Sequence[Track]) -> bool:
        """Return whether one of some tracks that cannot all be a person has the better claim."""
        for rival in rivals:
            lead = _claim(rival, who) - claim
            is_clear = abs(lead) > self._decision.switch_margin
            if lead < 0 if is_clear else not _came_first(track, rival):
                return True
        return False


def _is(track: Track, who: int) -> bool:
    return track.identity is not None and track.identity.id == who


def _claim(track: Track, who: int) -> float:
    """Return how near a track comes to a person; nearer than anybody when it alone tells of them.

    The nearest window counts: others may be of before anybody told of the person.
    """
    windows = [each for each in track.evidence.windows if who in each.nearest]
    return min((each.distance(who) for each in windows), default=-math.inf)


def _came_first(track: Track, other: Track) -> bool:
    mine, theirs = (
        track.presence.times_beside(other.presence),
        other.presence.times_beside(track.presence),
    )
    return mine is not None and theirs is not None and mine < theirs
