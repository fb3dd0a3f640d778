"""What place and time say of who a track can be.

**Two places at once.** A person is not in two places at once: a track is nobody who is being seen
elsewhere meanwhile, unless the two cameras look at the same place. Whether they do is learnt, or
said in the configuration.

**Ways.** From where, and after how many seconds, does a person come to a camera? Counted are, for
each camera, the camera somebody was last seen on and the time since then, in steps of a factor of
two: once for the person the track is, once for everybody else. What a way says is the ratio of the
two shares,

    log odds = log( (n + a) / (N + a K) ) - log( (m + a) / (M + a K) )

with n of N for the person, m of M for the others, K cells and a = 1. Who a track is is not known
either: everybody counts with the probability that the walk alone gives, never with that of a
decision that ways had a part in, so that nothing learnt confirms itself. Nothing must be measured
or told beforehand: while nothing is learnt, ways say nothing.

The shortest way is a person who was hidden for a moment: from a camera to the same one.
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

_STEPS = 11
"""Cells a camera: seen on both at once; up to 1 s apart, 2 s, 4 s, ... 256 s and more."""
_TOGETHER = 0
_ADDED = 1.0
_ADDED_TOGETHER = 0.02  # so that two places at once are out of the question before anything is seen
_MOST_COUNTED = 2000.0
_RULED_OUT = -2.0


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
    """

    shared_clock: bool = False
    overlapping: Literal["learn"] | list[Pair] = "learn"
    clock_error_s: float = Field(default=1.0, ge=0)
    most_odds: float = Field(default=2.0, ge=0, le=20)


@dataclass(frozen=True, slots=True)
class Presence:
    """Where a track was, and when.

    Attributes:
        stream: The camera.
        start_s: When it was first seen, on the camera's clock.
        end_s: When it was last seen.
        origin_s: When the camera's clock read 0 on the clock of all; None when nobody knows.
    """

    stream: str
    start_s: float
    end_s: float
    origin_s: float | None

    def times_beside(self, other: Presence) -> tuple[float, float] | None:
        """Return its times on a clock it has in common with another one; None without."""
        if self.origin_s is not None and other.origin_s is not None:
            return self.origin_s + self.start_s, self.origin_s + self.end_s
        return (self.start_s, self.end_s) if self.stream == other.stream else None


@dataclass(frozen=True, slots=True)
class Way:
    """How somebody came from one track to another.

    Attributes:
        origin: The camera of the earlier track.
        goal: The camera of the later one.
        step: Which of the cells of time.
    """

    origin: str
    goal: str
    step: int


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
                step = _step(mine[0] - theirs[1])
                last = theirs[1], Way(other.stream, track.stream, step)
        return None if last is None else last[1]

    def rules_out(self, way: Way | None) -> bool:
        """Return whether nobody can have come this way."""
        if way is None or way.step != _TOGETHER:
            return False
        if self._config.overlapping != "learn":
            pairs = {frozenset(pair) for pair in self._config.overlapping}
            return frozenset((way.origin, way.goal)) not in pairs
        return self._ratio(way) < _RULED_OUT

    def log_odds(self, way: Way | None) -> float:
        """Return what a way says of whether it is that person; 0 when nothing is known."""
        if way is None or not self._config.most_odds:
            return 0.0
        if way.step == _TOGETHER and self._config.overlapping != "learn":
            return 0.0  # it is allowed, or else ruled out
        most = self._config.most_odds
        return min(most, max(-most, self._ratio(way)))

    def learn(self, ways: Mapping[int, Way], shares: Mapping[int, float]) -> None:
        """Learn from a track that is over.

        Args:
            ways: Of everybody who was seen lately, how they would have come.
            shares: How probable it is, by the walk alone, that it was them; 0 for who is missing.
        """
        for person, way in ways.items():
            share = shares.get(person, 0.0)
            _count(self._same, way, share)
            _count(self._others, way, 1.0 - share)
        for tables in (self._same, self._others):
            for goal in {way.goal for way in ways.values()}:
                _fade(tables[goal])

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
        added = _ADDED_TOGETHER if way.step == _TOGETHER else _ADDED
        return _log_share(same, way, added, cells) - _log_share(others, way, _ADDED, cells)


def _log_share(
    table: Mapping[str, NDArray[np.float64]], way: Way, added: float, cells: int
) -> float:
    total = sum(float(row.sum()) for row in table.values())
    counted = float(table[way.origin][way.step]) if way.origin in table else 0.0
    return math.log((counted + added) / (total + cells * _ADDED))


def _count(tables: dict[str, dict[str, NDArray[np.float64]]], way: Way, weight: float) -> None:
    """Count a way, and half as much the next shorter and longer ones."""
    row = tables.setdefault(way.goal, {}).setdefault(way.origin, np.zeros(_STEPS))
    if way.step == _TOGETHER:
        row[_TOGETHER] += weight
        return
    for step, share in ((way.step - 1, 0.25), (way.step, 0.5), (way.step + 1, 0.25)):
        row[min(_STEPS - 1, max(1, step))] += share * weight


def _fade(table: dict[str, NDArray[np.float64]]) -> None:
    """Halve what is old, so that new habits are learnt in time."""
    if sum(float(row.sum()) for row in table.values()) > _MOST_COUNTED:
        for row in table.values():
            row *= 0.5


def _step(gap_s: float) -> int:
    return 1 + min(_STEPS - 2, max(0, math.ceil(math.log2(max(gap_s, 0.5)))))
