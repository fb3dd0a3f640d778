"""`trackletgait tune`: search a tracker's parameters on recordings whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml
from rich.markup import escape
from rich.table import Table

from gait.data.atomic import write_atomically
from gait.errors import ConfigError
from pipeline.commands.console import Console
from pipeline.errors import OutputError, PipelineError

if TYPE_CHECKING:
    from pipeline.evaluation.tracking_search import Found, Material, Search
    from pipeline.stages.track import TrackerConfig


class Objective(StrEnum):
    """What is sought; `pipeline.evaluation.tracking_search` says what each is."""

    USABLE = "usable"
    PURE = "pure"
    HOTA = "hota"
    ASSA = "assa"
    IDF1 = "idf1"
    MOTA = "mota"


def tune(
    folder: Annotated[
        Path, typer.Argument(help="Folder as for `track-eval`, with gt, det and seqinfo.ini.")
    ],
    tracker: Annotated[
        str,
        typer.Option(
            "--tracker",
            "-t",
            metavar="NAME",
            help="A tracker or a pipeline's YAML file. Parameters given with it stay as they "
            "are: bytetrack,lost_s=3.",
        ),
    ] = "bytetrack",
    objective: Annotated[
        Objective,
        typer.Option(
            help="usable: seconds of gait a person in pure tracks. pure: share of person-time in "
            "pure tracks of at least 4 s. Or one of MOTChallenge's."
        ),
    ] = Objective.USABLE,
    trials: Annotated[
        int, typer.Option(min=1, help="Sets of parameters to try, earlier runs included.")
    ] = 200,
    minutes: Annotated[
        float | None, typer.Option(min=0.0, help="Stop after so long.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="All draws follow from it.")] = 1,
    search_range: Annotated[
        list[str] | None,
        typer.Option(
            "--range",
            metavar="NAME=LOW:HIGH",
            help="Where to look for a parameter; repeat for several.",
            show_default=False,
        ),
    ] = None,
    detections: Annotated[
        Path | None, typer.Option(help="As for `track-eval`.", show_default=False)
    ] = None,
    min_visible: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="As for `track-eval`.")
    ] = 0.0,
    test: Annotated[
        Path | None,
        typer.Option(
            help="Another such folder: what was found is also tried there.", show_default=False
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The YAML.")] = Path("tracker.yaml"),
    study: Annotated[
        Path | None,
        typer.Option(
            help="File that keeps the trials; the same command goes on with it. Default: OUT.study",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Search a tracker's parameters with Optuna and write a pipeline's YAML with the best.

    What is found fits these recordings; give others with --test to see whether it fits them too.
    Interrupt it when you like: the best so far is written. Exit code 0: written, 1: failed,
    2: wrong usage, 130: interrupted.
    """
    from pipeline.evaluation.tracking import named_tracker
    from pipeline.evaluation.tracking_folder import find_sequences
    from pipeline.evaluation.tracking_search import Material, Search, ranges

    _, config = named_tracker(tracker)
    fixed = {change.partition("=")[0].strip() for change in tracker.split(",")[1:]}
    space = ranges(config, fixed, dict(map(_parsed, search_range or [])))
    material = [Material.read(each, min_visible, detections) for each in find_sequences(folder)]
    unseen = [Material.read(each, min_visible) for each in find_sequences(test)] if test else []
    file = study or out.with_name(out.name + ".study")
    search = Search(config, material, objective=objective.value, space=space, seed=seed, file=file)
    try:
        with _kept_in(file), _progress(search, trials, len(material)) as (on_recording, on_trial):
            search.run(trials=trials, minutes=minutes, on_recording=on_recording, on_trial=on_trial)
    except KeyboardInterrupt:
        Console(stderr=True).print("Stopped. The same command goes on.")
        raise
    finally:
        if (best := search.best) is not None:
            _write(out, config, best, f"{objective.value} on {folder.resolve().name}, seed {seed}")
            words = f"{best.trials} sets tried. The best is in {out}"
            Console(highlight=False, soft_wrap=True).print(escape(words))
    if best is None:
        raise PipelineError(f"none of {search.tried} sets of parameters could be tried; see {file}")
    _print(Console(), config, best.config, {folder.name: material, "--test": unseen})


@contextmanager
def _kept_in(file: Path) -> Iterator[None]:
    """Say in words that trials cannot be written; those before are safe."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__context__  # Optuna stumbles over its own assertions then
        if cause is None:
            raise
        raise OutputError(
            f"{file}: cannot keep the trials there ({cause.strerror}); make room, or give another "
            "file with --study"
        ) from error


def _parsed(text: str) -> tuple[str, tuple[float, float]]:
    name, _, bounds = text.partition("=")
    low, _, high = bounds.partition(":")
    try:
        pair = float(low), float(high)
    except ValueError:
        pair = (1.0, 0.0)
    if not 0 <= pair[0] <= pair[1] < float("inf"):
        raise ConfigError(f"--range: expected NAME=LOW:HIGH such as lost_s=0.5:5, got {text!r}")
    return name.strip(), pair


def _write(out: Path, config: TrackerConfig, best: Found, how: str) -> None:
    """Write what differs from the defaults, as a pipeline's YAML."""
    defaults = type(config)(kind=config.kind).model_dump()
    found = {
        key: round(value, 4) if isinstance(value, float) else value
        for key, value in best.config.model_dump().items()
        if value != defaults[key]
    }
    head = (
        f"# Found by trackletgait tune ({datetime.now(UTC):%Y-%m-%d}): {how},\n"
        f"# {best.trials} sets of parameters, {best.value:.4g} reached.\n"
    )
    text = yaml.safe_dump({"tracker": {"kind": config.kind, **found}}, sort_keys=False)
    write_atomically(out, (head + text).encode())


def _print(
    console: Console,
    before: TrackerConfig,
    after: TrackerConfig,
    materials: dict[str, list[Material]],
) -> None:
    from pipeline.evaluation.tracking_search import tally_of

    table = Table("recordings", "", "HOTA", "IDF1", "switches", "pure 4 s", "usable")
    for name, material in materials.items():
        for which, config in (("before", before), ("found", after)) if material else ():
            tally = tally_of(config, material, lambda: None)
            shares = [tally.hota, tally.idf1, tally.pure_share(4.0)]
            hota, idf1, pure = (f"{100 * share:.1f}" for share in shares)
            usable = f"{tally.usable_s_per_person:.2f} s"
            table.add_row(escape(name), which, hota, idf1, f"{tally.switches}", pure, usable)
    console.print(table)


@contextmanager
def _progress(
    search: Search, trials: int, recordings: int
) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """Show how far the search is; gives what to call after a recording and after a trial."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("tried"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=trials, completed=search.tried)

        def on_recording() -> None:
            progress.advance(bar, 1 / recordings)

        def on_trial() -> None:
            best = search.best
            said = "" if best is None else f"best {best.value:.4g}"
            progress.update(bar, completed=search.tried, description=said)

        yield on_recording, on_trial
