"""`trackletgait top`: what a live run does now, camera by camera."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from pipeline.commands.console import Console
from pipeline.errors import LinkError

if TYPE_CHECKING:
    from pipeline.live.status import CameraStatus, LinkStatus, RunStatus, StreamStatus

_COLOURS = {"live": "green", "connecting": "yellow", "paused": "dim"}
_COLUMNS = ("camera", "state", "in", "done", "dropped", "age", "people", "p50", "p95")
_STREAM_COLUMNS = ("camera", "heard", "tracklets", "people", "sightings", "p50", "p95")
_LEFT = ("camera", "state")
_MOST_FAILURES = 5  # in a row: a run that ends or restarts is waited for that long


def top(
    socket: Annotated[
        Path, typer.Argument(help="Folder of the run, or its control socket.", show_default=True)
    ] = Path("live-results"),
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="As JSON, a line each time.")] = False,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 1.0,
) -> None:
    """Show the cameras of a run: state, frames a second, age, people, latency; Ctrl-C ends it.

    Works on the folders of `run`, `perceive` and `identify`.
    """
    path = socket / "control.sock" if socket.is_dir() else socket
    if once or json_:
        _print_each(path, is_json=json_, is_once=once, interval_s=interval)
        return
    status, failures = _asked(path), 0
    with Live(table(status), console=Console(), auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            try:
                status, failures = _asked(path), 0
            except LinkError:
                failures += 1
                if failures > _MOST_FAILURES:
                    raise
            live.update(table(status), refresh=True)


def _print_each(path: Path, *, is_json: bool, is_once: bool, interval_s: float) -> None:
    while True:
        status = _asked(path)
        if is_json:
            typer.echo(status.model_dump_json())
        else:
            Console().print(table(status))
        if is_once:
            return
        time.sleep(interval_s)


def _asked(path: Path) -> RunStatus:
    from pydantic import ValidationError

    from pipeline.live.control import ask
    from pipeline.live.status import RunStatus

    answer = ask(path, {"do": "status"})
    answer.pop("ok", None)
    try:
        return RunStatus.model_validate(answer)
    except ValidationError as error:
        raise LinkError(
            f"{path}: expected the status of this version's `trackletgait run`, got another "
            f"version's: {error.errors()[0]['loc']}"
        ) from error


def table(status: RunStatus) -> RenderableType:
    """Return the run as a table: a row a camera, and a line for all of them."""
    tables = []
    if status.streams or (not status.cameras and status.link is not None):
        tables.append(_rows(_STREAM_COLUMNS, [_stream_cells(each) for each in status.streams]))
    else:
        tables.append(_rows(_COLUMNS, [_cells(each) for each in status.cameras]))
    lost = f", {status.queue_lost} lost" if status.queue_lost else ""
    troubles = [_trouble(camera) for camera in status.cameras if camera.reason]
    failing = [f"{sink.name}: {sink.error}" for sink in status.sinks if sink.error]
    failures = [f"{step} failed {n} times" for step, n in status.failures.items() if n]
    words = [
        *([] if status.link is None else [_link_words(status.link)]),
        f"up {_duration(status.uptime_s)}, {status.sightings} sightings, {status.queue} tracklets "
        f"wait{lost}, {status.overload}",
        *(f"[red]{escape(each)}[/]" for each in (*troubles, *failing, *failures)),
    ]
    return Group(*tables, *words)


def _rows(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    rows = Table(box=None, pad_edge=False)
    for column in columns:
        is_fixed = column != "camera"  # a long name is folded, so that the numbers stay whole
        justify: JustifyMethod = "left" if column in _LEFT else "right"
        rows.add_column(column, justify=justify, no_wrap=is_fixed, overflow="fold")
    for each in cells:
        rows.add_row(*each)
    return rows


def _link_words(link: LinkStatus) -> str:
    problem = f" [red]{escape(link.problem)}[/]" if link.problem else ""
    counts = ", ".join(f"{count} {escape(what)}" for what, count in link.counts.items() if count)
    if link.is_connected is None:
        return f"listens at {escape(link.endpoint)}: {counts or 'nothing came yet'}{problem}"
    state = "[green]connected[/]" if link.is_connected else "[red]not connected[/]"
    waits = f"{link.waiting} wait"
    if link.waiting:
        waits += f", the oldest for {_duration(link.waiting_s)}, spool {link.fill:.0%} full"
    return f"link {escape(link.endpoint)} {state}: {waits}; {counts or 'nothing sent yet'}{problem}"


def _stream_cells(stream: StreamStatus) -> list[str]:
    return [
        escape(stream.name),
        _duration(stream.heard_s),
        str(stream.tracklets),
        str(stream.people),
        str(stream.sightings),
        _milliseconds(stream.latency_p50_s),
        _milliseconds(stream.latency_p95_s),
    ]


def _cells(camera: CameraStatus) -> list[str]:
    colour = _COLOURS.get(camera.state, "red")
    return [
        escape(camera.name),
        f"[{colour}]{camera.state}[/]",
        f"{camera.fps_in:.1f}",
        f"{camera.fps_processed:.1f}",
        f"{camera.fps_dropped:.1f}",
        "-" if camera.age_s is None else _duration(camera.age_s),
        str(camera.people),
        _milliseconds(camera.latency_p50_s),
        _milliseconds(camera.latency_p95_s),
    ]


def _trouble(camera: CameraStatus) -> str:
    retry = "" if camera.retry_in_s is None else f" (in {camera.retry_in_s:.0f} s)"
    return f"{camera.name}: {camera.reason}{retry}"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.0f} ms"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if hours:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{minutes} min"
