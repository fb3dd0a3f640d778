"""`trackletgait synth`: people who never lived, with exact truth about who they are."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.synth_video import video_command

if TYPE_CHECKING:
    from gait.synthetic.recipes import LabRecipe, WildRecipe
    from gait.synthetic.write import Made

app = typer.Typer(
    help="Make synthetic walkers: data sets of silhouettes, and video.", no_args_is_help=True
)
app.command("video")(video_command)

_CORES = os.cpu_count() or 1


class RecipeName(StrEnum):
    """The data sets of `gait.synthetic.recipes`."""

    WILD = "wild"
    LAB = "lab"


@app.command("silhouettes")
def silhouettes_command(
    out: Annotated[Path, typer.Argument(help="Folder to write, or to continue in.")],
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Any other entry of the recipe, such as occlusion=0 (docs/synthetic.md).",
        ),
    ] = None,
    recipe: Annotated[
        RecipeName, typer.Option(help="wild: any path and view, like Gait3D; lab: like CASIA-B.")
    ] = RecipeName.WILD,
    people: Annotated[
        int | None, typer.Option(help="wild: who train (default 1000); lab: all (default 124).")
    ] = None,
    test_people: Annotated[int | None, typer.Option(help="wild: who test (default 200).")] = None,
    seed: Annotated[int, typer.Option(help="All follows from it.")] = 0,
    sequences: Annotated[
        int | None, typer.Option(help="wild: walks of each person (default 12); lab has its 110.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(help="Longest walk (default wild 48, lab 50).")
    ] = None,
    noise: Annotated[
        bool | None,
        typer.Option(
            "--noise/--no-noise",
            help="Masks as a segmenter makes them, or exact (default wild with, lab without).",
        ),
    ] = None,
    pitch: Annotated[
        str | None,
        typer.Option(
            metavar="DEG|LOW,HIGH",
            help="How far cameras look down: wild a range within 0,40, lab one angle.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes; the pixels do not depend on it.")
    ] = _CORES,
    pack: Annotated[
        bool, typer.Option("--pack", help="Write one packed file instead of a pickle a sequence.")
    ] = False,
    device: Annotated[
        str, typer.Option(help="Where masks are rendered: cpu, cuda, cuda:N or auto.")
    ] = "cpu",
) -> None:
    """Make a data set of synthetic walkers.

    Stop it when you like: the same command continues where it stopped (with --pack it begins
    again). Exit code 0: done, 1: failed, 2: wrong usage.
    """
    given = {
        "people": people,
        "test_people": test_people,
        "seed": seed,
        "sequences": sequences,
        "frames": frames,
        "noise": noise,
        "pitch": None if pitch is None else _angles(pitch, recipe),
    }
    options = [f"{name}={json.dumps(value)}" for name, value in given.items() if value is not None]
    _make(
        _recipe(recipe, [*options, *(changes or [])]),
        out,
        workers=workers,
        pack=pack,
        device=device,
    )


def _recipe(name: RecipeName, overrides: list[str]) -> LabRecipe | WildRecipe:
    from gait.synthetic.recipes import RECIPES
    from gait.yaml_config import load_yaml

    return load_yaml(RECIPES[name.value], None, overrides)


def _angles(text: str, recipe: RecipeName) -> float | tuple[float, ...]:
    try:
        angles = tuple(float(each) for each in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(
            f"expected degrees such as 0,40, got {text!r}", param_hint="--pitch"
        ) from error
    if len(angles) != (1 if recipe is RecipeName.LAB else 2):
        wanted = "one angle" if recipe is RecipeName.LAB else "two angles such as 0,40"
        raise typer.BadParameter(f"expected {wanted}, got {text!r}", param_hint="--pitch")
    return angles[0] if recipe is RecipeName.LAB else angles


def _make(
    recipe: LabRecipe | WildRecipe, out: Path, *, workers: int, pack: bool, device: str
) -> None:
    import time

    import torch
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from gait.encoder import pick_device
    from gait.synthetic.write import make
    from pipeline.commands.console import Console

    try:
        chosen = str(pick_device(device))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--device") from error
    torch.set_num_threads(1)  # the other cores belong to the other processes
    console, started = Console(), time.perf_counter()
    columns = (
        TextColumn("Walking"),
        BarColumn(),
        TextColumn("{task.completed:,}/{task.total:,} sequences, {task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=len(recipe.plan().keys), rate=0.0)
        done = 0

        def on_silhouettes(number: int) -> None:
            nonlocal done
            done += number
            rate = done / (time.perf_counter() - started)
            progress.update(bar, advance=1, rate=rate)

        made = make(
            recipe,
            out,
            num_workers=workers,
            is_packed=pack,
            device=chosen,
            on_silhouettes=on_silhouettes,
        )
    _print(made, time.perf_counter() - started, console)


def _print(made: Made, seconds: float, console: Any) -> None:
    from rich.markup import escape

    console.print(
        f"{made.num_people:,} people, {made.num_sequences:,} sequences, "
        f"{made.num_silhouettes:,} silhouettes in {escape(str(made.data))} "
        f"({made.num_silhouettes / seconds:,.0f}/s)",
        soft_wrap=True,
        highlight=False,
    )
    for path in made.partitions:
        console.print(f"Partition: {escape(str(path))}", soft_wrap=True, highlight=False)
    console.print(f"Digest: {made.digest}", soft_wrap=True, highlight=False)
