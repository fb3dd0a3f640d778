"""How long each stage took, over a whole run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StageTime:
    """What one stage has done so far.

    Attributes:
        calls: How often it ran.
        items: Frames, crops or tracklets it was given.
        seconds: Wall time inside it, summed over calls.
    """

    calls: int = 0
    items: int = 0
    seconds: float = 0.0


class Telemetry:
    """Adds up the wall time of stages that run in several threads."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._stages: dict[str, StageTime] = {}

    @contextmanager
    def timed(self, stage: str, items: int = 1) -> Iterator[None]:
        """Add the time until the block ends to `stage`, and `items` to its count."""
        start = self._clock()
        try:
            yield
        finally:
            elapsed = self._clock() - start
            with self._lock:
                old = self._stages.get(stage, StageTime())
                self._stages[stage] = StageTime(
                    old.calls + 1, old.items + items, old.seconds + elapsed
                )

    @property
    def stages(self) -> dict[str, StageTime]:
        """What every stage has done so far, in the order they first ran."""
        with self._lock:
            return dict(self._stages)
