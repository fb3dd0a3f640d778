"""Timing several things in turns: A B C, A B C, so that what disturbs one disturbs all."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gait.errors import GaitError

Clock = Callable[[], float]
"""Seconds since whenever; only differences count."""


@dataclass(slots=True)
class Times:
    """What one thing took.

    Attributes:
        rounds: Seconds of each call, round by round.
        problem: Why it was given up; None while it runs.
    """

    rounds: list[list[float]] = field(default_factory=list)
    problem: str | None = None

    @property
    def calls(self) -> list[float]:
        """Seconds of every call."""
        return [seconds for each in self.rounds for seconds in each]

    def percentile(self, percent: float) -> float:
        """Return the seconds that so many of a hundred calls do not exceed.

        Raises:
            ValueError: Nothing has been timed.
        """
        if not self.rounds:
            raise ValueError("percentile: nothing has been timed")
        return float(np.percentile(self.calls, percent))


class Turns:
    """Calls things in turns and keeps what each call took; safe to look at after an interruption.

    Attributes:
        times: By name, in the order in which they take turns.
    """

    def __init__(
        self,
        calls: Mapping[str, Callable[[], object]],
        *,
        before: Mapping[str, Callable[[], object]] | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        """Remember what to call.

        Args:
            calls: What to time, by name. A `GaitError` gives up that one and no other.
            before: What to do before each call without timing it, for those that need it.
            clock: What tells the time.
        """
        self._calls, self._before = dict(calls), dict(before or {})
        self._clock = clock
        self.times = {name: Times() for name in calls}

    def warm_up(self, *names: str) -> None:
        """Call each once without timing it; all when none is named."""
        for name in names or self.times:
            self._turn(name, 0)

    def run(self, *, rounds: int, seconds: float, once: Collection[str] = ()) -> None:
        """Take turns.

        Args:
            rounds: How many times everyone's turn comes.
            seconds: How long everyone may go on over all rounds. A turn has at least one call,
                however long that takes.
            once: Those whose turn is a single call.
        """
        for _ in range(rounds):
            for name, times in self.times.items():
                taken = self._turn(name, 0 if name in once else seconds / rounds)
                if taken:
                    times.rounds.append(taken)

    def _turn(self, name: str, seconds: float) -> list[float]:
        taken: list[float] = []
        try:
            while self.times[name].problem is None and (sum(taken) < seconds or not taken):
                if name in self._before:
                    self._before[name]()
                start = self._clock()
                self._calls[name]()
                taken.append(self._clock() - start)
        except GaitError as error:
            self.times[name].problem = str(error)
        return taken


def pair_ratios(numerator: Times, denominator: Times) -> list[float]:
    """Return the ratio of the median calls of each round that both have completed."""
    pairs = zip(numerator.rounds, denominator.rounds, strict=False)
    return [float(np.median(above) / np.median(below)) for above, below in pairs]


def median(values: Sequence[float]) -> float | None:
    """Return the median; None of nothing."""
    return float(np.median(values)) if values else None
