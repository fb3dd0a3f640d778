"""How fast and how right the gallery's search is, beside brute force over the same embeddings."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gait.distance import euclidean
from gait.runtimes.turns import Clock, Turns, median, pair_ratios
from pipeline.gallery.coarse import CoarseConfig
from pipeline.gallery.matrix import ExemplarMatrix
from pipeline.gallery.neighbours import Neighbour, Row
from pipeline.values import Embedding

Floats = NDArray[np.float32]

A_PERSON = 5
"""Exemplars of each."""

BRUTE = ("brute force, float64", "brute force, float32")
ONE = ("search, the nearest", "search, the nearest 5", "search_owners, best and runner-up")

_A_TIME = 2000 * A_PERSON


class People(Protocol):
    """Whom a gallery is filled with."""

    def draw_people(self, count: int, rng: np.random.Generator) -> Floats:
        """Return new people, one a row."""

    def draw_walks(self, people: Floats, rng: np.random.Generator) -> Floats:
        """Return one walk of each, as it would be stored, shape (N, 256, 16)."""


class Noise:
    """The worst case: random numbers, all about equally far apart, in all directions."""

    def draw_people(self, count: int, rng: np.random.Generator) -> Floats:
        """Return nobody in particular."""
        return np.zeros((count, 1), np.float32)

    def draw_walks(self, people: Floats, rng: np.random.Generator) -> Floats:
        """Return random numbers, shape (N, 256, 16)."""
        numbers = rng.standard_normal((len(people), 256, 16), dtype=np.float32)
        return numbers.astype(np.float16).astype(np.float32)


@dataclass(frozen=True)
class Filled:
    """A matrix with people in it, and probes.

    Attributes:
        matrix: The gallery.
        embeddings: The same as an array; None where it would be too large.
        known: Other walks of people who are in it.
        strangers: Walks of people who are not.
        rows_per_s: How fast it was filled.
    """

    matrix: ExemplarMatrix
    embeddings: Floats | None
    known: list[Embedding]
    strangers: list[Embedding]
    rows_per_s: float

    @property
    def probes(self) -> list[Embedding]:
        """Known people and strangers in turns."""
        pairs = zip(self.known, self.strangers, strict=True)
        return [each for pair in pairs for each in pair]


def fill(crowd: People, rows: int, probes: int, *, coarse: CoarseConfig | None = None) -> Filled:
    """Return a gallery of so many rows, with the array where it is not to be searched coarsely."""
    rng = np.random.default_rng(rows)
    matrix = ExemplarMatrix(coarse=coarse)
    kept, seconds = [], 0.0
    known: list[Embedding] = []
    for start in range(0, rows, _A_TIME):
        count = min(_A_TIME, rows - start)
        people = crowd.draw_people(-(-count // A_PERSON), rng)
        walks = crowd.draw_walks(np.repeat(people, A_PERSON, axis=0)[:count], rng)
        some = people[: probes // 2 * count // rows + 1]  # of each part, so that they lie anywhere
        known.extend(crowd.draw_walks(some, rng))
        numbers = range(start, start + count)
        before = time.perf_counter()
        matrix.extend([Row(n, n // A_PERSON, 1.0) for n in numbers], walks)
        seconds += time.perf_counter() - before
        if coarse is None:
            # As the gallery kept them before: parts first, so that nothing is copied.
            kept.append(np.ascontiguousarray(walks.transpose(2, 0, 1)))
    array = np.concatenate(kept, axis=1).transpose(1, 2, 0) if kept else None
    known = [known[n] for n in rng.permutation(len(known))[: probes // 2]]
    strangers = list(crowd.draw_walks(crowd.draw_people(len(known), rng), rng))
    return Filled(matrix, array, known, strangers, rows / seconds)


@dataclass(frozen=True)
class Speed:
    """How long one way takes.

    Attributes:
        rows: In the gallery.
        way: What was done.
        p50_ms: A probe.
        p95_ms: A probe.
        calls: How many were timed.
        speedup: Over brute force in float64, one probe, within the rounds.
    """

    rows: int
    way: str
    p50_ms: float
    p95_ms: float
    calls: int
    speedup: float | None


def measure(
    filled: Filled, *, rounds: int, seconds: float, clock: Clock, only: Sequence[str] = ()
) -> list[Speed]:
    """Let all ways take turns.

    Args:
        filled: With its array.
        rounds: Of turns.
        seconds: For each way in all; brute force is called once a round.
        clock: What tells the time.
        only: The ways to measure; all when none is named.
    """
    ways = {name: way for name, way in _ways(filled).items() if not only or name in only}
    turns = Turns({name: call for name, (_, call) in ways.items()}, clock=clock)
    turns.warm_up(*(name for name in ways if name not in BRUTE))
    turns.run(rounds=rounds, seconds=seconds, once=BRUTE)
    speeds = []
    for name, (batch, _) in ways.items():
        times = turns.times[name]
        ratio = median(pair_ratios(turns.times[BRUTE[0]], times))
        speeds.append(
            Speed(
                rows=len(filled.matrix),
                way=name,
                p50_ms=1000 * times.percentile(50) / batch,
                p95_ms=1000 * times.percentile(95) / batch,
                calls=len(times.calls),
                speedup=None if ratio is None else ratio * batch,
            )
        )
    return speeds


def _ways(filled: Filled) -> dict[str, tuple[int, Callable[[], object]]]:
    """Return how many probes each way takes at once, and the way."""
    matrix, array = filled.matrix, filled.embeddings
    assert array is not None
    probes = itertools.cycle(filled.probes)

    def some(count: int) -> list[Embedding]:
        return list(itertools.islice(probes, count))

    return {
        BRUTE[0]: (1, lambda: euclidean(some(1)[0][np.newaxis], array).argmin()),
        BRUTE[1]: (
            1,
            lambda: euclidean(some(1)[0][np.newaxis], array, dtype=np.float32).argmin(),
        ),
        ONE[0]: (1, lambda: matrix.search(some(1))),
        ONE[1]: (1, lambda: matrix.search(some(1), k=5)),
        ONE[2]: (1, lambda: matrix.search_owners(some(1))),
        "search, batches of 16": (16, lambda: matrix.search(some(16))),
        "search, batches of 64": (64, lambda: matrix.search(some(64))),
        "search_owners, batches of 64": (64, lambda: matrix.search_owners(some(64))),
    }


def agreement(filled: Filled, count: int) -> int:
    """Return for how many of the first probes the nearest is that of brute force."""
    assert filled.embeddings is not None
    probes = filled.probes[:count]
    distances = euclidean(np.stack(probes), filled.embeddings)
    found = [each[0] for each in filled.matrix.search(probes)]
    return sum(int(row.argmin()) == each.key for row, each in zip(distances, found, strict=True))


def measure_changes(
    matrix: ExemplarMatrix, crowd: People, clock: Clock, count: int = 200
) -> dict[str, float]:
    """Return the median milliseconds of every kind of change; the matrix is as before after it."""
    rng = np.random.default_rng(0)
    walks = crowd.draw_walks(crowd.draw_people(count, rng), rng)
    keys = range(-count, 0)
    changes: dict[str, Callable[[int], None]] = {
        "append": lambda key: matrix.extend([Row(key, key, 1.0)], walks[key][np.newaxis]),
        "move": lambda key: matrix.move(key, key),
        "remove": matrix.remove,
    }
    taken = {}
    for name, change in changes.items():
        each = []
        for key in keys:
            before = clock()
            change(key)
            each.append(clock() - before)
        taken[name] = 1000 * float(np.median(each))
    return taken


@dataclass(frozen=True)
class Recall:
    """What the coarse search finds of what there is.

    Attributes:
        rows: In the gallery.
        probes: How many were compared.
        nearest: Share whose nearest exemplar was found.
        nearest_5: Share of the five nearest exemplars that was found.
        owners: Share whose best and runner-up identity both were found.
        exact_ms: A probe, one after the other, on one core.
        coarse_ms: The same.
        build_s: What the coarse index took to make, with the sketches.
    """

    rows: int
    probes: int
    nearest: float
    nearest_5: float
    owners: float
    exact_ms: float
    coarse_ms: float
    build_s: float


def measure_recall(crowd: People, rows: int, probes: int, clock: Clock) -> Recall:
    """Compare the coarse search with the exact one over the same rows; needs faiss."""
    # One matrix for both, for memory: below `above` it is exact, and one row more makes it coarse.
    filled = fill(crowd, rows - 1, probes, coarse=CoarseConfig(above=rows))
    matrix, asked = filled.matrix, filled.probes
    exact, exact_ms = _answers(matrix, asked, clock)
    before = clock()
    far_away = np.full((1, 256, 16), 1000.0, np.float32)
    matrix.extend([Row(rows, -1, 1.0)], far_away)
    build_s = clock() - before
    coarse, coarse_ms = _answers(matrix, asked, clock)
    pairs = list(zip(exact, coarse, strict=True))
    return Recall(
        rows=rows,
        probes=len(asked),
        nearest=float(np.mean([a[0][0].key == b[0][0].key for a, b in pairs])),
        nearest_5=float(np.mean([len(_keys(a[0]) & _keys(b[0])) / 5 for a, b in pairs])),
        owners=float(np.mean([_keys(a[1]) == _keys(b[1]) for a, b in pairs])),
        exact_ms=exact_ms,
        coarse_ms=coarse_ms,
        build_s=build_s,
    )


Answers = list[tuple[list[Neighbour], list[Neighbour]]]


def _answers(
    matrix: ExemplarMatrix, probes: Sequence[Embedding], clock: Clock
) -> tuple[Answers, float]:
    """Return the five nearest and the two nearest people, and the milliseconds of the latter."""
    people, taken = [], []
    for probe in probes:
        before = clock()
        people += matrix.search_owners([probe])
        taken.append(clock() - before)
    nearest = matrix.search(probes, k=5)
    return list(zip(nearest, people, strict=True)), 1000 * float(np.median(taken))


def _keys(found: Iterable[Neighbour]) -> set[int]:
    return {each.key for each in found}
