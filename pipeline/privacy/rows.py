"""Rows about people in the database of the `sqlite` sink."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import PrivacyError
from pipeline.privacy.receipt import Removed, Tally
from pipeline.sinks.sqlite_sink import APPLICATION_ID

_BUSY_S = 10.0
_ORDER = "ORDER BY at_unix_s, uid"


def rows_of(path: Path, labels: frozenset[str]) -> list[dict[str, Any]]:
    """Return the content of every sighting that names one of `labels`.

    Raises:
        PrivacyError: The file cannot be read, or is no database of the sink.
    """
    with _opened(path) as database:
        where, values = _naming(labels)
        query = f"SELECT content FROM sightings WHERE {where} {_ORDER}"
        return [json.loads(content) for (content,) in database.execute(query, values)]


def remove_rows(
    path: Path,
    *,
    before_s: float | None = None,
    labels: frozenset[str] = frozenset(),
    is_dry_run: bool = False,
) -> Removed | None:
    """Remove sightings, and their bytes from the file; return what went, None when nothing did.

    Args:
        path: The database.
        before_s: Those written before this moment, in seconds since 1970.
        labels: Those that name one of these.
        is_dry_run: Only say what would go.

    Raises:
        PrivacyError: The file is no database of the sink, or cannot be written.
    """
    tally = Tally("sightings", str(path))
    where, values = _naming(labels) if labels else ("0", ())
    if before_s is not None:
        where, values = f"{where} OR at_unix_s < ?", (*values, before_s)
    with _opened(path) as database:
        database.execute("BEGIN" if is_dry_run else "BEGIN IMMEDIATE")
        query = f"SELECT uid, at_unix_s, content FROM sightings WHERE {where} {_ORDER}"
        for uid, at_unix_s, content in database.execute(query, values):
            tally.add(f"{uid} {content}".encode(), at_unix_s)
        if not is_dry_run:
            database.execute(f"DELETE FROM sightings WHERE {where}", values)
        database.execute("COMMIT")
        if tally.removed is not None and not is_dry_run:
            # Until then the log of changes still holds them.
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return tally.removed


def _naming(labels: frozenset[str]) -> tuple[str, tuple[Any, ...]]:
    marks = ", ".join("?" * len(labels))
    return f"EXISTS (SELECT 1 FROM json_each(content) WHERE value IN ({marks}))", tuple(labels)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Give the database, in which what is removed is overwritten."""
    try:
        # Not made if missing.
        address = f"{path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_S)) as database:
            database.isolation_level = None
            (application,) = database.execute("PRAGMA application_id").fetchone()
            if application != APPLICATION_ID:
                raise PrivacyError(f"{path}: expected a database of sightings, got another one")
            database.execute("PRAGMA secure_delete = ON")
            yield database
    except (sqlite3.Error, json.JSONDecodeError) as error:
        raise PrivacyError(f"{path}: the sightings cannot be used: {error}") from error
