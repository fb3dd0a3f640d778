"""`trackletgait doctor`: what this machine has and what it lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pipeline.commands.console import Console

_MARKS = {"ok": "[green]ok[/]", "absent": "[yellow]absent[/]", "problem": "[bold red]problem[/]"}


def doctor(
    out: Annotated[Path, typer.Option(help="Folder where results would go.")] = Path(),
) -> None:
    """Say what this machine has and lacks: versions, GPU, decoders, models, folders, name clashes.

    Exits with 1 when something that is needed is missing.
    """
    from pipeline.doctor import examine

    table = Table(box=None, pad_edge=False)
    for column in ("what", "", "found"):
        table.add_column(column, overflow="fold")
    problems = 0
    for finding in examine(out):
        problems += finding.verdict == "problem"
        table.add_row(finding.subject, _MARKS[finding.verdict], finding.detail)
    console = Console()
    console.print(table)
    if problems:
        console.print(f"\n[bold red]{problems} problem(s)[/] keep something from working.")
        raise typer.Exit(1)
    console.print("\nEverything that is needed is here. `absent` options are optional.")
