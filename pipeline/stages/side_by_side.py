"""Calls of a network that takes one picture at a time, on several cores at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gait.closing import Closing

T = TypeVar("T")
R = TypeVar("R")


class SideBySide(Closing):
    """Does things in the given number of threads; with one, in the caller's own.

    Small networks gain more from this than from several cores for one call: nobody waits for the
    others after each layer.

    Args:
        threads: How many things are done at once.
        name: Of what is done, for the threads' names.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, name) if threads > 1 else None

    def map(self, do: Callable[[T], R], things: Sequence[T]) -> list[R]:
        """Return what came of each thing, in order; the first exception there is is raised."""
        if self._pool is None or len(things) < 2:
            return [do(thing) for thing in things]
        return list(self._pool.map(do, things))

    def close(self) -> None:
        """End the threads; harmless the second time."""
        if self._pool is not None:
            self._pool.shutdown()
