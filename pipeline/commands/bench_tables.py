"""What `trackletgait bench` prints; `encoder_cells` also fills docs/benchmarks-encoder.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from pipeline.commands.console import Console

if TYPE_CHECKING:
    from gait.runtimes.bench_report import BenchReport
    from gait.runtimes.bench_streaming import StreamingReport, StreamingRow
    from gait.runtimes.measure import Peak, Row

COLUMNS = (
    "runtime", "precision", "batch", "frames", "seq/s", "frames/s", "p50 ms", "p95 ms", "GFLOP/s",
    "of peak", "MB", "cosine", "gate", "speedup",
)  # fmt: skip
_TEXT_COLUMNS = 2
_WIDEST = 200
_PASSED = "passed"


def encoder_cells(row: Row) -> list[str]:
    """Return a row that was measured as text, one cell for each of `COLUMNS`."""
    return [
        row.runtime,
        row.precision,
        str(row.batch),
        str(row.frames),
        _number(row.sequences_per_s),
        _number(row.frames_per_s),
        _number(row.p50_ms),
        _number(row.p95_ms),
        _number(row.gflops),
        "" if row.fraction_of_peak is None else f"{row.fraction_of_peak:.0%}",
        "" if row.memory_mb is None else f"{row.memory_mb:.0f}",
        "" if row.parity is None else f"{row.parity:.5f}",
        "" if row.gate is None else row.gate.partition(" ")[0].rstrip(":"),
        "" if row.speedup is None else f"{row.speedup:.2f}x",
    ]


def problems(report: BenchReport) -> list[str]:
    """Return one line for each row without figures, and for each refusal at the gate."""
    found = []
    for row in report.rows:
        where = "" if row.batch is None else f" at [{row.batch}, {row.frames}]"
        if row.problem is not None:
            why = row.problem.removeprefix(f"{row.runtime}: ")
            found.append(f"{row.runtime} {row.precision}{where}: {why}")
    refused = {
        f"{row.runtime} {row.precision} would not serve: {row.gate}"
        for row in report.rows
        if row.gate is not None and not row.gate.startswith(_PASSED)
    }
    return [*found, *sorted(refused)]


def peak_line(peak: Peak) -> str:
    """Return the roof of one precision and what gave it."""
    if peak.gflops is None:
        return f"{peak.precision}: no product of matrices was timed"
    best = ", ".join(
        f"{each.name} {each.gflops:.0f}" for each in peak.candidates if each.gflops is not None
    )
    return (
        f"{peak.precision}: {peak.gflops:.0f} GFLOP/s by {peak.kernel}, median of the run "
        f"(tried before it, at their best: {best})"
    )


def print_encoder(report: BenchReport) -> None:
    """Print the table, what it stands on, and what is missing from it and why."""
    console = Console()

    def say(text: str) -> None:
        console.print(escape(text), soft_wrap=True, highlight=False)

    say(f"Network: {report.network}")
    say(f"Machine: {report.machine}; {report.threads} thread(s)")
    gflop = ", ".join(f"{value:.1f} of {frames} frames" for frames, value in report.gflop.items())
    say(f"GFLOP of a sequence (unfolded network, 2 x multiplications): {gflop}")
    for peak in report.peaks:
        say(f"Peak in {peak_line(peak)}")
    table = _table(report)
    _print_whole(table, console)
    for line in problems(report):
        say(f"- {line}")
    for warning in report.warnings:
        console.print(f"[yellow]Note:[/] {escape(warning)}", soft_wrap=True, highlight=False)
    if report.against is not None and report.speedup is not None:
        say(f"Served against {report.against}: {report.speedup:.2f}x")
    if report.interrupted:
        say("Stopped: the table holds what was measured so far.")


def _print_whole(table: Table, console: Console) -> None:
    """Print a table that a narrow terminal may wrap, which is better than cells cut off."""
    wanted = Console(width=_WIDEST).measure(table).maximum
    Console(width=max(wanted, console.width)).print(table)


def _table(report: BenchReport) -> Table:
    shown = [index for index, name in enumerate(COLUMNS) if name != "speedup" or report.against]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for index in shown:
        table.add_column(
            COLUMNS[index], justify="left" if index < _TEXT_COLUMNS else "right", no_wrap=True
        )
    last = None
    for row in report.rows:
        if row.frames_per_s is None:
            continue
        if last not in (None, (row.batch, row.frames)):  # one shape after another
            table.add_row()
        last = (row.batch, row.frames)
        cells = encoder_cells(row)
        table.add_row(*(cells[index] for index in shown))
    return table


def _number(value: float | None) -> str:
    """Return three digits, or all that stand before the point."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


STREAMING_COLUMNS = ("way", "stride", "frames/s", "p50 ms", "p95 ms", "streaming is faster by")


def streaming_cells(row: StreamingRow) -> list[str]:
    """Return a row as text, one cell for each of `STREAMING_COLUMNS`."""
    return [
        row.way,
        str(row.stride),
        _number(row.frames_per_s),
        _number(row.p50_ms),
        _number(row.p95_ms),
        "" if row.streaming_ratio is None else f"{row.streaming_ratio:.2f}x",
    ]


def print_streaming(report: StreamingReport) -> None:
    """Print who is faster at which stride."""
    console = Console()
    for text in (
        f"Network: {report.network}",
        f"Machine: {report.machine}",
        streaming_note(report),
    ):
        console.print(escape(text), soft_wrap=True, highlight=False)
    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(STREAMING_COLUMNS):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    last = None
    for row in report.rows:
        if last not in (None, row.stride):
            table.add_row()
        last = row.stride
        table.add_row(*streaming_cells(row))
    _print_whole(table, console)
    for warning in report.warnings:
        console.print(f"[yellow]Note:[/] {escape(warning)}", soft_wrap=True, highlight=False)
    if report.interrupted:
        console.print("Stopped: the table holds what was measured so far.")


def streaming_note(report: StreamingReport) -> str:
    """Return what the rows mean."""
    return (
        f"An embedding after every so many new silhouettes (stride); {report.threads} thread(s). "
        f"Late: without the last {report.lag} silhouettes. A walk takes {report.state_mb:.1f} MB. "
        f"Whole history: of walks of {report.history} silhouettes, timed at half of them."
    )
