"""Measure how fast the gallery is searched and rewrite docs/benchmarks-search.md.

    make bench-search

Exact search takes turns with brute force (`gait.distance.euclidean`) over the same embeddings, on
one core; the coarse search is compared with the exact one. The embeddings are the shipped
encoder's, of synthetic people it was not trained on; making them takes some minutes the first time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gait.errors import ConfigError
from gait.runtimes.machine import OtherWork, describe_machine
from gait.runtimes.turns import Clock
from pipeline.evaluation.crowd import Crowd, real_embeddings
from pipeline.evaluation.search_bench import (
    A_PERSON,
    BRUTE,
    ONE,
    Filled,
    Noise,
    People,
    Recall,
    Speed,
    agreement,
    fill,
    measure,
    measure_changes,
    measure_recall,
)
from pipeline.gallery.coarse import CoarseConfig, import_faiss

ROOT = Path(__file__).resolve().parent.parent
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PACKAGES = ("numpy", "faiss-cpu")
AGREEING = 20


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
that are depends on the embeddings: of random numbers all are, as the worst case below shows; the
answers are right all the same.

A row takes 8 KB for the embedding (float16, as it is stored: exact) and 3 KB for the sketch.

Any number of threads may search while one changes rows; a search sees all of a change or nothing. A
change waits for the searches that have begun.
""".splitlines()


def speed_section(title: str, filled: Filled, speeds: Sequence[Speed]) -> list[str]:
    """Return the page's part about one gallery."""
    rows, taken = len(filled.matrix), filled.matrix.nbytes
    columns = ("way", "ms a probe, p50", "p95", "calls", "faster than brute force by")
    return [
        f"## {rows:,} exemplars{title}",
        "",
        f"The same nearest exemplar as brute force for {agreement(filled, AGREEING)} of {AGREEING} "
        f"probes. Memory: {taken / 1e6:.0f} MB, {taken / rows / 1000:.1f} KB a row. "
        f"Filled at {filled.rows_per_s:.0f} rows a second.",
        "",
        *table(columns, [cells(speed) for speed in speeds]),
    ]


def cells(speed: Speed) -> tuple[str, ...]:
    """Return a row of the table."""
    return (
        speed.way,
        f"{speed.p50_ms:.3g}",
        f"{speed.p95_ms:.3g}",
        str(speed.calls),
        "" if speed.speedup is None else f"{speed.speedup:.3g}x",
    )


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
        "Off unless it is configured, and then from `above` exemplars on (300,000 by default): "
        "faiss looks through 192 bytes a row (principal components of the sketches, 8 bits each) "
        "and proposes candidates, which are measured exactly. Where fewer are left than were "
        "asked for, everything is searched. It is made anew from the rows whenever sketches are.",
        "",
    ]
    if isinstance(recall, str):
        return [*lines, recall, ""]
    default = CoarseConfig()
    return [
        *lines,
        f"{recall.rows:,} exemplars, {recall.probes:,} probes, {default.candidates} candidates "
        "each; times are of one probe after the other, best and runner-up:",
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


def clock_of(options: argparse.Namespace) -> Clock:
    """Return what tells the time."""
    return time.process_time if options.cpu_time else time.perf_counter


def main() -> None:
    """Measure and write."""
    options = parse()
    say(f"embeddings of {options.people} people; the first time that takes minutes")
    embeddings, owners = real_embeddings(options.people, options.cache)
    crowd, others = Crowd.of(embeddings, owners), OtherWork()
    lines: list[str] = []
    figures: dict[str, Any] = {"machine": describe_machine(packages=PACKAGES, root=ROOT)}
    for rows in options.rows:
        speeds, filled = measured(crowd, rows, options)
        lines += speed_section("", filled, speeds)
        figures[f"{rows} exemplars"] = as_json(speeds)
    figures["changes_ms"] = measure_changes(filled.matrix, crowd, clock_of(options))
    lines += change_section(len(filled.matrix), figures["changes_ms"])
    speeds, filled = measured(Noise(), options.rows[0], options, only=(*BRUTE, *ONE))
    lines += speed_section(" of random numbers: the worst case", filled, speeds)
    figures[f"{options.rows[0]} exemplars of random numbers"] = as_json(speeds)
    del filled  # before the largest
    recall = coarse_part(crowd, options)
    lines += recall_section(recall)
    figures["coarse"] = recall if isinstance(recall, str) else dataclasses.asdict(recall)
    lines = head(options, len(embeddings), others.warnings()) + lines
    options.write.write_text("\n".join(lines))
    options.write.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    say(f"wrote {options.write}")


def measured(
    people: People, rows: int, options: argparse.Namespace, only: Sequence[str] = ()
) -> tuple[list[Speed], Filled]:
    """Fill a gallery and measure it."""
    say(f"{rows:,} exemplars")
    filled = fill(people, rows, options.probes)
    speeds = measure(
        filled,
        rounds=options.rounds,
        seconds=options.seconds,
        clock=clock_of(options),
        only=only,
    )
    return speeds, filled


def as_json(speeds: Sequence[Speed]) -> list[dict[str, Any]]:
    """Return what is written of them."""
    return [dataclasses.asdict(speed) for speed in speeds]


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
