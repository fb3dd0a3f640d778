"""`trackletgait identify`: the half of `run` where the gallery is, for other machines' cameras."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.live import run_live
from pipeline.commands.run import Overrides, Quiet
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.live.run import LiveRun
    from pipeline.transport.keys import ReceiverKeys

_NOT_HERE = ("cameras={}", "recording=null", "publish=null")  # those want pictures


def identify(
    bind: Annotated[
        str,
        typer.Option(
            "--bind",
            metavar="tcp://ADDRESS:PORT",
            help="Where to listen: tcp://0.0.0.0:5800; ipc://PATH on one machine.",
            show_default=False,
        ),
    ],
    config_file: Annotated[
        Path | None,
        typer.Argument(
            metavar="CONFIG.yaml",
            help="A configuration; its cameras are those of `perceive`, and not read here.",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="HUB.key", help="Our key, from `trackletgait keys HUB`."),
    ] = None,
    senders: Annotated[
        Path | None,
        typer.Option(
            "--senders", metavar="DIR", help="Folder with the .pub key of every sender let in."
        ),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Take plain text from anybody on the network.")
    ] = False,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder for sightings, what is under way, the socket."),
    ] = Path("identify-results"),
    set_: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Recognise the people whom `perceive` sends, from any number of machines.

    A tracklet that was taken is on disk here until its sighting is written: give the same --out
    folder every time. SIGTERM or Ctrl-C ends within 5 s; a second one ends at once.
    """
    from pipeline.live.config import config_of_addresses, load_live_config
    from pipeline.live.links import ListenAt

    config = (
        config_of_addresses([], set_ or [])
        if config_file is None
        else load_live_config(config_file, [*_NOT_HERE, *(set_ or [])])
    )
    run_live(
        config,
        out,
        link=ListenAt(bind, _keys(key, senders), insecure),
        prints=not quiet,
        greeting=_listening,
    )


def _listening(live: LiveRun) -> str:
    status = live.status().link
    return f"listening at {'' if status is None else status.endpoint}"


def _keys(own: Path | None, senders: Path | None) -> ReceiverKeys | None:
    from pipeline.transport.keys import ReceiverKeys

    if own is None and senders is None:
        return None
    if own is None or senders is None:
        raise ConfigError("expected both --key HUB.key and --senders DIR, or neither")
    return ReceiverKeys.read(own, senders)
