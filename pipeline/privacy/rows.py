"""Rows about people in the database of the `sqlite` sink."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.errors import PrivacyError
from pipeline.privacy.labels import Labels
from pipeline.privacy.receipt import Removed, Tally
from pipeline.sinks.sqlite_sink import APPLICATION_ID

_BUSY_S = 10.0
_Row = tuple[str, float, str]  # uid, at_unix_s, content


def rows_of(path: Path, labels: Labels) -> list[dict[str, Any]]:
    """Return the content of every sighting that names somebody.

    Raises:
        PrivacyError: The file cannot be read, is no database of the sink, or may as well name
            somebody of another gallery.
    """
    with _opened(path) as database:
        return [json.loads(content) for _, _, content in _naming(database, labels)]


def remove_rows(
    path: Path,
    *,
    before_s: float | None = None,
    labels: Labels | None = None,
    is_dry_run: bool = False,
) -> Removed | None:
    """Remove sightings, and their bytes from the file; return what went, None when nothing did.

    Args:
        path: The database.
        before_s: Those written before this moment, in seconds since 1970.
        labels: Those that name somebody.
        is_dry_run: Only say what would go.

    Raises:
        PrivacyError: As for `rows_of`, or it cannot be written; nothing was.
    """
    tally = Tally("sightings", str(path))
    with _opened(path) as database:
        database.execute("BEGIN" if is_dry_run else "BEGIN IMMEDIATE")
        theirs = list(_naming(database, labels)) if labels is not None else []
        for uid, at_unix_s, content in chain(_before(database, before_s), theirs):
            tally.add(f"{uid} {content}".encode(), at_unix_s)
        if not is_dry_run:
            database.execute("DELETE FROM sightings WHERE at_unix_s < ?", (before_s,))
            going = [(uid,) for uid, _, _ in theirs]
            database.executemany("DELETE FROM sightings WHERE uid = ?", going)
        database.execute("COMMIT")
        if tally.removed is not None and not is_dry_run:
            # Until then the log of changes still holds them.
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return tally.removed


def _before(database: sqlite3.Connection, moment_s: float | None) -> Iterator[_Row]:
    return _rows(database, "at_unix_s < ?", (moment_s,))  # which is true of none when it is NULL


def _naming(database: sqlite3.Connection, labels: Labels) -> Iterator[_Row]:
    marks = ", ".join("?" * len(labels.all))
    where = f"EXISTS (SELECT 1 FROM json_each(content) WHERE value IN ({marks}))"
    for row in _rows(database, where, tuple(labels.all)):
        content = json.loads(row[2])
        if labels.are_among(content.values(), content.get("gallery")):
            yield row


def _rows(database: sqlite3.Connection, where: str, values: tuple[Any, ...]) -> Iterator[_Row]:
    query = f"SELECT uid, at_unix_s, content FROM sightings WHERE {where} ORDER BY at_unix_s, uid"
    yield from database.execute(query, values)


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
