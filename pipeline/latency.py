"""How long things took: histograms of fixed size, over all time and over the last minute.

latencies = Latencies()
latencies.observe("capture to track", 0.131)
print(latencies.percentiles("capture to track").p95_s)
"""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_PER_DECADE = 48  # neighbouring bounds differ by 4.9 %, so a bucket's middle is 2.4 % off at most
_DECADES = range(-4, 3)  # 0.1 ms to 1000 s
_COARSE = 16  # every so many fine bounds make three coarse ones a decade
_SLOTS = 12  # the window moves on by a twelfth of its length
_MAX_STAGES = 1024  # 36 KB each; somebody who comes up with more names has made one up a frame

BOUNDS_S: tuple[float, ...] = tuple(
    10 ** (_DECADES.start + step / _PER_DECADE) for step in range(len(_DECADES) * _PER_DECADE + 1)
)
"""Upper bounds of the buckets in seconds; one more bucket holds what is above the last."""


class Percentiles(NamedTuple):
    """What half, 95 and 99 in a hundred were not above, in seconds; NaN of nothing."""

    p50_s: float
    p95_s: float
    p99_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How many observations fell between which bounds. The sum of two is that of both.

    Attributes:
        counts: Shape (len(BOUNDS_S) + 1,), int64: observations up to each bound and above the
            bound before it, and last those above all.
        sum_s: Of all observations, in seconds.
        max_s: The largest one; 0 of nothing.
    """

    counts: NDArray[np.int64]
    sum_s: float = 0.0
    max_s: float = 0.0

    @property
    def count(self) -> int:
        """How many observations there are."""
        return int(self.counts.sum())

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(
            self.counts + other.counts, self.sum_s + other.sum_s, max(self.max_s, other.max_s)
        )

    def percentile(self, percent: float) -> float:
        """Return, to 2.5 % between 0.1 ms and 1000 s, what so many in a hundred were not above.

        Args:
            percent: In 0..100.

        Returns:
            Seconds; NaN of nothing.
        """
        if not self.count:
            return math.nan
        rank = max(1, math.ceil(percent / 100 * self.count))
        bucket = int(np.searchsorted(np.cumsum(self.counts), rank))
        return min(_middle_s(bucket), self.max_s)

    def percentiles(self) -> Percentiles:
        """Return the three that are reported."""
        return Percentiles(self.percentile(50), self.percentile(95), self.percentile(99))

    def cumulative(self) -> list[tuple[float, int]]:
        """Return (bound in seconds, observations up to it) as Prometheus wants its buckets.

        Three bounds a decade from 0.1 ms to 1000 s, then infinity.
        """
        up_to = np.cumsum(self.counts)
        fine = range(0, len(BOUNDS_S), _COARSE)
        return [(BOUNDS_S[i], int(up_to[i])) for i in fine] + [(math.inf, self.count)]


class Latencies:
    """The latencies of every stage, from any thread, in memory that does not grow.

    Args:
        window_s: Length of the recent past that is told apart from all time, in seconds.
        clock: Monotonic seconds.
    """

    def __init__(self, window_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._slot_s = window_s / _SLOTS
        self._clock = clock
        self._lock = threading.Lock()
        self._stages: dict[str, _Stage] = {}

    def observe(self, stage: str, seconds: float) -> None:
        """Count one latency.

        Args:
            stage: Its name; up to 1024 different ones.
            seconds: What is below 0, because a clock was set, counts as 0.

        Raises:
            ValueError: `seconds` is no number, or there are too many names.
        """
        if not math.isfinite(seconds):
            raise ValueError(f"latency of {stage}: expected seconds, got {seconds}")
        seconds = max(seconds, 0.0)
        bucket = bisect_left(BOUNDS_S, seconds)
        with self._lock:
            if stage not in self._stages and len(self._stages) >= _MAX_STAGES:
                raise ValueError(
                    f"latency of {stage}: expected at most {_MAX_STAGES} names, this is one more; "
                    "give many things one name"
                )
            self._stages.setdefault(stage, _Stage()).add(self._slot(), bucket, seconds)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the time until the block ends, however it does."""
        start = self._clock()
        try:
            yield
        finally:
            self.observe(stage, self._clock() - start)

    @property
    def stages(self) -> tuple[str, ...]:
        """The names so far, in the order they came."""
        with self._lock:
            return tuple(self._stages)

    def histogram(self, stage: str) -> Histogram:
        """Return a stage's latencies since the beginning; of an unknown stage nothing."""
        with self._lock:
            found = self._stages.get(stage)
            return _Tally().frozen() if found is None else found.total.frozen()

    def recent(self, stage: str) -> Histogram:
        """Return a stage's latencies within the window; of an unknown stage nothing."""
        with self._lock:
            found = self._stages.get(stage)
            return _Tally().frozen() if found is None else found.since(self._slot() - _SLOTS)

    def percentiles(self, stage: str) -> Percentiles:
        """Return the percentiles within the window."""
        return self.recent(stage).percentiles()

    def forget(self, stage: str) -> None:
        """Forget a stage, known or not."""
        with self._lock:
            self._stages.pop(stage, None)

    def _slot(self) -> int:
        return int(self._clock() // self._slot_s)


class _Tally:
    """A histogram that is being made."""

    def __init__(self) -> None:
        self._counts = np.zeros(len(BOUNDS_S) + 1, dtype=np.int64)
        self._sum_s = 0.0
        self._max_s = 0.0

    def add(self, bucket: int, seconds: float) -> None:
        self._counts[bucket] += 1
        self._sum_s += seconds
        self._max_s = max(self._max_s, seconds)

    def frozen(self) -> Histogram:
        return Histogram(self._counts.copy(), self._sum_s, self._max_s)


class _Stage:
    """One stage's latencies, of all time and of each of the last slots of time."""

    def __init__(self) -> None:
        self.total = _Tally()
        self._slots: deque[tuple[int, _Tally]] = deque(maxlen=_SLOTS)

    def add(self, slot: int, bucket: int, seconds: float) -> None:
        if not self._slots or self._slots[-1][0] < slot:
            self._slots.append((slot, _Tally()))
        self.total.add(bucket, seconds)
        self._slots[-1][1].add(bucket, seconds)

    def since(self, slot: int) -> Histogram:
        """Return what came after a slot."""
        return _sum([tally.frozen() for number, tally in self._slots if number > slot])


def _sum(histograms: Sequence[Histogram]) -> Histogram:
    return sum(histograms, start=_Tally().frozen())


def _middle_s(bucket: int) -> float:
    if bucket == 0:
        return BOUNDS_S[0]
    if bucket == len(BOUNDS_S):
        return math.inf  # the largest one is known, and is less
    return math.sqrt(BOUNDS_S[bucket - 1] * BOUNDS_S[bucket])
