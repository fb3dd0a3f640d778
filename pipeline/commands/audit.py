"""`trackletgait audit`: who searched, enrolled, exported and forgot, and whether that is true."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from pipeline.commands.console import Console

if TYPE_CHECKING:
    from pipeline.privacy.audit import AuditLog

app = typer.Typer(no_args_is_help=True, help="Read the audit log, and see that nobody changed it.")

_Path = Annotated[
    Path,
    typer.Argument(help="The log, or the gallery or folder it belongs to.", show_default=False),
]


@app.command()
def verify(
    path: _Path,
    kept: Annotated[
        str | None,
        typer.Option("--kept", metavar="NUMBER:HASH", help="What `audit head` printed once."),
    ] = None,
) -> None:
    """Say whether every entry is as it was written, and none is missing at the end."""
    from pipeline.errors import PrivacyError
    from pipeline.privacy.audit_entry import AuditHead

    log = _log(path)
    verdict = log.verify(kept=None if kept is None else AuditHead.parse(kept))
    if verdict.problem:
        raise PrivacyError(
            f"{log.path}: {verdict.problem}; the first {verdict.head.number} entries are sound"
        )
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{escape(str(log.path))}: {verdict.head.number} entries, none changed or missing."
    )
    if verdict.torn_bytes:
        console.print(
            f"After them are {verdict.torn_bytes} bytes of an entry that was never finished; the "
            "next one takes their place and says so."
        )
    if not verdict.is_end_known:
        console.print("Its .head file is gone: entries may be missing at the end.")
    if kept is None:
        console.print(
            "Whoever may write the log and its .head file could have written both anew: keep what "
            "`trackletgait audit head` prints elsewhere, and give it with --kept."
        )


@app.command()
def head(path: _Path) -> None:
    """Print the number and hash of the last entry, to be kept where nobody can change it."""
    typer.echo(str(_log(path).head()))


@app.command()
def show(
    path: _Path,
    about: Annotated[
        str | None, typer.Option("--about", metavar="SUBJECT", help="Only what concerns them.")
    ] = None,
    last: Annotated[int, typer.Option("--last", min=1, help="The newest so many.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON lines, all of each.")] = False,
) -> None:
    """Print the newest entries."""
    from collections import deque

    from pipeline.privacy.access import entries_about
    from pipeline.privacy.labels import Labels

    log = _log(path)
    chosen = (
        log.entries() if about is None else entries_about(log, None, Labels(frozenset({about})))
    )
    entries = deque(chosen, maxlen=last)
    if as_json:
        for entry in entries:
            typer.echo(entry.as_bytes().decode())
        return
    console = Console(highlight=False, soft_wrap=True)
    for entry in entries:
        when = f"{datetime.fromtimestamp(entry.at_unix_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
        words = escape(f"{when}  {entry.who}: {entry.action} {entry.subject}")
        console.print(f"[bold]{entry.number:>4}[/]  {words}")
        if details := _details(entry.details):
            console.print(escape(indent(details, " " * 6)))
    if not entries:
        console.print("No entries.")


def _details(details: Mapping[str, object]) -> str:
    """Return the details a person wants to read, a line each."""
    lines = []
    for key, value in details.items():
        if isinstance(value, list) and len(value) > 1:
            lines += [f"{key}:", *(f"  {each}" for each in value)]
        elif value not in (None, "", []) and not key.endswith("_sha256"):
            lines.append(f"{key}: {value[0] if isinstance(value, list) else value}")
    return "\n".join(lines)


def _log(path: Path) -> AuditLog:
    """Return the log that is meant.

    Raises:
        ConfigError: There is none.
    """
    from pipeline.errors import ConfigError
    from pipeline.privacy.audit import AuditLog, audit_path

    beside = audit_path(path)
    found = path if path.name.endswith("audit.jsonl") and path.is_file() else beside
    if not found.is_file():
        raise ConfigError(f"{path}: expected an audit log, or what has one: found no {beside}")
    return AuditLog(found)
