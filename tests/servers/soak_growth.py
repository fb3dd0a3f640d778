"""Does a process grow? Many looks at what it holds, and a line through them with its doubt.

Two single looks cannot tell 1 %: memory breathes by more than that between one moment and another.
So whoever asks looks again and again, each time in the same state, after a collection of garbage
and after free memory went back to the system (`Holdings.now`). The slope over the looks after the
warm-up is Theil and Sen's, which single odd looks do not move, with its interval of confidence.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from tests.servers.watch import Holdings

logger = logging.getLogger(__name__)

ALLOWED_PERCENT = 1.0
_WARM_UP = 0.25  # of all looks: buffers reach their size, lazy things are loaded
_CONFIDENCE = 0.95
_FEWEST = 6  # looks after the warm-up, below which nothing can be told


@dataclass(frozen=True)
class Growth:
    """By how much memory grew between the first and the last look that count, in percent.

    Attributes:
        low: Below it with 2.5 % probability.
        middle: The most likely.
        high: Above it with 2.5 % probability.
        looks: How many there were.
    """

    low: float
    middle: float
    high: float
    looks: int

    @property
    def is_flat(self) -> bool | None:
        """Whether it is at most what is allowed; None where the looks cannot tell."""
        if self.looks < _FEWEST or self.low <= ALLOWED_PERCENT < self.high:
            return None
        return self.high <= ALLOWED_PERCENT

    def __str__(self) -> str:
        if self.looks < _FEWEST:
            return f"{self.looks} looks after the warm-up are too few to tell growth"
        return (
            f"memory changed by {self.middle:+.2f} % (95 %: {self.low:+.2f} to {self.high:+.2f}) "
            f"over {self.looks} looks after the warm-up"
        )


def growth(at_s: list[float], mib: list[float]) -> Growth:
    """Return how a series grew after its warm-up.

    Args:
        at_s: When each look was, in seconds, ascending.
        mib: What was held then.
    """
    first = int(len(at_s) * _WARM_UP)
    x, y = np.array(at_s[first:]), np.array(mib[first:])
    if len(x) < _FEWEST:
        return Growth(0.0, 0.0, 0.0, len(x))
    slope, _, low, high = stats.theilslopes(y, x, alpha=_CONFIDENCE)
    low, middle, high = 100 * (x[-1] - x[0]) / np.median(y) * np.array([low, slope, high])
    return Growth(float(low), float(middle), float(high), len(x))


@dataclass
class Ledger:
    """Looks at what this process holds.

    Attributes:
        now: How one looks.
        clock: Seconds since whenever.
    """

    now: Callable[[], Holdings] = Holdings.now
    clock: Callable[[], float] = time.monotonic
    at_s: list[float] = field(default_factory=list)
    looks: list[Holdings] = field(default_factory=list)

    def look(self) -> None:
        """Look once more; let it be the same state every time."""
        self.at_s.append(self.clock())
        self.looks.append(self.now())
        logger.info("look %d: %s", len(self.looks), self.looks[-1])

    def growth(self) -> Growth:
        """Return how memory grew."""
        return growth(self.at_s, [look.held_mib for look in self.looks])

    def is_flat(self) -> bool | None:
        """Return whether nothing grows; None where there are too few looks to tell memory."""
        warm = self.looks[int(len(self.looks) * _WARM_UP) :]
        half = len(warm) // 2
        for kind in ("threads", "files"):
            early, late = ([getattr(w, kind) for w in part] for part in (warm[:half], warm[half:]))
            if early and max(late) > max(early):
                return False
        return self.growth().is_flat

    def __str__(self) -> str:
        first, last = self.looks[int(len(self.looks) * _WARM_UP)], self.looks[-1]
        return f"{last.since(first)}; {self.growth()}"
