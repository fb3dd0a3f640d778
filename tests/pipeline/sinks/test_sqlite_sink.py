"""Events in SQLite: once each, readable while it grows."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.errors import OutputError
from pipeline.sinks.live import Event, camera_event
from pipeline.sinks.sqlite_sink import SqliteSink
from pipeline.sources.camera_state import CameraState, Change


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


def sighting(number: int = 0, at_unix_s: float = 1.0e9) -> Event:
    content = {"identity": f"person-{number}", "camera": "gate", "is_new": True, "reasons": {}}
    return Event("sighting", at_unix_s, content)


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return database.execute(query).fetchall()


def test_each_kind_has_its_table_that_others_can_read_meanwhile(path: Path) -> None:
    change = Change("gate", CameraState.STALLED, CameraState.LIVE, "no packet for 4 s", 1.0)
    with SqliteSink(path) as sink:
        sink.write([sighting(1), camera_event(change, 5.0), Event("overload", 6.0, {"level": 2})])
        assert rows(path, "SELECT identity, camera, is_new, distance FROM sightings") == [
            ("person-1", "gate", 1, None)
        ]
        assert rows(path, "SELECT at_unix_s, camera, state, before FROM camera_events") == [
            (5.0, "gate", "stalled", "live")
        ]
        (content,) = rows(path, "SELECT content FROM overload_events")[0]
        assert json.loads(str(content)) == {"level": 2}
        assert rows(path, "PRAGMA journal_mode") == [("wal",)]


def test_an_event_that_comes_twice_is_one_row_also_over_restarts(path: Path) -> None:
    twice = sighting()
    for _ in range(2):
        with SqliteSink(path) as sink:
            sink.write([twice, twice])
    assert rows(path, "SELECT count(*) FROM sightings") == [(1,)]


def test_old_rows_go(path: Path) -> None:
    now_s = 2.0e9
    with SqliteSink(path, keep_days=1, clock=lambda: now_s) as sink:
        sink.write([sighting(1, now_s - 80_000)])
        assert rows(path, "SELECT identity FROM sightings") == [("person-1",)]
        now_s += 10_000
        sink.write([sighting(2, now_s)])
    assert rows(path, "SELECT identity FROM sightings") == [("person-2",)]


def test_text_that_utf8_cannot_hold_and_unexpected_types_are_written(path: Path) -> None:
    odd = Event("sighting", 1.0, {"identity": "a\udcff'; DROP TABLE sightings", "camera": [1]})
    with SqliteSink(path) as sink:
        sink.write([odd])
    assert rows(path, "SELECT identity, camera FROM sightings") == [
        ("a?'; DROP TABLE sightings", "[1]")
    ]


def test_another_programs_file_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE diary (line)")
    with pytest.raises(OutputError, match="another program"):
        SqliteSink(path)
    path.write_bytes(b"no database at all, but long enough to be read as the header of one" * 9)
    with pytest.raises(OutputError, match="not a database"):
        SqliteSink(path)


def test_a_locked_file_is_an_error_that_passes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.sinks.sqlite_sink._BUSY_S", 0.1)
    with SqliteSink(path) as sink, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OutputError, match="locked"):
            sink.write([sighting(1)])
        other.rollback()
        sink.write([sighting(1)])
    assert rows(path, "SELECT count(*) FROM sightings") == [(1,)]
