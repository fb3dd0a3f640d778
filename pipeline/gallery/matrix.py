"""All exemplars in memory, searched exactly."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gait.distance import euclidean
from pipeline.gallery.exemplar import EMBEDDING_SHAPE
from pipeline.values import Embedding

_CHANNELS, _PARTS = EMBEDDING_SHAPE
_FIRST_ROWS = 16


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


class ExemplarMatrix:
    """The embeddings of all exemplars, one a row, with whose they are.

    Room is doubled when it runs out, so adding N rows copies fewer than 2 N of them.
    """

    def __init__(self) -> None:
        # Parts first: a part's (N, 256) block is what its matrix product reads.
        self._embeddings = np.empty((_PARTS, _FIRST_ROWS, _CHANNELS), dtype=np.float32)
        self._owners = np.empty(_FIRST_ROWS, dtype=np.int64)
        self._rows: list[Row] = []
        self._keys: set[int] = set()
        self._rows_of: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: int) -> bool:
        return key in self._keys

    def __getitem__(self, index: int) -> Row:
        return self._rows[index]

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """Shape (N, 256, 16), a view."""
        return self._embeddings[:, : len(self)].transpose(1, 2, 0)

    def rows_of(self, owner: int) -> Sequence[int]:
        """Return the indices of one identity's rows."""
        return self._rows_of.get(owner, [])

    def append(self, row: Row, embedding: Embedding) -> None:
        """Add a row."""
        index = len(self)
        if index == len(self._owners):
            self._double()
        self._embeddings[:, index] = embedding.T
        self._owners[index] = row.owner
        self._rows.append(row)
        self._keys.add(row.key)
        self._rows_of.setdefault(row.owner, []).append(index)

    def replace(self, index: int, row: Row, embedding: Embedding) -> None:
        """Put another exemplar of the same identity into a row."""
        self._keys.discard(self._rows[index].key)
        self._keys.add(row.key)
        self._embeddings[:, index] = embedding.T
        self._rows[index] = row

    def nearest(
        self, probe: Embedding, *, barred: Collection[int] = ()
    ) -> tuple[int, float] | None:
        """Return the index of the row nearest to `probe` and its distance, or None without one.

        Args:
            probe: Shape (256, 16).
            barred: Identities that may not be the answer.
        """
        if not len(self):
            return None
        distances = euclidean(probe[np.newaxis], self.embeddings)[0]
        distances[np.isin(self._owners[: len(self)], list(barred))] = np.inf
        index = int(np.argmin(distances))
        return None if np.isinf(distances[index]) else (index, float(distances[index]))

    def _double(self) -> None:
        # Not np.concatenate: it would fill the new half, and memory is only used once written.
        rows = len(self)
        embeddings = np.empty((_PARTS, 2 * rows, _CHANNELS), dtype=np.float32)
        embeddings[:, :rows] = self._embeddings
        self._embeddings = embeddings
        self._owners = np.resize(self._owners, 2 * rows)
