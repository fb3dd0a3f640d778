"""What the commands about people's data share: their options, and how they tell what went."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pipeline.commands.console import Console
from pipeline.errors import OutputError

if TYPE_CHECKING:
    from pipeline.privacy.audit import AuditLog
    from pipeline.privacy.audit_entry import AuditEntry
    from pipeline.privacy.keys import KeyConfig
    from pipeline.privacy.receipt import Removed
    from pipeline.privacy.retention import Removal

_VARIABLE = "TRACKLETGAIT_KEY"

KeyOption = Annotated[
    Path | None, typer.Option("--key", help=f"File with the site's keys; else ${_VARIABLE}.")
]
AuditOption = Annotated[
    Path | None, typer.Option("--audit", help="The audit log; else beside what is named first.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would go.")]
ReceiptOption = Annotated[
    Path | None, typer.Option("--receipt", help="Write a receipt, signed with the site's key.")
]


def key_config(path: Path | None) -> KeyConfig:
    """Return where the site's keys are."""
    from pipeline.privacy.keys import KeyConfig

    return KeyConfig(variable=_VARIABLE) if path is None else KeyConfig(file=str(path))


def key_if_any(path: Path | None) -> KeyConfig | None:
    """Return where the site's keys are, None where none were given."""
    return key_config(path) if path is not None or os.environ.get(_VARIABLE) else None


def refuse_without_key(receipt: Path | None, key: Path | None) -> None:
    """Miss a key before anything goes.

    Raises:
        ConfigError: A receipt is wanted, and there is none to sign it.
    """
    from pipeline.privacy.keys import read_keys

    if receipt is not None:
        read_keys(key_config(key))


def carry_out(
    removing: Callable[[], Removal], log: AuditLog, receipt: Path | None, key: Path | None
) -> Removal:
    """Remove, tell what went, write the receipt, and return what was told.

    Raises:
        PartlyRemoved: Not everything went; what did was told all the same.
        OutputError: The receipt cannot be written.
    """
    from pipeline.privacy.retention import PartlyRemoved

    try:
        removal = removing()
    except PartlyRemoved as error:
        _tell(error.removal, log, receipt, key)
        raise
    _tell(removal, log, receipt, key)
    return removal


def _tell(removal: Removal, log: AuditLog, receipt: Path | None, key: Path | None) -> None:
    if removal.removed:
        print_removed(removal.removed, is_dry_run=removal.entry is None)
    if removal.entry is None:
        return
    say(f"Recorded as entry {removal.entry.number} of {log.path}")
    if receipt is not None:
        _write_receipt(receipt, removal.removed, removal.entry, key)


def _write_receipt(
    path: Path, removed: Sequence[Removed], entry: AuditEntry, key: Path | None
) -> None:
    from pipeline.privacy.receipt import Signer

    text = Signer.load(key_config(key)).sign(entry, removed).as_text()
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{path}: the receipt cannot be written: {error.strerror}; the data were removed, and "
            f"entry {entry.number} of the audit log says which"
        ) from error
    say(f"The receipt is in {path}")


def print_removed(removed: Sequence[Removed], *, is_dry_run: bool = False) -> None:
    """Print a line a kind and place."""
    verb = "would go" if is_dry_run else "removed"
    table = Table("kind", "where", verb, "oldest (UTC)", "newest (UTC)", box=None, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    table.columns[1].no_wrap, table.columns[1].overflow = False, "fold"
    table.columns[2].justify = "right"
    for each in removed:
        moments = (_moment(each.oldest_unix_s), _moment(each.newest_unix_s))
        table.add_row(each.kind, escape(each.where), str(each.count), *moments)
    Console(highlight=False).print(table)


def say(text: str) -> None:
    """Print a line of text as it is."""
    Console(highlight=False, soft_wrap=True).print(escape(text))


def _moment(unix_s: float | None) -> str:
    return "" if unix_s is None else f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d}"
