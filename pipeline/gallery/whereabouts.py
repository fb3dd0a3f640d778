"""What place and time say of who a track can be.

**Two places at once.** A person is not in two places at once: a track is nobody who is being seen
elsewhere meanwhile, unless the two cameras look at the same place. Whether they do is learnt, or
said in the configuration. Learnt it is by a sequential test: were it so, whoever is on the other
camera meanwhile would come nearer by the walk than everybody else does. Each track that ends adds

    log( 1 - r + r * mean(odds of those on the other camera) / mean(odds of all others) )

with r = 0.3 the share of tracks that are on both cameras, were there such a place; nobody seen
before has odds of 1. At first the sum is -4, and two cameras overlap where it is above 0.

**Ways.** From where, and after how many seconds, does a person come to a camera? Counted are, for
each camera, the camera somebody was last seen on and the time since then, in steps of a factor of
two: once for the person the track is, once for everybody else. What a way says is the ratio of the
two shares,

    log odds = log( (n / q + a) / (N + a) )

with n of N for the person, q the share among the others, and a = 10. Who a track is is not known
either: everybody counts with the probability that the walk alone gives, never with that of a
decision that ways had a part in, so that nothing learnt confirms itself. Nothing must be measured
or told beforehand: while nothing is learnt, ways say nothing.

The shortest way is a person who was hidden for a moment: from a camera to the same one. Of that
also the place in the picture tells (`pipeline.gallery.place`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gait.strict import StrictModel
from pipeline.gallery.place import Place, log_odds

_STEPS = 11
"""Cells a camera: seen on both at once; up to 1 s apart, 2 s, 4 s, ... 256 s and more."""
_TOGETHER = 0
_ADDED = 1.0
_DOUBT = 10.0
_MOST_COUNTED = 2000.0

_ON_BOTH = 0.3
_APART_AT_FIRST = -4.0
_SUREST = 12.0  # of cameras that overlap or do not: one may be turned some day
_BEST_ODDS = 20.0  # of a single comparison


Pair = Annotated[list[str], Field(min_length=2, max_length=2)]


class WhereaboutsConfig(StrictModel):
    """What place and time may say of who a track is.

    Attributes:
        shared_clock: Whether recorded files began at the same moment. Live cameras have a common
            clock anyway; without one, nothing is said across cameras.
        overlapping: Pairs of cameras that look at the same place, so that somebody may be on both
            at once; "learn" finds out.
        clock_error_s: How wrong clocks may be, in seconds: only who is on two cameras for longer
            is in two places at once. Higher forgives worse clocks, at the price of people who are
            taken for somebody who is elsewhere.
        most_odds: How much ways may say, as log odds either way; 0 leaves them out. Higher trusts
            ways more where walks say little, at the price of people who go unusual ways.
        most_place_odds: How much the place in the picture may say of who comes back to a camera
            after some seconds, as log odds either way; 0 leaves it out. Higher joins more tracks
            that were interrupted, at the price of people who turn while they are hidden, and of
            others who come just where they are expected.
    """

    shared_clock: bool = False
    overlapping: Literal["learn"] | list[Pair] = "learn"
    clock_error_s: float = Field(default=1.0, ge=0)
    most_odds: float = Field(default=2.0, ge=0, le=20)
    most_place_odds: float = Field(default=4.0, ge=0, le=20)


@dataclass(frozen=True, slots=True)
class Presence:
    """Where a track was, and when.

    Attributes:
        stream: The camera.
        start_s: When it was first seen, on the camera's clock.
        end_s: When it was last seen.
        origin_s: When the camera's clock read 0 on the clock of all; None when nobody knows.
        came: Where in the picture it was at first; None when nobody knows.
        left: Where it was at last.
    """

    stream: str
    start_s: float
    end_s: float
    origin_s: float | None
    came: Place | None = None
    left: Place | None = None

    def times_beside(self, other: Presence) -> tuple[float, float] | None:
        """Return its times on a clock it has in common with another one; None without."""
        if self.origin_s is not None and other.origin_s is not None:
            return self.origin_s + self.start_s, self.origin_s + self.end_s
        return (self.start_s, self.end_s) if self.stream == other.stream else None

    def place_odds(self, other: Presence, gap_s: float) -> float:
        """Return what places say of whether it is who another track of this camera was.

        Args:
            other: The earlier one.
            gap_s: How long this one began after that had ended.
        """
        came, left = self.came, other.left
        if came is None or left is None or self.stream != other.stream:
            return 0.0
        return log_odds(left, came, gap_s + came.time_s - self.start_s + other.end_s - left.time_s)


@dataclass(frozen=True, slots=True)
class Way:
    """How somebody came from one track to another.

    Attributes:
        origin: The camera of the earlier track.
        goal: The camera of the later one.
        step: Which of the cells of time.
        place_odds: What the places in the picture say of it, as log odds; 0 when nothing.
    """

    origin: str
    goal: str
    step: int
    place_odds: float = 0.0

    @property
    def is_at_once(self) -> bool:
        """Whether both tracks were seen at the same time."""
        return self.step == _TOGETHER


class Whereabouts:
    """Learns ways, and says what they make of a track and a person.

    Its memory grows with the pairs of cameras that people go between, not with time.

    Args:
        config: What they may say.
    """

    def __init__(self, config: WhereaboutsConfig) -> None:
        self._config = config
        self._same: dict[str, dict[str, NDArray[np.float64]]] = {}
        self._others: dict[str, dict[str, NDArray[np.float64]]] = {}
        self._overlap: dict[frozenset[str], float] = {}

    def way(self, track: Presence, seen: Iterable[Presence]) -> Way | None:
        """Return how a track's person would have come, having been seen there and then.

        Args:
            track: Where the track was.
            seen: Where the person was otherwise.

        Returns:
            The way from the last place before, or a place at the same time; None when the person
            was only seen later, or no clock tells.
        """
        last: tuple[float, Way] | None = None
        for other in seen:
            mine, theirs = track.times_beside(other), other.times_beside(track)
            if mine is None or theirs is None:
                continue
            if self._at_once(track, other, mine, theirs):
                return Way(other.stream, track.stream, _TOGETHER)
            if theirs[0] < mine[0] and (last is None or theirs[1] > last[0]):
                gap_s = mine[0] - theirs[1]
                odds = track.place_odds(other, gap_s)
                last = theirs[1], Way(other.stream, track.stream, _step(gap_s), odds)
        return None if last is None else last[1]

    def rules_out(self, way: Way | None) -> bool:
        """Return whether nobody can have come this way."""
        if way is None or not way.is_at_once:
            return False
        pair = frozenset((way.origin, way.goal))
        if self._config.overlapping != "learn":
            return pair not in map(frozenset, self._config.overlapping)
        return self._overlap.get(pair, _APART_AT_FIRST) < 0

    def log_odds(self, way: Way | None) -> float:
        """Return what a way says of whether it is that person; 0 when nothing is known."""
        if way is None:
            return 0.0
        place = _at_most(self._config.most_place_odds, way.place_odds)
        if way.is_at_once and self._config.overlapping != "learn":
            return place  # it is allowed, or else ruled out
        return place + _at_most(self._config.most_odds, self._ratio(way))

    def learn(self, ways: Mapping[int, Way], odds: Mapping[int, float]) -> None:
        """Learn from a track that is over.

        Args:
            ways: Of everybody who was seen lately, how they would have come.
            odds: How much likelier the walk alone makes it them than nobody known; 0 for who is
                missing.
        """
        self._weigh(ways, odds)
        possible = {who: way for who, way in ways.items() if not self.rules_out(way)}
        total = 1.0 + sum(each for who, each in odds.items() if who in possible or who not in ways)
        for who, way in possible.items():
            share = odds.get(who, 0.0) / total
            _count(self._same, way, share)
            _count(self._others, way, 1.0 - share)
        for tables in (self._same, self._others):
            for goal in {way.goal for way in possible.values()}:
                _fade(tables[goal])

    def _weigh(self, ways: Mapping[int, Way], odds: Mapping[int, float]) -> None:
        """Weigh whether cameras overlap: do those on both at once come nearer than the others?"""
        others, at_once = [1.0], dict[frozenset[str], list[float]]()
        for who, way in ways.items():
            if way.is_at_once:
                of_pair = at_once.setdefault(frozenset((way.origin, way.goal)), [])
            else:
                of_pair = others
            of_pair.append(min(_BEST_ODDS, odds.get(who, 0.0)))
        for pair, found in at_once.items():
            said = math.log1p(_ON_BOTH * (np.mean(found) / np.mean(others) - 1))
            total = self._overlap.get(pair, _APART_AT_FIRST) + said
            self._overlap[pair] = min(_SUREST, max(-_SUREST, total))

    def _at_once(
        self,
        one: Presence,
        other: Presence,
        times: tuple[float, float],
        theirs: tuple[float, float],
    ) -> bool:
        """Return whether two tracks of different cameras were seen at the same time."""
        shared_s = min(times[1], theirs[1]) - max(times[0], theirs[0])
        return one.stream != other.stream and shared_s > self._config.clock_error_s

    def _ratio(self, way: Way) -> float:
        same, others = self._same.get(way.goal, {}), self._others.get(way.goal, {})
        cells = _STEPS * max(1, len(others))
        usual = (_counted(others, way) + _ADDED) / (_total(others) + cells * _ADDED)
        return math.log((_counted(same, way) / usual + _DOUBT) / (_total(same) + _DOUBT))


def _at_most(most: float, odds: float) -> float:
    return min(most, max(-most, odds))


def _total(table: Mapping[str, NDArray[np.float64]]) -> float:
    return sum(float(row.sum()) for row in table.values())


def _counted(table: Mapping[str, NDArray[np.float64]], way: Way) -> float:
    return float(table[way.origin][way.step]) if way.origin in table else 0.0


def _count(tables: dict[str, dict[str, NDArray[np.float64]]], way: Way, weight: float) -> None:
    """Count a way, and half as much the next shorter and longer ones."""
    row = tables.setdefault(way.goal, {}).setdefault(way.origin, np.zeros(_STEPS))
    if way.is_at_once:
        row[_TOGETHER] += weight
        return
    for step, share in ((way.step - 1, 0.25), (way.step, 0.5), (way.step + 1, 0.25)):
        row[min(_STEPS - 1, max(1, step))] += share * weight


def _fade(table: dict[str, NDArray[np.float64]]) -> None:
    """Halve what is old, so that new habits are learnt in time."""
    if _total(table) > _MOST_COUNTED:
        for row in table.values():
            row *= 0.5


def _step(gap_s: float) -> int:
    return 1 + min(_STEPS - 2, max(0, math.ceil(math.log2(max(gap_s, 0.5)))))
