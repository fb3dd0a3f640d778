"""The nearest of many, found by measuring as few as possible."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

_FIRST_LOOK = 16
_NEXT_LOOK = 64

FARTHEST = 1e9
"""Farther than any two embeddings of float16 numbers are apart, and nearer than empty rows."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one row.

    Attributes:
        key: The exemplar's key in the store.
        owner: Key of the identity whose exemplar it is.
        quality: Quality of the tracklet in 0..1.
    """

    key: int
    owner: int
    quality: float


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An exemplar that is near a probe.

    Attributes:
        key: The exemplar's key in the store.
        owner: Key of the identity whose exemplar it is.
        distance: In the paper's metric.
    """

    key: int
    owner: int
    distance: float


class Best:
    """The nearest so far, of all exemplars or one of each identity."""

    def __init__(self, count: int, per_owner: bool) -> None:
        self.count = count
        self._per_owner = per_owner
        self._found: dict[int, tuple[float, Row]] = {}
        self.limit = FARTHEST

    def __len__(self) -> int:
        return len(self._found)

    def offer(self, row: Row, distance: float) -> None:
        """Take note of a row."""
        if distance > self.limit:
            return
        name = row.owner if self._per_owner else row.key
        known = self._found.get(name)
        if known is None or (distance, row.key) < (known[0], known[1].key):
            self._found[name] = distance, row
            self._shorten()

    def neighbours(self) -> list[Neighbour]:
        """Return them, nearest first."""
        return [Neighbour(row.key, row.owner, distance) for distance, row in self._sorted()]

    def _shorten(self) -> None:
        if len(self._found) >= self.count:
            kept = self._sorted()[: self.count]
            self._found = {row.owner if self._per_owner else row.key: (d, row) for d, row in kept}
            self.limit = kept[-1][0]

    def _sorted(self) -> list[tuple[float, Row]]:
        return sorted(self._found.values(), key=lambda each: (each[0], each[1].key))


def part_distances(probe_PC: Floats, embeddings_NPC: Floats) -> NDArray[np.float64]:
    """Return how far each part is, shape (N, 16), in float64.

    No squares are expanded, so identical parts come out exactly 0, unlike in `euclidean`.

    Args:
        probe_PC: Shape (16, 256).
        embeddings_NPC: Shape (N, 16, 256).
    """
    apart = embeddings_NPC.astype(np.float64)
    apart -= probe_PC
    squares: NDArray[np.float64] = np.einsum("npc,npc->np", apart, apart)
    return np.sqrt(squares)


def lowest_first(bounds: NDArray[np.float32], best: Best) -> Iterator[NDArray[np.intp]]:
    """Yield rows by rising bound, as long as one could be among the best."""
    first = min(max(_FIRST_LOOK, 2 * best.count), len(bounds))
    if not first:
        return
    rows = np.argpartition(bounds, first - 1)[:first]
    yield rows[bounds[rows] <= best.limit]
    bounds[rows] = np.inf
    rows = np.flatnonzero(bounds <= best.limit)
    rows = rows[np.argsort(bounds[rows])]
    for start in range(0, len(rows), _NEXT_LOOK):
        some = rows[start : start + _NEXT_LOOK]
        some = some[bounds[some] <= best.limit]
        if not len(some):
            return
        yield some
