"""`trackletgait run`: live cameras in, who was where and when out, until it is stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.live import configuration, counted, run_live, warn_of_passwords

What = Annotated[
    list[str],
    typer.Argument(
        metavar="CONFIG.yaml | ADDRESS...",
        help="A configuration, or cameras: rtsp://..., http://..., /dev/video0, files.",
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change one key: pipeline.detector.confidence=0.2"
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no sightings.")]


def run(
    what: What,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for sightings, events and the socket.")
    ] = Path("live-results"),
    set_: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Find who is where on live cameras, for as long as it runs.

    Write passwords as ${NAME} of the environment. SIGTERM or Ctrl-C ends within 5 s and writes what
    is left; a second one ends at once. SIGHUP reads the cameras of CONFIG.yaml again.
    """
    config, reread = configuration(what, set_ or [])
    warn_of_passwords(what, config)
    run_live(
        config,
        out,
        reread=reread,
        prints=not quiet,
        greeting=lambda live: counted(config),
    )
