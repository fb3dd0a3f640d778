"""`trackletgait process` and `trackletgait demo`: recorded files in, a folder of results out."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from pipeline.commands.console import Console

if TYPE_CHECKING:
    from pipeline.file_run import FileRun
    from pipeline.file_run import Progress as StreamProgress
    from pipeline.sinks.folder import ResultsFolder
    from pipeline.values import Sighting

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

_TOGETHER = ("gallery.whereabouts.shared_clock=true",)

_MOST_ROWS = 20
_STEPS = {
    "reading": "",
    "read": "recognised",
    "drawing": "drawing video",
    "drawn": "done",
    "failed": "[red]failed[/]",
}

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="VIDEO...",
        help="Video files, folders of videos, folders of images, or quoted globs.",
        show_default=False,
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")]
Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="YAML file; it holds only what differs.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key, e.g. detector.confidence=0.2"),
]


def process(
    videos: Inputs,
    config: Config = None,
    out: Out = Path("results"),
    start: Annotated[
        float | None, typer.Option(help="Begin this many seconds into each file.", min=0)
    ] = None,
    end: Annotated[
        float | None, typer.Option(help="End this many seconds into each file.", min=0)
    ] = None,
    stride: Annotated[int | None, typer.Option(help="Keep every n-th frame.", min=1)] = None,
    max_frames: Annotated[
        int | None, typer.Option(help="Stop each file after this many frames.", min=1)
    ] = None,
    together: Annotated[
        bool,
        typer.Option(
            "--together",
            help="The videos began at the same moment: nobody is in two places at once.",
        ),
    ] = False,
    set_: Overrides = None,
) -> None:
    """Find who was where, when, in recorded files.

    Writes a report (report.html), sightings, tracks, silhouettes and annotated videos to --out.
    Ctrl-C ends cleanly: what was found so far is written. A second Ctrl-C stops at once.
    """
    given = {
        "start_s": start,
        "end_s": end,
        "stride": stride,
        "max_frames": max_frames,
    }
    read = [f"read.{key}={value}" for key, value in given.items() if value is not None]
    _process(videos, config, out, [*read, *(_TOGETHER if together else ()), *(set_ or [])])


def demo(out: Out = Path("demo-results")) -> None:
    """Run the whole road on the clips that ship, in about a minute.

    20 s of real pedestrians, and rendered walkers on two cameras, of whom it is known who is who:
    two runs, since nobody of the one can be in the other.
    """
    from pipeline.sources.inputs import sample_path, walker_samples

    walkers, truth = walker_samples()
    console = Console()
    console.rule("Real pedestrians", align="left")
    _process([str(sample_path())], None, out / "street", [])
    console.rule("Rendered walkers on two cameras that began together", align="left")
    _process([str(path) for path in walkers], None, out / "walkers", _TOGETHER, truth)


def _process(
    inputs: list[str],
    config: Path | None,
    out: Path,
    overrides: Sequence[str],
    truth: Path | None = None,
) -> None:
    console = Console(stderr=True)
    with console.status("Loading models ..."):
        from pipeline.config import load_config
        from pipeline.file_run import FileRun
        from pipeline.sinks.sightings import take

        settings = load_config(config, overrides)
        bars = _Bars(console)
        run = FileRun(inputs, out=out, config=settings, command=sys.argv, on_progress=bars.update)
    encoder = run.pipeline.identity.encoder
    if encoder.is_trained:
        console.print(f"Encoder: {escape(encoder.description)}", soft_wrap=True, highlight=False)
    else:
        _warn_untrained(console)
    with bars, _ctrl_c(run, console):
        sightings: list[Sighting] = []
        for sighting in run.sightings():
            take(sightings, sighting)
    if truth is not None and run.folder is not None and not run.was_interrupted:
        _check(run.folder, truth)
    _print_sightings(sightings)
    _print_end(run, sightings)
    for problem in run.problems:
        console.problem(problem, "Problem")
    if run.was_interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if run.problems:
        raise typer.Exit(EXIT_FAILED)


def _warn_untrained(console: Console) -> None:
    console.print(
        "[bold yellow]Warning: no trained encoder is configured (encoder.weights).[/]\n"
        "The network has random weights: people are found, followed and cut out for real, "
        "but [bold]who is the same person as who is little better than a guess.[/]",
        highlight=False,
    )


def _check(folder: ResultsFolder, truth: Path) -> None:
    """Add to the results how many identities are right, and make the report again with it."""
    from pipeline.evaluation.check import check
    from pipeline.evaluation.scene import read_truth
    from pipeline.sinks.checked import write_checked
    from pipeline.sinks.report import write_report

    checked = check(folder, read_truth(truth))
    write_checked(folder, checked)
    write_report(folder)
    Console().print(
        f"[bold]{checked.num_right} of {checked.num_asked}[/] people on "
        f"{' and '.join(checked.streams)} got one identity of their own on both, says the truth.\n"
    )


@contextmanager
def _ctrl_c(run: FileRun, console: Console) -> Iterator[None]:
    """Turn the first Ctrl-C into a clean end; the second one raises KeyboardInterrupt."""

    def first(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        console.print("Ending: writing what was found. Press Ctrl-C again to stop at once.")
        run.interrupt()

    previous = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


class _Bars:
    """One bar a stream: frames, frames a second, people so far, time left."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("[cyan]{task.fields[fps]:5.1f} fps[/]"),
            TextColumn("{task.fields[people]} people in {task.fields[tracks]} tracks"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[step]}"),
            console=console,
            refresh_per_second=5,
        )
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, progress: StreamProgress) -> None:
        """Move the stream's bar; the drawing of its video starts the bar anew."""
        task = self._task(progress.stream)
        if progress.step == "drawing" and progress.frames == 1:
            self._progress.reset(task, total=progress.total)
        total = progress.frames if progress.step in {"read", "drawn", "failed"} else progress.total
        changes: dict[str, Any] = {
            "people": progress.people,
            "tracks": progress.tracks,
            "step": _STEPS[progress.step],
        }
        if progress.step == "reading":
            elapsed_s = time.monotonic() - self._started[progress.stream]
            changes["fps"] = progress.frames / max(elapsed_s, 1e-3)
        self._progress.update(task, completed=progress.frames, total=total, **changes)

    def _task(self, stream: str) -> TaskID:
        if stream not in self._tasks:
            self._started[stream] = time.monotonic()
            self._tasks[stream] = self._progress.add_task(
                stream, total=None, people=0, tracks=0, fps=0.0, step=""
            )
        return self._tasks[stream]


def _print_sightings(sightings: list[Sighting]) -> None:
    """Print who was where, when, in order of time."""
    from pipeline.sinks.sightings import clock_text

    known = sorted(
        (s for s in sightings if s.identity is not None), key=lambda s: (s.stream, s.start_s)
    )
    table = Table(title="Who was where, when", title_justify="left", box=None, pad_edge=False)
    for column in ("who", "where", "from", "to", "seen as", "quality"):
        table.add_column(column)
    for s in known[:_MOST_ROWS]:
        how = "on second thoughts" if s.distance is None else f"distance {s.distance:.2f}"
        seen_as = "new" if s.is_new else f"again ({how})"
        table.add_row(
            escape(str(s.identity)),
            escape(s.stream),
            clock_text(s.start_s),
            clock_text(s.end_s),
            seen_as,
            f"{s.quality:.2f}",
        )
    console = Console()
    if known:
        console.print(table)
    if len(known) > _MOST_ROWS:
        console.print(f"... and {len(known) - _MOST_ROWS} more in sightings.jsonl")


def _print_end(run: FileRun, sightings: list[Sighting]) -> None:
    """Say in words what was found and where the results lie."""
    people = {s.identity for s in sightings if s.identity is not None}
    nobody = [s for s in sightings if s.identity is None]
    brief = sum(not s.num_silhouettes for s in nobody)
    others = [
        f"{_count(number, 'track was', 'tracks were')} {what}"
        for number, what in (
            (len(nobody) - brief, "of nobody known"),
            (brief, "too brief or too hidden to recognise"),
        )
        if number
    ]
    console = Console(highlight=False)
    console.print(
        f"\n[bold]{_count(len(people), 'identity', 'identities')}[/] in "
        f"{_count(len(sightings) - len(nobody), 'sighting', 'sightings')}"
        f"{'; ' if others else ''}{', '.join(others)}."
    )
    if run.folder is not None:
        console.print(f"Report:  {escape(str(run.folder.report))}", soft_wrap=True)
        console.print(f"Results: {escape(str(run.folder.path))}", soft_wrap=True)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
