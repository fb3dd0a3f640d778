"""`trackletgait synth video`: people walk past several cameras, and where they are is known."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gait.synthetic.scene_config import FIRST_PERSON, Colours, Layout, SceneConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from gait.synthetic.ground_truth import CameraTruth
    from pipeline.commands.console import Console

_DEFAULTS = SceneConfig()


def video_command(
    out: Annotated[Path, typer.Argument(help="Folder to write; must not exist.")],
    people: Annotated[int, typer.Option(help="How many people there are.")] = _DEFAULTS.people,
    cameras: Annotated[int, typer.Option(help="How many cameras look on.")] = _DEFAULTS.cameras,
    layout: Annotated[
        Layout,
        typer.Option(help="overlap: all see one place; apart: each sees a place of its own."),
    ] = _DEFAULTS.layout,
    duration: Annotated[float, typer.Option(help="Seconds.")] = _DEFAULTS.duration_s,
    fps: Annotated[float, typer.Option(help="Frames a second.")] = _DEFAULTS.fps,
    size: Annotated[
        str, typer.Option(metavar="WIDTHxHEIGHT", help="Of the videos, pixels.")
    ] = f"{_DEFAULTS.width}x{_DEFAULTS.height}",
    colours: Annotated[
        Colours,
        typer.Option(help="Whether clothes tell people apart; changing: others in every place."),
    ] = _DEFAULTS.colours,
    background: Annotated[
        list[Path] | None,
        typer.Option(
            help="Picture or video taken from 3 to 6 m up looking 15 to 30 degrees down, instead "
            "of drawn places; once for all cameras, or once for each.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="All follows from it.")] = _DEFAULTS.seed,
    first_person: Annotated[
        int, typer.Option(help="Index of the first person; lower ones may have been trained on.")
    ] = FIRST_PERSON,
    calibrated: Annotated[
        bool, typer.Option("--calibrated/--uncalibrated", help="Say where the cameras are.")
    ] = True,
    crf: Annotated[
        int, typer.Option(min=0, max=51, help="H.264 rate factor; higher makes smaller files.")
    ] = 23,
) -> None:
    """Render people who walk past cameras, with boxes, masks, tracks and identities.

    Exit code 0: done, 1: failed and nothing is left, 2: wrong usage.
    """
    width, height = _parsed(size)
    config = _config(
        people=people,
        cameras=cameras,
        layout=layout,
        duration_s=duration,
        fps=fps,
        width=width,
        height=height,
        colours=colours,
        seed=seed,
        first_person=first_person,
        furnished=not background,
    )
    _render(config, out, tuple(background or ()), calibrated=calibrated, crf=crf)


def _config(**values: object) -> SceneConfig:
    from gait.yaml_config import validate

    return validate(SceneConfig, values, "synth video")


def _parsed(size: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", size)
    if match is None:
        raise typer.BadParameter(
            f"expected a size such as 640x480, got {size!r}", param_hint="--size"
        )
    return int(match[1]), int(match[2])


def _render(
    config: SceneConfig, out: Path, backgrounds: tuple[Path, ...], *, calibrated: bool, crf: int
) -> None:
    import torch

    from gait.synthetic.scene import draw_scene
    from gait.synthetic.video import WriteOptions, write_scene
    from pipeline.commands.console import Console

    # The pictures are small: more threads wait for one another longer than they compute.
    torch.set_num_threads(1)
    console, started = Console(), time.perf_counter()
    options = WriteOptions(backgrounds=backgrounds, calibrated=calibrated, crf=crf)
    with _progress(config) as on_frame:
        truths = write_scene(draw_scene(config), out, options, on_frame)
    _print_summary(truths, config, out, time.perf_counter() - started, console)


@contextmanager
def _progress(config: SceneConfig) -> Iterator[Callable[[str], None]]:
    """Show how far the cameras are; gives what to call after each frame."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from pipeline.commands.console import Console

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,}/{task.total:,} frames, {task.fields[rate]:.1f}/s"),
        TimeRemainingColumn(),
    )
    done = 0
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        total = config.num_frames * config.cameras
        bar = progress.add_task("Drawing places", total=total, rate=0.0)
        began = time.perf_counter()

        def on_frame(camera: str) -> None:
            nonlocal done, began
            if done == 0:  # what came before were the places
                began = time.perf_counter()
            done += 1
            rate = (done - 1) / max(time.perf_counter() - began, 1e-6)
            progress.update(bar, advance=1, rate=rate, description=f"Filming {camera}")

        yield on_frame


def _print_summary(
    truths: list[CameraTruth], config: SceneConfig, out: Path, seconds: float, console: Console
) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("camera", "people", "tracks", "boxes", "MB", title="Filmed")
    for column in table.columns[1:]:
        column.justify = "right"
    for truth in truths:
        table.add_row(
            truth.name,
            f"{len({each.identity for each in truth.appearances})}",
            f"{len({each.track_id for each in truth.appearances})}",
            f"{len(truth.appearances):,}",
            f"{(out / f'{truth.name}.mp4').stat().st_size / 1e6:.1f}",
        )
    console.print(table)
    speed = config.num_frames * len(truths) / seconds
    console.print(
        f"Wrote {escape(str(out))} in {seconds:.0f} s ({speed:.1f} frames/s)", soft_wrap=True
    )
