"""Rows go from the sink's database, and so do their bytes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from pipeline.errors import PrivacyError
from pipeline.privacy.labels import Labels
from pipeline.privacy.rows import remove_rows, rows_of
from pipeline.sinks.sqlite_sink import SqliteSink
from tests.pipeline.privacy.conftest import DAY_S, NOW_S, event

ANNA = Labels(frozenset({"Anna Ångström", "person-001"}))
OTHER = Labels(frozenset({"person-002"}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "events.sqlite"
    with SqliteSink(path) as sink:
        sink.write([event(day, "Anna Ångström" if day % 2 else "person-002") for day in range(10)])
    return path


def test_old_rows_go_and_are_counted(path: Path) -> None:
    removed = remove_rows(path, before_s=NOW_S - 5.5 * DAY_S)
    assert removed is not None
    assert (removed.count, removed.oldest_unix_s) == (4, NOW_S - 9 * DAY_S)
    assert len(rows_of(path, ANNA)) + len(rows_of(path, OTHER)) == 6
    assert remove_rows(path, before_s=NOW_S - 5.5 * DAY_S) is None


def test_a_dry_run_says_the_same_and_changes_nothing(path: Path) -> None:
    told = remove_rows(path, labels=ANNA, is_dry_run=True)
    assert len(rows_of(path, ANNA)) == 5
    assert told == remove_rows(path, labels=ANNA)


def test_nothing_of_somebody_is_left_in_any_file_while_the_sink_has_it_open(path: Path) -> None:
    with SqliteSink(path) as sink:
        sink.write([event(0.5, "somebody", now="Anna Ångström")])
        removed = remove_rows(path, labels=ANNA)
        sink.write([event(0.1, "person-002")])
        assert removed is not None
        assert removed.count == 6
        for each in path.parent.iterdir():
            assert "Ångström".encode() not in each.read_bytes()
    assert len(rows_of(path, OTHER)) == 6


def test_another_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE sightings (uid, at_unix_s, content)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(PrivacyError, match="expected a database of sightings"):
        remove_rows(path, before_s=NOW_S)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [None, b"dear diary" * 100])
def test_what_is_no_database_is_said_and_not_made(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "events.sqlite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PrivacyError, match=r"events\.sqlite"):
        remove_rows(path, before_s=NOW_S)
    assert path.exists() == (content is not None)
