"""Every probe against every gallery sequence of a protocol, in blocks that fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gait.distance import cosine, euclidean
from gait.errors import DataError
from gait.evaluation.ranking import Floats, Rows

Metric = Literal["euclidean", "cosine"]
Precision = Literal["float16", "float32", "float64"]

METRICS: dict[Metric, Callable[..., Floats]] = {"euclidean": euclidean, "cosine": cosine}
DTYPES: dict[Precision, DTypeLike] = {
    "float16": np.float16,
    "float32": np.float32,
    "float64": np.float64,
}

_DISTANCES_AT_ONCE = 2**26  # 256 MB of float32
_READ_AT_ONCE = 2**21  # readers hold several arrays of this size: keep them near the cache
_CHECKED_AT_ONCE = 1024


class Key(Protocol):
    """What a protocol must know of a sequence; `gait.data.dataset.SequenceKey` is one."""

    @property
    def subject(self) -> str:
        """Who walks."""
        ...

    @property
    def condition(self) -> str:
        """How: clothing, bag, session."""
        ...

    @property
    def view(self) -> str:
        """From where it was seen."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class TestSet:
    """The embeddings of a test set with what is known of each.

    Attributes:
        embeddings: Shape (N, C, P); float16, float32 or float64; may be memory-mapped.
        subjects: Shape (N,), text.
        conditions: Shape (N,), text.
        views: Shape (N,), text.
        metric: How far apart two embeddings are.
        precision: What distances are computed in; float16 as `gait.distance.euclidean` says.
    """

    __test__ = False  # pytest: not a test

    embeddings: Floats
    subjects: NDArray[np.str_]
    conditions: NDArray[np.str_]
    views: NDArray[np.str_]
    metric: Metric = "euclidean"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 3 or len(self.embeddings) != len(self.subjects):
            raise ValueError(
                f"embeddings: expected shape (N, C, P) with one of each of the "
                f"{len(self.subjects)} keys, got {self.embeddings.shape}"
            )

    @classmethod
    def of(
        cls, embeddings: Floats, keys: Sequence[Key], metric: Metric, precision: Precision
    ) -> TestSet:
        """Return the test set of embeddings and their keys.

        Raises:
            ValueError: There is not one embedding a key, or an unknown metric or precision.
            DataError: There are no embeddings, or one holds something that is not a number.
        """
        if metric not in METRICS or precision not in DTYPES:
            raise ValueError(
                f"expected a metric of {', '.join(METRICS)} and a precision of "
                f"{', '.join(DTYPES)}, got {metric!r} and {precision!r}"
            )
        if not len(keys) or not embeddings.size:
            raise DataError(
                f"test set: expected embeddings (N, C, P), none of them 0, got {embeddings.shape} "
                f"of {len(keys)} sequences; check the partition"
            )
        columns = [[key.subject, key.condition, key.view] for key in keys]
        subjects, conditions, views = np.array(columns, dtype=np.str_).T
        _check_finite(embeddings, keys)
        return cls(embeddings, subjects, conditions, views, metric, precision)

    def distances(self, probe: NDArray[np.int64], gallery: Floats) -> Floats:
        """Return the distances of some sequences to the embeddings of a gallery, (M, G).

        Raises:
            DataError: Embeddings are too large for the precision.
        """
        rows = self.embeddings[probe]
        try:
            return METRICS[self.metric](rows, gallery, dtype=DTYPES[self.precision])
        except ValueError as error:
            raise DataError(str(error)) from error


def _check_finite(embeddings: Floats, keys: Sequence[Key]) -> None:
    for start in range(0, len(embeddings), _CHECKED_AT_ONCE):
        block = np.asarray(embeddings[start : start + _CHECKED_AT_ONCE])
        bad = np.flatnonzero(~np.isfinite(block).all(axis=tuple(range(1, block.ndim))))
        if len(bad):
            key = keys[start + int(bad[0])]
            raise DataError(
                f"embedding of {key.subject}/{key.condition}/{key.view}: expected finite "
                "numbers, got nan or infinity; embed the sequence again, in float32"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """Which sequences are looked for among which.

    Attributes:
        name: The condition as the papers call it; empty when there is only one.
        probe: Positions in the test set, int64.
        gallery: Positions in the test set, int64.
        drop: What of the gallery is left out for a probe: nothing, the same subject in the same
            view, or the probe itself. Readers decide whether they heed it.
        reranked: Distances (probes, gallery) to use in place of the embeddings'.
    """

    name: str
    probe: NDArray[np.int64]
    gallery: NDArray[np.int64]
    drop: Literal["nothing", "same view", "itself"] = "nothing"
    reranked: Floats | None = None


Reader = Callable[[Rows], NDArray[Any]]
"""Looks at some rows of distances and returns one row of results a probe."""


def scan(tests: TestSet, trial: Trial, readers: Sequence[Reader]) -> list[NDArray[Any]]:
    """Return what each reader says about every probe of a trial, in the order of the probes."""
    results: list[list[NDArray[Any]]] = [[] for _ in readers]
    labels = _Labels(_codes(tests.subjects), _codes(tests.views))
    for probes, distances in _blocks(tests, trial):
        rows = labels.rows(trial, probes, distances)
        for reader, result in zip(readers, results, strict=True):
            result.append(reader(rows))
    return [np.concatenate(result) for result in results]


def _blocks(tests: TestSet, trial: Trial) -> Iterator[tuple[NDArray[np.int64], Floats]]:
    """Yield some probes at a time with their distances to the whole gallery."""
    gallery = None if trial.reranked is not None else tests.embeddings[trial.gallery]
    num_gallery = max(len(trial.gallery), 1)
    computed = max(_DISTANCES_AT_ONCE // num_gallery, 1)
    read = max(_READ_AT_ONCE // num_gallery, 1)
    for start in range(0, len(trial.probe), computed):
        probes = trial.probe[start : start + computed]
        if gallery is None:
            assert trial.reranked is not None
            block = trial.reranked[start : start + computed]
        else:
            block = tests.distances(probes, gallery)
        for row in range(0, len(probes), read):
            yield probes[row : row + read], block[row : row + read]


@dataclass(frozen=True, slots=True, eq=False)
class _Labels:
    """Subjects and views as numbers: comparing text four billion times takes too long."""

    subjects: NDArray[np.int64]
    views: NDArray[np.int64]

    def rows(self, trial: Trial, probes: NDArray[np.int64], distances: Floats) -> Rows:
        same = self.subjects[probes][:, None] == self.subjects[trial.gallery]
        if trial.drop == "same view":
            dropped = same & (self.views[probes][:, None] == self.views[trial.gallery])
        elif trial.drop == "itself":
            dropped = probes[:, None] == trial.gallery
        else:
            dropped = np.zeros_like(same)
        return Rows(distances, same, dropped)


def _codes(values: NDArray[np.str_]) -> NDArray[np.int64]:
    return np.unique(values, return_inverse=True)[1].astype(np.int64)
