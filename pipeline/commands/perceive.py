"""`trackletgait perceive`: the half of `run` beside the cameras, which recognises nobody."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.live import configuration, counted, run_live, warn_of_passwords
from pipeline.commands.run import Overrides, What
from pipeline.errors import ConfigError
from pipeline.live.links import SPOOL_MB

if TYPE_CHECKING:
    from pipeline.transport.keys import SenderKeys


def perceive(
    what: What,
    link: Annotated[
        str,
        typer.Option(
            "--link",
            metavar="tcp://HUB:PORT",
            help="Where `trackletgait identify` listens; ipc://PATH on one machine.",
            show_default=False,
        ),
    ],
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="NAME.key", help="Our key, from `trackletgait keys NAME`."),
    ] = None,
    hub_key: Annotated[
        Path | None, typer.Option("--hub-key", metavar="HUB.pub", help="The hub's public key.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            help="Our name at the hub, where cameras are called NAME/CAMERA. With a key it is the "
            "key's.",
            show_default="this machine's",
        ),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let plain text leave this machine.")
    ] = False,
    spool_mb: Annotated[
        int,
        typer.Option(
            "--spool-mb", help="Most megabytes that wait for the hub; then the oldest go.", min=1
        ),
    ] = SPOOL_MB,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for events, the spool and the socket.")
    ] = Path("perceive-results"),
    set_: Overrides = None,
) -> None:
    """Find and follow people on live cameras, and send their silhouettes to `identify`.

    What is not taken yet waits on disk, in the --out folder: give the same one every time. No
    picture goes to `identify`. Signals are those of `run`.
    """
    from pipeline.live.links import SendTo

    config, reread = configuration(what, set_ or [])
    warn_of_passwords(what, config)
    keys = _keys(key, hub_key)
    if keys is not None and name not in (None, keys.own.name):
        raise ConfigError(
            f"--name: expected none or {keys.own.name!r}, since a sender goes by the name of its "
            f"key, got {name!r}"
        )
    sender = keys.own.name if keys is not None else name or _this_machine()
    run_live(
        config,
        out,
        reread=reread,
        link=SendTo(link, sender, keys, insecure, spool_mb),
        prints=False,
        greeting=lambda live: f"{counted(config)}, sent to {link} as {sender}",
    )


def _keys(own: Path | None, hub: Path | None) -> SenderKeys | None:
    from pipeline.transport.keys import SenderKeys

    if own is None and hub is None:
        return None
    if own is None or hub is None:
        raise ConfigError("expected both --key NAME.key and --hub-key HUB.pub, or neither")
    return SenderKeys.read(own, hub)


def _this_machine() -> str:
    """Return a name the link takes."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).lstrip("._-")[:64] or "sender"
