"""`trackletgait run`: live cameras in, who was where and when out, until it is stopped."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.live_config import LiveConfig
    from pipeline.live_run import LiveRun
    from pipeline.sinks.live import Event

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_YAML = (".yaml", ".yml")


def run(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="CONFIG.yaml | ADDRESS...",
            help="A configuration, or cameras: rtsp://..., http://..., /dev/video0, files.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for sightings, events and the socket.")
    ] = Path("live-results"),
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change one key: pipeline.detector.confidence=0.2"
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no sightings.")] = False,
) -> None:
    """Find who is where on live cameras, for as long as it runs.

    Write passwords as ${NAME} of the environment. SIGTERM or Ctrl-C ends within 5 s and writes what
    is left; a second one ends at once. SIGHUP reads the cameras of CONFIG.yaml again.
    """
    console = Console(stderr=True)
    config, reread = _configuration(what, set_ or [])
    if reread is None and config.secrets() and any("${" not in word for word in what):
        console.print(
            "[yellow]Anybody on this machine can read a command line: better write a password as "
            "${NAME}, in single quotes.[/]"
        )
    _log_without(config.secrets())
    with console.status("Loading models ..."):
        from pipeline.live_run import LiveRun

        live = LiveRun(
            config,
            out=out,
            reread=reread,
            command=sys.argv,
            sinks={} if quiet else {"console": ConsoleSink(Console(highlight=False))},
        )
    with live, _signals(live):
        _greet(console, live, out)
        live.run()


def _configuration(
    what: Sequence[str], overrides: Sequence[str]
) -> tuple[LiveConfig, Callable[[], LiveConfig] | None]:
    """Return what to run, and how to read it again where it is a file."""
    from pipeline.live_config import config_of_addresses, load_live_config

    path = _config_path(what)
    if path is None:
        return config_of_addresses(what, overrides), None
    read = partial(load_live_config, path, overrides)
    return read(), read


class ConsoleSink:
    """Prints a line a sighting."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def write(self, events: Sequence[Event]) -> None:
        """Print those that people want to read."""
        for event in events:
            if event.kind == "sighting" and event.content["identity"] is not None:
                self._console.print(escape(_line(event)), soft_wrap=True)

    def close(self) -> None:
        """Nothing is held."""


def _line(event: Event) -> str:
    content = event.content
    start, end = (
        datetime.fromtimestamp(float(str(content[key]))).strftime("%H:%M:%S")
        for key in ("start_unix_s", "end_unix_s")
    )
    when = f"{start} - {end}" if content["event"] == "ended" else f"{start} -         "
    distance = content["distance"]
    near = f"distance {distance:.3f}" if isinstance(distance, float) else ""
    seen_as = "new" if content["is_new"] else f"again  {near}"
    return f"{when}  {content['camera']}  {content['identity']}  {seen_as}"


def _config_path(what: Sequence[str]) -> Path | None:
    files = [word for word in what if "://" not in word and word.lower().endswith(_YAML)]
    if not files:
        return None
    if len(what) > 1:
        raise ConfigError(
            f"run: expected one configuration or addresses of cameras, got {files[0]} and "
            f"{len(what) - 1} more; list the cameras in the file"
        )
    return Path(files[0])


def _greet(console: Console, live: LiveRun, out: Path) -> None:
    encoder = live.identity.encoder
    if not encoder.is_trained:
        console.print(
            "[bold yellow]Warning: the encoder has random weights (pipeline.encoder.weights): who "
            "is who is little better than a guess.[/]"
        )
    console.print(
        f"{len(live.config.cameras)} cameras; results in {escape(str(out))}; "
        f"look with: trackletgait top {escape(str(out))}",
        highlight=False,
        soft_wrap=True,
    )


@contextmanager
def _signals(live: LiveRun) -> Iterator[None]:
    """Turn signals into wishes; a second SIGINT or SIGTERM ends the process at once."""

    def at_once(number: int, frame: FrameType | None) -> None:
        live.abandon()
        os._exit(128 + number)

    def stop(number: int, frame: FrameType | None) -> None:
        for each in _STOPPING:
            signal.signal(each, at_once)
        live.stop()

    def reload(number: int, frame: FrameType | None) -> None:
        live.reload()

    previous = {each: signal.signal(each, stop) for each in _STOPPING}
    previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, reload)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _HidingFormatter(logging.Formatter):
    """Formats with the time, and without the secrets."""

    def __init__(self, secrets: Sequence[str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        from pipeline.live_config import hidden

        return hidden(super().format(record), self._secrets)


def _log_without(secrets: Sequence[str]) -> None:
    """Log what happens to cameras, and never a password, whoever quotes it."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_HidingFormatter(secrets))
    for name in ("pipeline.live_run", "pipeline.live_cameras", "pipeline.recording"):
        logging.getLogger(name).setLevel(logging.INFO)
