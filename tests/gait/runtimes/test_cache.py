from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from gait.errors import RuntimeUnavailable
from gait.runtimes import cache


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_folder_is_the_users_alone(folder: Path, tmp_path: Path) -> None:
    assert folder == (tmp_path / "cache").resolve()
    assert mode(folder) == 0o700


def test_without_a_variable_of_ours_the_users_cache_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRACKLETGAIT_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == (tmp_path / "xdg" / "trackletgait").resolve()
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.cache_folder() == (tmp_path / "home" / ".cache" / "trackletgait").resolve()


def test_a_folder_that_others_may_write_to_is_refused(folder: Path) -> None:
    folder.chmod(0o770)
    with pytest.raises(RuntimeUnavailable, match="only its owner may write to it, got mode 0770"):
        cache.cache_folder()


def test_somebody_elses_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(RuntimeUnavailable, match="expected it to belong to the user"):
        cache.cache_folder()


def test_a_file_in_the_folders_place_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRACKLETGAIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(RuntimeUnavailable, match="cannot use it"):
        cache.cache_folder()


def test_what_was_stored_is_loaded_and_only_its_owner_may_read_it(folder: Path) -> None:
    path = cache.entry("engine", {"gpu": "a"}, ".plan")
    assert cache.load(path) is None
    cache.store(path, b"one")
    cache.store(path, b"two")
    assert cache.load(path) == b"two"
    assert mode(path) == 0o600
    assert [each.name for each in folder.iterdir()] == [path.name]


def test_another_key_is_another_file_and_the_order_of_keys_is_nothing(folder: Path) -> None:
    first = cache.entry("engine", {"gpu": "a", "driver": "1"}, ".plan")
    assert first == cache.entry("engine", {"driver": "1", "gpu": "a"}, ".plan")
    others = [
        cache.entry("engine", {"gpu": "a", "driver": "2"}, ".plan"),
        cache.entry("engine", {"gpu": "a"}, ".plan"),
        cache.entry("verdict", {"gpu": "a", "driver": "1"}, ".plan"),
    ]
    assert len({first, *others}) == 4
    assert first.parent == folder
    assert first.name.startswith("engine-")


@pytest.mark.parametrize("kind", ["", "../engine", "a/b", ".hidden"])
def test_a_kind_cannot_lead_out_of_the_folder(folder: Path, kind: str) -> None:
    with pytest.raises(ValueError, match="kind: expected"):
        cache.entry(kind, {}, ".plan")


@pytest.mark.parametrize("suffix", ["/../x", "plan", "."])
def test_a_suffix_cannot_lead_out_of_the_folder(folder: Path, suffix: str) -> None:
    with pytest.raises(ValueError, match="suffix: expected"):
        cache.entry("engine", {}, suffix)


def test_links_pipes_folders_and_foreign_files_are_not_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = folder / "real"
    cache.store(real, b"real")
    (folder / "link").symlink_to(real)
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    for name in ("link", "pipe", "folder"):
        with pytest.raises(RuntimeUnavailable, match="expected an ordinary file"):
            cache.load(folder / name)
    monkeypatch.setattr(os, "geteuid", lambda: real.stat().st_uid + 1)
    with pytest.raises(RuntimeUnavailable, match="expected it to belong to the user"):
        cache.load(real)


def test_a_file_that_others_may_write_to_is_not_loaded(folder: Path) -> None:
    path = folder / "engine"
    cache.store(path, b"plan")
    path.chmod(0o622)
    with pytest.raises(RuntimeUnavailable, match="only its owner may write to it, got mode 0622"):
        cache.load(path)


def test_a_store_that_fails_leaves_what_was_there_and_no_remains(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "engine"
    cache.store(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RuntimeUnavailable, match="No space left on device"):
        cache.store(path, b"new")
    assert cache.load(path) == b"old"
    assert [each.name for each in folder.iterdir()] == ["engine"]


def test_threads_that_store_at_once_leave_one_whole_file(folder: Path) -> None:
    path = folder / "engine"
    contents = [bytes([i]) * 200_000 for i in range(8)]
    threads = [threading.Thread(target=cache.store, args=(path, each)) for each in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.load(path) in contents
    assert len(list(folder.iterdir())) == 1
