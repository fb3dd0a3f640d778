"""What `trackletgait eval` and `results` show: progress, and tables as the papers print them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from gait.evaluation import Evaluation
from gait.evaluation import Table as Figures
from gait.evaluation.openset import Estimate, OpenSet
from gait.evaluation.published import Row
from pipeline.commands.console import Console

_WIDEST = 400


@contextmanager
def embedding_progress(console: Console) -> Iterator[Callable[[int, int], None]]:
    """Show how many sequences are embedded and how long the rest takes."""
    columns = (
        TextColumn("Embedding"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)

        def update(done: int, total: int) -> None:
            if progress.tasks[0].total is None:  # what an earlier run did says nothing of the speed
                progress.update(task, total=total, completed=done)
                progress.start_task(task)
            else:
                progress.update(task, completed=done)

        yield update


def print_evaluation(found: Evaluation, console: Console) -> None:
    """Print every table, in percent, under the protocol's name."""
    extras = [f"{found.metric} distance", found.precision]
    extras += ["RE-RANKED (k-reciprocal)"] if found.reranked else []
    console.print(f"[bold]{escape(found.title)}[/bold] ({', '.join(extras)})", soft_wrap=True)
    if len(found.counts) <= 1:
        for count in found.counts:
            console.print(
                f"{count.probes} probes, {count.counted} counted; gallery {count.gallery}"
            )
    for figures in found.tables:
        _print(_figures(figures), console)
    if found.submission is not None:
        console.print("The ground truth is on the server: upload submission.zip")
    if found.open_sets:
        _print(_open_sets(found.open_sets), console)
        if not all(point.is_resolved for each in found.open_sets for point in each.points):
            console.print("* too few searches for one false alarm: the threshold allows none")


def print_results(rows: Sequence[Row], console: Console) -> None:
    """Print published beside reproduced figures."""
    table = Table("configuration", "figure", box=box.SIMPLE, title="Published and reproduced, %")
    for heading in ("published", "reproduced", "difference"):
        table.add_column(heading, justify="right")
    table.add_column("distances")
    previous = ""
    for row in rows:
        if previous and row.config != previous:
            table.add_section()
        ours = row.reproduced
        table.add_row(
            row.config if row.config != previous else "",
            row.figure,
            f"{row.published:.2f}",
            "" if ours is None else f"{ours:.2f}",
            "" if ours is None else f"{ours - row.published:+.2f}",
            row.precision,
        )
        previous = row.config
    _print(table, console)
    num_reproduced = sum(row.reproduced is not None for row in rows)
    console.print(f"{num_reproduced} of {len(rows)} published figures reproduced")


def _figures(figures: Figures) -> Table:
    table = Table("", title=escape(figures.title), box=box.SIMPLE, title_justify="left")
    for column in figures.columns:
        table.add_column(escape(column), justify="right")
    for row, values in figures.rows:
        table.add_row(escape(row), *(_percent(value) for value in values))
    return table


def _open_sets(found: Sequence[OpenSet]) -> Table:
    table = Table(
        "",
        "at",
        title="Open set: each probe searched with and without its subject enrolled;\n"
        "in brackets the bootstrap interval over subjects",
        box=box.SIMPLE,
        title_justify="left",
    )
    for heading in ("searches", "FNIR, %", "threshold"):
        table.add_column(heading, justify="right")
    for each in found:
        eer = (_interval(each.eer, 100, 2), _interval(each.eer_threshold, 1, 3))
        table.add_row(escape(each.name), "FPIR = FNIR (EER)", str(each.num_unmated), *eer)
        for point in each.points:
            star = "" if point.is_resolved else " *"
            cells = (_interval(point.fnir, 100, 2), _interval(point.threshold, 1, 3))
            table.add_row("", f"FPIR {100 * point.fpir_target:g} %{star}", "", *cells)
        table.add_section()
    return table


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def _interval(estimate: Estimate, scale: float, decimals: int) -> str:
    if math.isnan(estimate.value):
        return "-"
    value, low, high = (
        f"{scale * each:.{decimals}f}" for each in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} ({low} to {high})"


def _print(table: Table, console: Console) -> None:
    """Print a table in its full width: 14 views do not fit in 80 columns, and none may be lost."""
    wide = console.options.update(width=_WIDEST)
    width = Measurement.get(console, wide, table).maximum
    console.width = max(console.width, width)
    console.print(table)
