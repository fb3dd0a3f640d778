from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.recording.shelf import Shelf, record_of

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    return tmp_path


def put(folder: Path, camera: str, hours_ago: float, suffix: str = "") -> Path:
    """Write what has a clip's name: 1000 bytes of video and 100 of record."""
    began = NOW - timedelta(hours=hours_ago)
    path = folder / camera / f"{began:%Y%m%dT%H%M%S}.000Z.mp4{suffix}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes(1000))
    os.utime(path, (began.timestamp(), began.timestamp()))
    record_of(path.with_name(path.name.removesuffix(suffix))).write_bytes(bytes(100))
    return path


def shelf(folder: Path, keep_bytes: float = 1e9, keep_days: float | None = None) -> Shelf:
    return Shelf(folder, keep_bytes=keep_bytes, keep_days=keep_days, clock=NOW.timestamp)


def test_the_oldest_clips_of_all_cameras_make_room_and_it_is_said(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clips = [put(folder, camera, h) for h, camera in enumerate("babbaa")][::-1]
    with shelf(folder, keep_bytes=3300):
        pass
    assert [clip.exists() for clip in clips] == [False, False, False, True, True, True]
    assert [record_of(clip).exists() for clip in clips] == [clip.exists() for clip in clips]
    assert "removed the 3 oldest clips (0.0 MB)" in caplog.text


def test_clips_go_when_they_are_too_old_whatever_room_there_is(folder: Path) -> None:
    old, young = put(folder, "a", 49), put(folder, "a", 47)
    with shelf(folder, keep_days=2):
        assert (old.exists(), young.exists()) == (False, True)


def test_what_is_being_written_takes_room_and_stays(folder: Path) -> None:
    with shelf(folder, keep_bytes=2200) as kept:
        clips = [put(folder, "a", 2), put(folder, "a", 1)]
        part = put(folder, "a", 3, ".part")
        kept.tidy()
        assert [clip.exists() for clip in clips] == [False, True]
        assert part.exists()


def test_nothing_but_clips_is_ever_removed(folder: Path) -> None:
    put(folder, "a", 5)
    others = [folder / "a" / "holiday.mp4", folder / "a" / "notes.json", folder / "keep.mp4"]
    for path in others:
        path.write_bytes(bytes(5000))
    with shelf(folder, keep_bytes=1, keep_days=1):
        assert all(path.exists() for path in others)


def test_what_a_killed_process_left_unplayable_is_removed(folder: Path) -> None:
    part = put(folder, "a", 1, ".part")
    stray = folder / "a" / ".x.json.123.part"
    stray.write_text("{")
    with shelf(folder):
        assert not part.exists()
        assert not stray.exists()
        assert list((folder / "a").iterdir()) == []


def test_two_clips_of_one_moment_get_two_names(folder: Path) -> None:
    with shelf(folder) as kept:
        first = kept.new_path("a", NOW.timestamp())
        first.touch()
        second = kept.new_path("a", NOW.timestamp())
        assert (first.name, second.name) == (
            "20261123T120000.000Z.mp4",
            "20261123T120000.000Z-2.mp4",
        )
        assert kept.new_path("a b/../c", 0.0).parent.parent == folder
