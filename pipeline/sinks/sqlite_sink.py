"""Events as rows of a SQLite file that other programs may read while it grows."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gait.closing import Closing
from pipeline.errors import OutputError
from pipeline.sinks.live import Event

APPLICATION_ID = 0x54474149
"""Says in the file's header that it is ours."""

VERSION = 1

_COLUMNS = {
    "sighting": [
        *("id", "event", "identity", "camera", "track_id", "start_unix_s", "end_unix_s"),
        *("distance", "is_new", "quality"),
    ],
    "camera": ["camera", "state", "before", "reason", "retry_in_s"],
    "overload": ["level", "camera", "stride", "reason"],
}
_TABLES = {"sighting": "sightings", "camera": "camera_events", "overload": "overload_events"}
_BUSY_S = 5.0  # how long another program may hold the file
_CLEAN_EVERY_S = 600.0
_DAY_S = 86400


class SqliteSink(Closing):
    """Writes each batch of events in one transaction; an event that comes twice is one row.

    Tables `sightings`, `camera_events`, `overload_events`: `uid`, `at_unix_s`, the commonest
    fields as columns, and the whole content as JSON.

    Args:
        path: The file, made if missing.
        keep_days: Rows older than this are removed; None keeps all.
        is_synced: Whether to wait until the disk itself has the events.
        clock: Seconds since 1970.

    Raises:
        OutputError: The file cannot be opened, or is another program's.
    """

    def __init__(
        self,
        path: Path,
        *,
        keep_days: float | None = None,
        is_synced: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._keep_days = keep_days
        self._clock = clock
        self._cleaned_s = float("-inf")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Built by one thread, used by another, never by two at once.
            self._database = sqlite3.connect(path, timeout=_BUSY_S, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise OutputError(f"{path}: cannot be opened as a database: {error}") from error
        try:
            self._prepare(is_synced)
        except (sqlite3.Error, OutputError) as error:
            self._database.close()
            raise OutputError(f"{path}: cannot be opened as our database: {error}") from error

    def write(self, events: Sequence[Event]) -> None:
        """Write the events; all of them or none.

        Raises:
            OutputError: There is no room, or another program holds the file.
        """
        try:
            with self._database:
                for event in events:
                    self._insert(event)
                self._clean()
        except sqlite3.Error as error:
            raise OutputError(f"{self._path}: cannot be written: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _prepare(self, is_synced: bool) -> None:
        (application,) = self._database.execute("PRAGMA application_id").fetchone()
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        (num_tables,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if num_tables and (application, version) != (APPLICATION_ID, VERSION):
            raise OutputError("it is another program's, or another version's; choose another path")
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute(f"PRAGMA synchronous = {'FULL' if is_synced else 'NORMAL'}")
        with self._database:
            self._database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._database.execute(f"PRAGMA user_version = {VERSION}")
            for kind, table in _TABLES.items():
                own = "".join(f", {column}" for column in _COLUMNS[kind])
                self._database.execute(
                    f"CREATE TABLE IF NOT EXISTS {table} "
                    f"(uid TEXT PRIMARY KEY, at_unix_s REAL NOT NULL{own}, content TEXT NOT NULL)"
                )
                self._database.execute(
                    f"CREATE INDEX IF NOT EXISTS {table}_at ON {table} (at_unix_s)"
                )

    def _insert(self, event: Event) -> None:
        content = json.loads(event.as_bytes())["content"]
        own = [_cell(content.get(column)) for column in _COLUMNS[event.kind]]
        row = [event.uid, event.at_unix_s, *own, json.dumps(content, ensure_ascii=False)]
        marks = ", ".join("?" * len(row))
        self._database.execute(f"INSERT OR IGNORE INTO {_TABLES[event.kind]} VALUES ({marks})", row)

    def _clean(self) -> None:
        now_s = self._clock()
        if self._keep_days is None or now_s - self._cleaned_s < _CLEAN_EVERY_S:
            return
        for table in _TABLES.values():
            oldest_s = now_s - self._keep_days * _DAY_S
            self._database.execute(f"DELETE FROM {table} WHERE at_unix_s < ?", (oldest_s,))
        self._cleaned_s = now_s


def _cell(value: object) -> object:
    """Return what a column can hold: an unexpected list or object as JSON."""
    return json.dumps(value) if isinstance(value, list | dict) else value
