"""What the commands `run`, `perceive` and `identify` share: the console, signals and the log."""

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
from typing import TYPE_CHECKING

from rich.markup import escape

from pipeline.commands.console import Console
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.live.config import LiveConfig
    from pipeline.live.links import ListenAt, SendTo
    from pipeline.live.run import LiveRun
    from pipeline.sinks.live import Event

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_YAML = (".yaml", ".yml")


def run_live(
    config: LiveConfig,
    out: Path,
    *,
    reread: Callable[[], LiveConfig] | None = None,
    link: SendTo | ListenAt | None = None,
    prints: bool = True,
    greeting: Callable[[LiveRun], str],
) -> None:
    """Run until a signal says otherwise; the log holds no password.

    Args:
        config: What to run.
        out: Folder of results.
        reread: Reads the configuration again.
        link: Where the other half is.
        prints: Whether to print a line a sighting.
        greeting: What to say once it runs.

    Raises:
        ConfigError: The configuration cannot be used.
        PipelineError: Something cannot be opened, or failed again and again.
    """
    console = Console(stderr=True)
    _log_without(config.secrets())
    with console.status("Loading models ..."):
        from pipeline.live.run import LiveRun

        live = LiveRun(
            config,
            out=out,
            reread=reread,
            command=sys.argv,
            sinks={"console": ConsoleSink(Console(highlight=False))} if prints else {},
            link=link,
        )
    with live, _signals(live):
        if live.identity is not None and not live.identity.encoder.is_trained:
            console.print(
                "[bold yellow]Warning: the encoder has random weights (pipeline.encoder.weights): "
                "who is who is little better than a guess.[/]"
            )
        where = escape(str(out))
        words = f"{escape(greeting(live))}; results in {where}; look with: trackletgait top {where}"
        console.print(words, highlight=False, soft_wrap=True)
        live.run()


def configuration(
    what: Sequence[str], overrides: Sequence[str]
) -> tuple[LiveConfig, Callable[[], LiveConfig] | None]:
    """Return what to run, and how to read it again where it is a file.

    Raises:
        ConfigError: The configuration or an address cannot be used.
    """
    from pipeline.live.config import config_of_addresses, load_live_config

    path = _config_path(what)
    if path is None:
        return config_of_addresses(what, overrides), None
    read = partial(load_live_config, path, overrides)
    return read(), read


def _config_path(what: Sequence[str]) -> Path | None:
    files = [word for word in what if "://" not in word and word.lower().endswith(_YAML)]
    if not files:
        return None
    if len(what) > 1:
        raise ConfigError(
            f"expected one configuration or addresses of cameras, got {files[0]} and "
            f"{len(what) - 1} more; list the cameras in the file"
        )
    return Path(files[0])


def counted(config: LiveConfig) -> str:
    """Return how many cameras there are, in words."""
    number = len(config.cameras)
    if not number:
        return "no cameras yet: add them to the configuration or by command (docs/live.md)"
    return "1 camera" if number == 1 else f"{number} cameras"


def warn_of_passwords(what: Sequence[str], config: LiveConfig) -> None:
    """Say so when a password stands on the command line."""
    is_file = _config_path(what) is not None
    if not is_file and config.secrets() and any("${" not in word for word in what):
        Console(stderr=True).print(
            "[yellow]Anybody on this machine can read a command line: better write a password as "
            "${NAME}, in single quotes.[/]"
        )


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
        from pipeline.live.config import hidden

        return hidden(super().format(record), self._secrets)


def _log_without(secrets: Sequence[str]) -> None:
    """Log what happens to cameras, and never a password, whoever quotes it."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_HidingFormatter(secrets))
    for name in ("live.run", "live.cameras", "live.perceiving", "privacy.job", "recording"):
        logging.getLogger(f"pipeline.{name}").setLevel(logging.INFO)
