"""Lines go, and neither newer ones nor who is writing them notices."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PrivacyError
from pipeline.privacy.labels import Labels
from pipeline.privacy.lines import Line, read_lines, remove_lines, rotated
from pipeline.sinks.jsonl import JsonlSink
from tests.pipeline.privacy.conftest import DAY_S, NOW_S, event, kill_while


def before(days_old: float) -> float:
    return NOW_S - days_old * DAY_S


def is_old(line: Line) -> bool:
    return line.at_unix_s is not None and line.at_unix_s < before(5.5)


def ages(path: Path) -> list[int]:
    return [round((NOW_S - line.at_unix_s) / DAY_S) for line in read_lines(path) if line.at_unix_s]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    with JsonlSink(path) as sink:
        sink.write([event(10 - day, f"person-{day % 2 + 1:03d}") for day in range(10)])
    return path


def test_old_lines_go_and_are_counted_and_newer_ones_stay_as_they_are(path: Path) -> None:
    newer = path.read_bytes().splitlines()[5:]
    removed = remove_lines(path, is_old)
    assert removed is not None
    assert (removed.count, removed.kind, removed.where) == (5, "sightings", str(path))
    assert (removed.oldest_unix_s, removed.newest_unix_s) == (before(10), before(6))
    assert path.read_bytes().splitlines()[5:] == newer
    assert ages(path) == [5, 4, 3, 2, 1]
    assert remove_lines(path, is_old) is None


def test_nothing_of_what_went_is_left_in_the_file(path: Path) -> None:
    remove_lines(path, lambda line: line.is_of(Labels(frozenset({"person-001"}))))
    assert b"person-001" not in path.read_bytes()
    assert len(ages(path)) == 5


def test_a_dry_run_says_the_same_and_changes_nothing(path: Path) -> None:
    content = path.read_bytes()
    told = remove_lines(path, is_old, is_dry_run=True)
    assert path.read_bytes() == content
    assert told == remove_lines(path, is_old)


def test_lines_that_went_are_json_and_the_sink_goes_on(path: Path) -> None:
    remove_lines(path, is_old)
    assert json.loads(path.read_bytes().splitlines()[0]) == {}
    with JsonlSink(path) as sink:
        sink.write([event(0.4)])
    assert ages(path) == [5, 4, 3, 2, 1, 0]


def test_a_sink_that_writes_meanwhile_loses_nothing(path: Path) -> None:
    with JsonlSink(path, rotate_bytes=4000, keep=1000) as sink:
        done = threading.Event()

        def clean() -> None:
            while not done.is_set():
                for each in rotated(path):
                    remove_lines(each, is_old)

        cleaner = threading.Thread(target=clean)
        cleaner.start()
        for number in range(150):
            sink.write([event(9 if number % 3 else 0.1, number=number)])
        done.set()
        cleaner.join(timeout=30)
    for each in rotated(path):
        remove_lines(each, is_old)
    contents = [line.content or {} for each in rotated(path) for line in read_lines(each)]
    numbers = [content["number"] for content in contents if "number" in content]
    assert numbers == list(range(0, 150, 3))


def test_full_files_of_which_nothing_is_left_are_removed(path: Path) -> None:
    full = path.with_name("events.000001.jsonl")
    path.rename(full)
    path.touch()
    remove_lines(full, is_old)
    assert full.exists()
    remove_lines(full, lambda line: True)
    assert not full.exists()
    remove_lines(path, lambda line: True)
    assert path.exists(), "its sink may have it open"


def test_kill_9_at_any_moment_harms_no_newer_line_and_the_next_run_finishes(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    rng = random.Random(3)
    with JsonlSink(path) as sink:
        sink.write([event(9 if at % 2 else 1, number=at, pad="x" * 2000) for at in range(4000)])
    newer = path.read_bytes().splitlines()[::2]
    for _ in range(10):
        kill_while(lambda: remove_lines(path, is_old), after_s=rng.uniform(0.0, 0.2))
        assert path.read_bytes().splitlines()[::2] == newer
    remove_lines(path, is_old)
    assert set(ages(path)) == {1}


def test_a_line_that_was_half_taken_out_goes_with_its_neighbours(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = b"{}" + b" " * 50 + lines[2][52:]
    path.write_bytes(b"".join(lines))
    removed = remove_lines(path, is_old)
    assert removed is not None
    assert removed.count == 5
    assert ages(path) == [5, 4, 3, 2, 1]


def test_a_damaged_line_about_somebody_goes_too(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'{"identity": "person-001", torn\n{"identity": "person-002", torn\n')
    remove_lines(path, lambda line: line.is_of(Labels(frozenset({"person-001"}))))
    assert b"person-001" not in path.read_bytes()
    assert b'"person-002", torn' in path.read_bytes()


def test_a_line_that_is_still_being_written_is_left_alone(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'{"identity": "person-001"')
    remove_lines(path, lambda line: True)
    assert path.read_bytes().endswith(b'\n{"identity": "person-001"')


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(max_size=40)), st.integers(0, 3))
def test_whatever_the_file_holds_only_what_goes_is_changed(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], which: int
) -> None:
    path = tmp_path_factory.mktemp("any") / "events.jsonl"
    content = b"\n".join(lines)
    path.write_bytes(content)
    kept = [line.raw for line in read_lines(path) if len(line.raw) % 4 != which]
    remove_lines(path, lambda line: len(line.raw) % 4 == which)
    assert [line.raw for line in read_lines(path)] == kept
    assert len(path.read_bytes()) == len(content)


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"x" * (2 << 20))
    with pytest.raises(PrivacyError, match="one that does not end"):
        remove_lines(path, lambda line: True)


def test_full_files_come_before_the_one_being_written_and_links_not_at_all(path: Path) -> None:
    names = ["events.000010.jsonl", "events.000002.jsonl", "events.old.jsonl", "other.000001.jsonl"]
    for name in names:
        path.with_name(name).touch()
    path.with_name("events.000003.jsonl").symlink_to(path)
    found = [each.name for each in rotated(path)]
    assert found == ["events.000002.jsonl", "events.000010.jsonl", "events.jsonl"]
