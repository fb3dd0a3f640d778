"""Candidates out of very many exemplars, by faiss: quick, and not always the right ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gait.errors import ConfigError
from gait.strict import StrictModel

Vectors = NDArray[np.float32]

_NUMBERS = 192
_SAMPLE = 20_000


class CoarseConfig(StrictModel):
    """Measuring only the likeliest, in galleries too large to look through exactly.

    Needs faiss (`pip install 'trackletgait[coarse]'`). Without this, answers are exact at any
    size and time grows with the gallery (docs/benchmarks-search.md says how, and how much this
    misses).

    Attributes:
        above: Exemplars from which on it is used. Higher is exact for longer, at the price of
            time.
        candidates: Exemplars that are measured exactly for each probe. More miss less, at the
            price of time.
    """

    above: int = Field(default=300_000, ge=1000)
    candidates: int = Field(default=400, ge=1)


class CoarseIndex:
    """Every row as 192 bytes, all of which are looked through.

    Looking into some groups of rows only (more lists than one) missed too much: at a third of the
    time, the nearest of one probe in fifty. Graphs (HNSW) miss little, but cannot forget a row.

    Searches may run side by side; changes may not run beside anything.

    Args:
        sample: What the vectors will look like, shape (N, D).
        config: How much is looked at.
    """

    def __init__(self, sample: Vectors, config: CoarseConfig) -> None:
        faiss = import_faiss()
        numbers = min(_NUMBERS, *sample.shape)
        index = faiss.index_factory(sample.shape[1], f"PCA{numbers},IVF1,SQ8")
        index.train(sample)
        # Otherwise removing a row would look through all.
        faiss.extract_index_ivf(index).set_direct_map_type(faiss.DirectMap.Hashtable)
        self._index: Any = index
        self.config = config

    @staticmethod
    def sample_size(count: int) -> int:
        """Return how many vectors it takes to learn what `count` are like."""
        return min(count, _SAMPLE)

    def add(self, rows: Sequence[int], vectors: Vectors) -> None:
        """Add rows that are not there, with vectors of shape (N, D)."""
        self._index.add_with_ids(vectors, np.array(rows, np.int64))

    def remove(self, rows: Sequence[int]) -> None:
        """Drop rows; those that are not there are no error."""
        if rows:
            self._index.remove_ids(np.array(rows, np.int64))

    def candidates(self, vectors: Vectors) -> list[list[int]]:
        """Return, for each vector of shape (M, D), the rows to look at."""
        found = self._index.search(vectors, self.config.candidates)[1]
        return [[row for row in rows if row >= 0] for rows in found.tolist()]


def import_faiss() -> Any:
    """Return faiss, or raise a ConfigError that says how to get it."""
    try:
        import faiss
    except ImportError as error:
        raise ConfigError(
            f"gallery.coarse: needs faiss ({error}); pip install 'trackletgait[coarse]', or "
            f"leave it out: searches are exact without it"
        ) from error
    return faiss
