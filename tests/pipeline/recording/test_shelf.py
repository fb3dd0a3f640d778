from __future__ import annotations

import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.recording.shelf import Shelf, record_of

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


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
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pipeline.recording")
    clips = [put(tmp_path, camera, h) for h, camera in enumerate("babbaa")][::-1]
    with shelf(tmp_path, keep_bytes=3300):
        pass
    assert [clip.exists() for clip in clips] == [False, False, False, True, True, True]
    assert [record_of(clip).exists() for clip in clips] == [clip.exists() for clip in clips]
    assert "removed the 3 oldest clips (0.0 MB)" in caplog.text


def test_clips_go_when_they_are_too_old_whatever_room_there_is(tmp_path: Path) -> None:
    old, young = put(tmp_path, "a", 49), put(tmp_path, "a", 47)
    with shelf(tmp_path, keep_days=2):
        assert (old.exists(), young.exists()) == (False, True)


def test_what_is_being_written_takes_room_and_stays(tmp_path: Path) -> None:
    with shelf(tmp_path, keep_bytes=2200) as kept:
        clips = [put(tmp_path, "a", 2), put(tmp_path, "a", 1)]
        part = put(tmp_path, "a", 3, ".part")
        kept.tidy()
        assert [clip.exists() for clip in clips] == [False, True]
        assert part.exists()


def test_nothing_but_clips_is_ever_removed(tmp_path: Path) -> None:
    put(tmp_path, "a", 5)
    others = [tmp_path / "a" / "holiday.mp4", tmp_path / "a" / "notes.json", tmp_path / "keep.mp4"]
    for path in others:
        path.write_bytes(bytes(5000))
    with shelf(tmp_path, keep_bytes=1, keep_days=1):
        assert all(path.exists() for path in others)


def test_what_a_killed_process_left_unplayable_is_removed(tmp_path: Path) -> None:
    part = put(tmp_path, "a", 1, ".part")
    stray = tmp_path / "a" / ".x.json.123.part"
    stray.write_text("{")
    with shelf(tmp_path):
        assert not part.exists()
        assert not stray.exists()
        assert list((tmp_path / "a").iterdir()) == []


def test_two_clips_of_one_moment_get_two_names(tmp_path: Path) -> None:
    with shelf(tmp_path) as kept:
        first = kept.new_path("a", NOW.timestamp())
        first.touch()
        second = kept.new_path("a", NOW.timestamp())
        assert (first.name, second.name) == (
            "20261123T120000.000Z.mp4",
            "20261123T120000.000Z-2.mp4",
        )
        assert kept.new_path("a b/../c", 0.0).parent.parent == tmp_path
