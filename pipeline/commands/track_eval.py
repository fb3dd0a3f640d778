"""`trackletgait track-eval`: how well trackers follow people, on recorded detections."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from pipeline.commands.console import Console

if TYPE_CHECKING:
    from pipeline.evaluation.tracking_folder import MotBoxes, Sequence
    from pipeline.evaluation.tracking_scores import Tally
    from pipeline.stages.track import TrackerConfig


_PURE_S = (1.0, 2.0, 4.0, 8.0)


@dataclass(slots=True)
class _Judged:
    """What one tracker did.

    Attributes:
        by_sequence: Its tally on each recording.
        seconds: What it took for all frames; None for given results.
    """

    by_sequence: dict[str, Tally] = field(default_factory=dict)
    seconds: float | None = None

    @property
    def total(self) -> Tally:
        """The tally over all recordings."""
        first, *others = self.by_sequence.values()
        for each in others:
            first = first + each
        return first

    @property
    def us_per_frame(self) -> float | None:
        """Microseconds a frame; None for given results."""
        return None if self.seconds is None else 1e6 * self.seconds / max(1, self.total.frames)


def track_eval(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder with NAME/gt/gt.txt, NAME/seqinfo.ini and NAME/det/det.txt in or below "
            "it: MOT17, MOT20, DanceTrack, or what `trackletgait synth video` writes."
        ),
    ],
    tracker: Annotated[
        list[str] | None,
        typer.Option(
            "--tracker",
            "-t",
            metavar="NAME",
            help="A tracker, a pipeline's YAML file, or either with changes: "
            "bytetrack,lost_s=3. Repeat for several; default: all, unless --results are given.",
            show_default=False,
        ),
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder with the NAME.txt of some other tracker; repeat for several.",
            show_default=False,
        ),
    ] = None,
    detections: Annotated[
        Path | None,
        typer.Option(help="Folder with NAME.txt (or NAME/det/det.txt) instead of those in FOLDER."),
    ] = None,
    detect: Annotated[
        bool,
        typer.Option(
            "--detect",
            help="Where a det.txt is missing, write what the bundled detector finds in the video, "
            "or the pictures, beside the truth.",
        ),
    ] = False,
    min_visible: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="People of whom less is visible need not be found, and may be. MOTChallenge's "
            "figures are at 0; scenes of `synth video` are fair at 0.3.",
        ),
    ] = 0.0,
    out: Annotated[
        Path | None, typer.Option(help="Write each tracker's boxes here, as TRACKER/NAME.txt.")
    ] = None,
    each: Annotated[bool, typer.Option("--each", help="Also print every recording.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:
    """Score trackers on the same recorded detections: HOTA, CLEAR, Identity, and purity.

    Recognising a walk lives on long tracks of one person only; the second table tells how much of
    people's time is in such tracks, and how many seconds a person are left once those well visible
    count alone. Exit code 0: done, 1: data that cannot be read, 2: wrong usage.
    """
    from pipeline.evaluation.tracking import followers, named_tracker
    from pipeline.evaluation.tracking_folder import DETECTIONS, find_sequences

    names = tracker if tracker is not None else ([] if results else followers())
    trackers = [named_tracker(name) for name in names]
    sequences = find_sequences(folder)
    judged: dict[str, _Judged] = {}
    for sequence in sequences:
        with _progress(sequence) as on_frame:
            if detect and not (sequence.folder / DETECTIONS).is_file():
                from pipeline.evaluation.detecting import record_detections

                record_detections(sequence, on_frame=on_frame)
            _judge(
                sequence, trackers, results or [], detections, min_visible, out, judged, on_frame
            )
    if as_json:
        typer.echo(json.dumps({name: _as_json(one) for name, one in judged.items()}, indent=1))
        return
    console = Console()
    _print(console, f"{len(sequences)} recordings", _rows(judged))
    for name in [sequence.name for sequence in sequences] if each else []:
        _print(console, name, [(one, got.by_sequence[name], None) for one, got in judged.items()])


def _judge(
    sequence: Sequence,
    trackers: list[tuple[str, TrackerConfig]],
    results: list[Path],
    detections: Path | None,
    min_visible: float,
    out: Path | None,
    judged: dict[str, _Judged],
    on_frame: Callable[[str], None],
) -> None:
    """Add one recording to what is known of every tracker."""
    from pipeline.evaluation.tracking import follow
    from pipeline.evaluation.tracking_folder import write_boxes
    from pipeline.evaluation.tracking_scores import score

    truth = sequence.truth(min_visible)

    def add(name: str, boxes: MotBoxes, seconds: float | None) -> None:
        one = judged.setdefault(name, _Judged())
        if seconds is not None:
            one.seconds = (one.seconds or 0.0) + seconds
        on_frame(f"{name}: scoring")
        one.by_sequence[sequence.name] = score(
            truth, boxes, num_frames=sequence.num_frames, fps=sequence.fps
        )

    found = sequence.detections(detections) if trackers else []
    for name, config in trackers:
        run = follow(config.build(), found, fps=sequence.fps, on_frame=partial(on_frame, name))
        if out is not None:
            write_boxes(out / Path(name).name / f"{sequence.name}.txt", run.boxes)
        add(name, run.boxes, float(run.frame_s.sum()))
    for given in results:
        add(given.name, sequence.results(given), None)


@contextmanager
def _progress(sequence: Sequence) -> Iterator[Callable[[str], None]]:
    """Show how far the recording is; gives what to call after each frame."""
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn(escape(sequence.name)),
        BarColumn(),
        TextColumn("{task.completed:,}/{task.total:,} {task.description}"),
    )
    done: dict[str, int] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=sequence.num_frames)

        def on_frame(what: str) -> None:
            done[what] = done.get(what, 0) + 1
            progress.update(bar, completed=done[what], description=escape(what))

        yield on_frame


_Row = tuple[str, "Tally", float | None]


def _rows(judged: dict[str, _Judged]) -> list[_Row]:
    return [(name, one.total, one.us_per_frame) for name, one in judged.items()]


def _print(console: Console, title: str, rows: list[_Row]) -> None:
    """Print what MOT tables report, and then what gait needs."""
    columns = ("tracker", "HOTA", "AssA", "IDF1", "MOTA", "switches", "us/frame")
    table = _table(title, columns)
    for name, tally, us in rows:
        shares = map(_percent, (tally.hota, tally.ass_a, tally.idf1, tally.mota))
        time = "" if us is None else f"{us:.0f}"
        table.add_row(escape(name), *shares, f"{tally.switches}", time)
    console.print(table)
    lengths = ("tracker", "tracks", "people", "purity", *(f"{t:g} s" for t in _PURE_S), "usable")
    table = _table("Purity; share of person-time in pure tracks of at least ...", lengths)
    for name, tally, _ in rows:
        pure = map(_percent, (tally.purity, *map(tally.pure_share, _PURE_S)))
        usable = f"{tally.usable_s_per_person:.1f} s"
        table.add_row(escape(name), f"{tally.tracks}", f"{tally.people}", *pure, usable)
    console.print(table)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(*columns, title=escape(title), title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _as_json(one: _Judged) -> dict[str, Any]:
    return {
        "all": one.total.figures() | {"us_per_frame": one.us_per_frame},
        "sequences": {name: tally.figures() for name, tally in one.by_sequence.items()},
    }
