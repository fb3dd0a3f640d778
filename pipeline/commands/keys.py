"""`trackletgait keys`: a key for a machine that sends or receives tracklets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pipeline.commands.console import Console


def keys(
    name: Annotated[str, typer.Argument(help="Whose key: the machine's or the site's name.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the two files.")] = Path(),
) -> None:
    """Make a key, so that tracklets cross the network encrypted and only from those you allow.

    NAME.key is secret and stays on its machine. NAME.pub goes to the other side: a sender's into
    the receiver's folder of allowed senders, the receiver's to every sender.
    """
    from pipeline.transport.keys import make_keys

    secret, public = make_keys(name, out)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Secret key: {escape(str(secret))}  (stays on this machine)")
    console.print(f"Public key: {escape(str(public))}  (give it to the other side)")
