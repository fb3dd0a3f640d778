"""Measure how fast the gallery is searched and rewrite docs/benchmarks-search.md.

    make bench-search

Exact search takes turns with brute force (`gait.distance.euclidean`) over the same embeddings, on
one core; the coarse search is compared with the exact one. The embeddings are the shipped
encoder's, of synthetic people it was not trained on; making them takes some minutes the first time.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gait.distance import euclidean
from gait.errors import ConfigError
from gait.runtimes.machine import OtherWork, describe_machine
from gait.runtimes.turns import Turns, median, pair_ratios
from pipeline.evaluation.crowd import Crowd, real_embeddings
from pipeline.gallery.coarse import CoarseConfig, import_faiss
from pipeline.gallery.matrix import ExemplarMatrix
from pipeline.gallery.neighbours import Neighbour, Row
from pipeline.values import Embedding

ROOT = Path(__file__).resolve().parent.parent
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PACKAGES = ("numpy", "faiss-cpu")
A_PERSON = 5
A_TIME = 2000 * A_PERSON
BRUTE = ("brute force, float64", "brute force, float32")

Floats = NDArray[np.float32]


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


def fill(crowd: Crowd, rows: int, probes: int, *, coarse: CoarseConfig | None = None) -> Filled:
    """Fill a matrix; the array too, where there is nothing coarse."""
    rng = np.random.default_rng(rows)
    matrix = ExemplarMatrix(coarse=coarse)
    kept, seconds = [], 0.0
    known: list[Embedding] = []
    for start in range(0, rows, A_TIME):
        count = min(A_TIME, rows - start)
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


def measure(filled: Filled, options: argparse.Namespace) -> list[Speed]:
    """Let all ways take turns."""
    matrix, array = filled.matrix, filled.embeddings
    assert array is not None
    probes = itertools.cycle(filled.probes)

    def some(count: int) -> list[Embedding]:
        return list(itertools.islice(probes, count))

    ways: dict[str, tuple[int, Callable[[], object]]] = {
        BRUTE[0]: (1, lambda: euclidean(some(1)[0][np.newaxis], array).argmin()),
        BRUTE[1]: (
            1,
            lambda: euclidean(some(1)[0][np.newaxis], array, dtype=np.float32).argmin(),
        ),
        "search, the nearest": (1, lambda: matrix.search(some(1))),
        "search, the nearest 5": (1, lambda: matrix.search(some(1), k=5)),
        "search_owners, best and runner-up": (1, lambda: matrix.search_owners(some(1))),
        "search, batches of 16": (16, lambda: matrix.search(some(16))),
        "search, batches of 64": (64, lambda: matrix.search(some(64))),
        "search_owners, batches of 64": (64, lambda: matrix.search_owners(some(64))),
    }
    turns = Turns({name: call for name, (_, call) in ways.items()}, clock=clock_of(options))
    turns.warm_up(*list(ways)[len(BRUTE) :])
    turns.run(rounds=options.rounds, seconds=options.seconds, once=BRUTE)
    speeds = []
    for name, (batch, _) in ways.items():
        times = turns.times[name]
        ratio = median(pair_ratios(turns.times[BRUTE[0]], times))
        speeds.append(
            Speed(
                rows=len(matrix),
                way=name,
                p50_ms=1000 * times.percentile(50) / batch,
                p95_ms=1000 * times.percentile(95) / batch,
                calls=len(times.calls),
                speedup=None if ratio is None else ratio * batch,
            )
        )
    return speeds


def clock_of(options: argparse.Namespace) -> Callable[[], float]:
    """Return what tells the time."""
    return time.process_time if options.cpu_time else time.perf_counter


def agreement(filled: Filled, count: int) -> str:
    """Compare answers with brute force."""
    assert filled.embeddings is not None
    probes = filled.probes[:count]
    distances = euclidean(np.stack(probes), filled.embeddings)
    found = [each[0] for each in filled.matrix.search(probes)]
    same = sum(int(row.argmin()) == each.key for row, each in zip(distances, found, strict=True))
    return f"the same nearest exemplar as brute force for {same} of {count} probes"


def measure_changes(
    matrix: ExemplarMatrix, crowd: Crowd, clock: Callable[[], float], count: int = 200
) -> dict[str, float]:
    """Return the median milliseconds of every kind of change; the matrix is as before after it."""
    rng = np.random.default_rng(0)
    walks = crowd.draw_walks(crowd.draw_people(count, rng), rng)
    keys = range(-count, 0)
    changes: dict[str, Callable[[int], None]] = {
        "append": lambda key: matrix.append(Row(key, key, 1.0), walks[key]),
        "replace": lambda key: matrix.replace(
            matrix.rows_of(key)[0], Row(key, key, 1.0), walks[key]
        ),
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


def measure_recall(crowd: Crowd, rows: int, probes: int, clock: Callable[[], float]) -> Recall:
    """Compare the coarse search with the exact one over the same rows."""
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
    matrix: ExemplarMatrix, probes: Sequence[Embedding], clock: Callable[[], float]
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


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Return a Markdown table."""
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def head(options: argparse.Namespace, real: int, warnings: Iterable[str]) -> list[str]:
    """Return the page's beginning."""
    clock = "processor time" if options.cpu_time else "wall-clock time"
    return [
        "# Benchmarks of the search",
        "",
        "Written by `make bench-search`; do not edit by hand. The figures as JSON: "
        "[benchmarks-search.json](benchmarks-search.json).",
        "",
        f"* When: {datetime.now(UTC):%Y-%m-%d}",
        f"* Machine: {describe_machine(packages=PACKAGES, root=ROOT)}",
        f"* One thread, {clock}; all ways took turns, and speedups are medians over the "
        f"{options.rounds} rounds",
        f"* Embeddings: {real} walks of {options.people} synthetic people by the shipped encoder, "
        "which was trained on none of them, and as many more as a gallery takes, drawn to vary as "
        f"these do (`pipeline/evaluation/crowd.py` says how); {A_PERSON} exemplars a person. Half "
        "of the probes are other walks of people in the gallery, half are of strangers",
        *(f"* **{each[0].upper()}{each[1:]}**" for each in warnings),
        "",
        *EXPLANATION,
        "",
    ]


EXPLANATION = """\
## What is measured

Distances are the paper's: the mean over 16 parts of Euclidean distances of 256 numbers. Search is
exact: the answer is that of a loop over all exemplars in float64, ties by the lower key, whatever
the embeddings are. It is fast because most exemplars are ruled out unread. Each has a sketch: 45
numbers a part, along the directions in which this gallery's parts differ most, and the length of
the rest. By the triangle inequality two sketches are never farther apart than what they are of,
once what rounding could add is taken off (`pipeline/gallery/sketch.py` says how much). Exemplars
are measured exactly, from the lowest bound on, until no other bound is below the answer. How many
that are depends on the embeddings: of noise without any structure all would be, and search would
take about what brute force takes; the answer would still be right.

A row takes 8 KB for the embedding (float16, as it is stored: exact) and 3 KB for the sketch.

Any number of threads may search while one changes rows; a search sees all of a change or nothing. A
change waits for the searches that have begun.
""".splitlines()


def speed_section(rows: int, filled: Filled, speeds: Sequence[Speed], agrees: str) -> list[str]:
    """Return the page's part about one size."""
    each = filled.matrix.nbytes / rows / 1000
    return [
        f"## {rows:,} exemplars",
        "",
        f"Answers: {agrees}. Memory: {filled.matrix.nbytes / 1e6:.0f} MB, {each:.1f} KB a row. "
        f"Filled at {filled.rows_per_s:.0f} rows a second.",
        "",
        *table(
            ("way", "ms a probe, p50", "p95", "calls", "faster than brute force by"),
            (
                (
                    speed.way,
                    f"{speed.p50_ms:.3g}",
                    f"{speed.p95_ms:.3g}",
                    str(speed.calls),
                    "" if speed.speedup is None else f"{speed.speedup:.3g}x",
                )
                for speed in speeds
            ),
        ),
    ]


def change_section(rows: int, changes: dict[str, float]) -> list[str]:
    """Return the page's part about changes."""
    return [
        f"## Changes, at {rows:,} exemplars",
        "",
        "Medians, in milliseconds. Sketches are made anew at 64 rows and whenever there are 8 "
        "times as many as the last time; searches go on meanwhile, the change that brought it "
        "about waits.",
        "",
        *table(list(changes), [[f"{each:.3f}" for each in changes.values()]]),
    ]


def recall_section(recall: Recall | str) -> list[str]:
    """Return the page's part about the coarse search."""
    lines = [
        "## Beyond: the coarse search",
        "",
        "Off unless it is configured, and then from `above` exemplars on (300,000 by default): an "
        "inverted file of faiss (IVF over 96 principal components of the sketches, float16) "
        "proposes candidates, which are measured exactly. Where fewer are left than were asked "
        "for, everything is searched. It can be made anew from the rows at any time.",
        "",
    ]
    if isinstance(recall, str):
        return [*lines, recall, ""]
    default = CoarseConfig()
    return [
        *lines,
        f"{recall.rows:,} exemplars, {recall.probes:,} probes, {default.candidates} candidates "
        f"from {default.lists} lists; one probe after the other, best and runner-up:",
        "",
        *table(
            (
                "recall of the nearest",
                "of the nearest 5",
                "of best and runner-up person",
                "exact, ms",
                "coarse, ms",
                "built in s",
            ),
            [
                (
                    f"{recall.nearest:.4f}",
                    f"{recall.nearest_5:.4f}",
                    f"{recall.owners:.4f}",
                    f"{recall.exact_ms:.3g}",
                    f"{recall.coarse_ms:.3g}",
                    f"{recall.build_s:.0f}",
                )
            ],
        ),
    ]


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--coarse-rows", type=int, default=300_000, help="0 leaves that out")
    parser.add_argument("--coarse-probes", type=int, default=2000)
    parser.add_argument("--people", type=int, default=200, help="real ones, twelve walks each")
    parser.add_argument("--probes", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each way")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=ROOT / "results" / "search")
    parser.add_argument("--write", type=Path, default=ROOT / "docs" / "benchmarks-search.md")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="count processor time, which others on a busy machine disturb less",
    )
    return parser.parse_args()


def main() -> None:
    """Measure and write."""
    options = parse()
    say(f"embeddings of {options.people} people; the first time that takes minutes")
    embeddings, owners = real_embeddings(options.people, options.cache)
    crowd = Crowd.of(embeddings, owners)
    others = OtherWork()
    lines, record = [], {"machine": describe_machine(packages=PACKAGES, root=ROOT)}
    speeds: list[Speed] = []
    for rows in options.rows:
        say(f"{rows:,} exemplars")
        filled = fill(crowd, rows, options.probes)
        found = measure(filled, options)
        agrees = agreement(filled, 20)
        lines += speed_section(rows, filled, found, agrees)
        speeds += found
        record[f"agreement at {rows}"] = agrees
    changes = measure_changes(filled.matrix, crowd, clock_of(options))
    lines += change_section(rows, changes)
    del filled
    recall = coarse_part(crowd, options)
    lines += recall_section(recall)
    lines = head(options, len(embeddings), others.warnings()) + lines
    options.write.write_text("\n".join(lines))
    figures = {
        **record,
        "speeds": [dataclasses.asdict(each) for each in speeds],
        "changes_ms": changes,
        "coarse": recall if isinstance(recall, str) else dataclasses.asdict(recall),
    }
    options.write.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    say(f"wrote {options.write}")


def coarse_part(crowd: Crowd, options: argparse.Namespace) -> Recall | str:
    """Return the figures of the coarse search, or why there are none."""
    if not options.coarse_rows:
        return "Not measured in this run."
    try:
        import_faiss()
    except ConfigError as error:
        return f"Not measured in this run: {error}."
    say(f"{options.coarse_rows:,} exemplars, searched exactly and coarsely")
    return measure_recall(crowd, options.coarse_rows, options.coarse_probes, clock_of(options))


def on_one_core() -> None:
    """Start anew where more threads are allowed: libraries only look once."""
    if any(os.environ.get(name) != "1" for name in THREADS):
        os.environ.update(dict.fromkeys(THREADS, "1"))
        os.execv(sys.executable, [sys.executable, *sys.argv])


def say(text: str) -> None:
    """Print what comes next."""
    print(text, flush=True)


if __name__ == "__main__":
    on_one_core()
    main()
