from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import GalleryError
from pipeline.gallery.exemplar import Exemplar
from pipeline.gallery.store import GalleryStore

MakeExemplar = Callable[..., Exemplar]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.gallery"


def open_store(path: Path | None, model_hash: str = "a" * 64) -> GalleryStore:
    return GalleryStore(path, model_hash=model_hash, clock=lambda: 1000.0)


def test_what_was_enrolled_is_there_when_the_gallery_is_opened_again(
    path: Path, exemplar: MakeExemplar
) -> None:
    noisy = Exemplar("door/7/0", "door", 7, (0.0, 2.9), 0.5, 30, exemplar(at=0.25).embedding)
    with open_store(path) as store:
        first, first_key = store.found(exemplar(1, at=0.1))
        second, second_key = store.found(noisy)
        third_key = store.add(first, exemplar(2, at=0.2))
    with open_store(path) as store:
        stored = list(store.exemplars())
        assert len(store.people()) == 2
    assert [row.id for row in stored] == [first_key, second_key, third_key]
    assert [row.identity for row in stored] == [first, second, first]
    assert [identity.pseudonym for identity in (first, second)] == ["person-001", "person-002"]
    assert stored[1].quality == 0.5
    np.testing.assert_array_equal(stored[1].embedding, noisy.embedding)


def test_an_embedding_is_kept_to_one_part_in_two_thousand(tracklet, path: Path) -> None:
    embedding = np.random.default_rng(0).normal(0, 3, (256, 16)).astype(np.float32)
    with open_store(path) as store:
        store.found(Exemplar.of(tracklet(), embedding))
        kept = next(iter(store.exemplars())).embedding
    np.testing.assert_allclose(kept, embedding, rtol=2**-11, atol=1e-7)


def test_the_same_tracklet_given_again_changes_nothing(path: Path, exemplar: MakeExemplar) -> None:
    with open_store(path) as store:
        identity, key = store.found(exemplar(1))
        assert store.add(identity, exemplar(1)) == key
        assert len(list(store.exemplars())) == 1


def test_two_people_may_have_tracklets_of_the_same_name(exemplar: MakeExemplar) -> None:
    with open_store(None) as store:
        first, _ = store.found(exemplar(1, at=0.0))
        second, _ = store.found(exemplar(1, at=9.0))
        assert first != second
        assert len(list(store.exemplars())) == 2


def test_an_exemplar_replaces_another(exemplar: MakeExemplar) -> None:
    with open_store(None) as store:
        identity, old = store.found(exemplar(1, at=0.1))
        new = store.add(identity, exemplar(2, at=0.2), replacing=old)
        assert [row.id for row in store.exemplars()] == [new]
        assert new != old


def test_an_exemplar_of_nobody_is_refused(exemplar: MakeExemplar) -> None:
    with open_store(None) as store, open_store(None) as other:
        identity, _ = other.found(exemplar(1))
        with pytest.raises(GalleryError, match="person-001 is not in the gallery"):
            store.add(identity, exemplar(2))
        assert not list(store.exemplars())


def test_a_pseudonym_is_never_given_twice(path: Path, exemplar: MakeExemplar) -> None:
    with open_store(path) as store:
        store.found(exemplar(1))
        store.found(exemplar(2))
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM exemplar WHERE identity_id = 2")
        connection.execute("DELETE FROM identity WHERE id = 2")
    connection.close()
    with open_store(path) as store:
        assert store.found(exemplar(3))[0].pseudonym == "person-003"


def test_closing_twice_is_fine_and_using_a_closed_gallery_is_not(exemplar: MakeExemplar) -> None:
    store = open_store(None)
    store.close()
    store.close()
    with pytest.raises(ValueError, match="this one was closed"):
        store.found(exemplar())


def test_a_gallery_of_another_model_is_refused_with_the_way_out(
    path: Path, exemplar: MakeExemplar
) -> None:
    with open_store(path, "a" * 64) as store:
        store.found(exemplar())
    before = path.read_bytes()
    with pytest.raises(GalleryError, match=r"this run uses bbbbbbbbbbbb.*gallery re-embed"):
        open_store(path, "b" * 64)
    assert path.read_bytes() == before


def test_a_newer_gallery_is_refused(path: Path) -> None:
    open_store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE gallery SET schema_version = 99")
    connection.close()
    with pytest.raises(GalleryError, match="version 2 or older, got version 99; update"):
        open_store(path)


def _random_bytes() -> bytes:
    return np.random.default_rng(0).bytes(20_000)


@pytest.mark.parametrize(
    "content", [b"stream,person\n" * 1000, _random_bytes()], ids=["text", "noise"]
)
def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(GalleryError, match="it is not an SQLite file: give another path"):
        open_store(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("table", ["gallery", "albums"])
def test_a_database_of_something_else_is_refused_and_left_alone(path: Path, table: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE {table} (photo TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(GalleryError, match="got a database of something else"):
        open_store(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["truncated", "overwritten"])
def test_a_damaged_gallery_is_refused(path: Path, exemplar: MakeExemplar, damage: str) -> None:
    with open_store(path) as store:
        for track_id in range(20):
            store.found(exemplar(track_id))
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        del content[len(content) // 2 :]
    else:
        content[-4096 * 20 :] = _random_bytes()[:4096] * 20  # what is read first is whole
    path.write_bytes(content)
    with pytest.raises(GalleryError, match="it is damaged: restore it from a backup"):
        open_store(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "blob",
    [b"", b"\0" * 100, np.full(4096, np.nan, "<f2").tobytes(), 7, "text"],
    ids=["empty", "short", "nan", "number", "text"],
)
def test_a_damaged_embedding_is_named(path: Path, exemplar: MakeExemplar, blob: object) -> None:
    with open_store(path) as store:
        store.found(exemplar())
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE exemplar SET embedding = ?", (blob,))
    connection.close()
    with open_store(path) as store, pytest.raises(GalleryError, match=r"exemplar 1: .* damaged"):
        list(store.exemplars())


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="the folder must exist"):
        open_store(tmp_path / "nowhere" / "people.gallery")


def test_a_folder_is_no_gallery(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match=r"got a folder; name a file in it, such as .*\.gallery"):
        open_store(tmp_path)


def test_a_table_whose_name_is_no_text_any_more_is_damage(
    path: Path, exemplar: MakeExemplar
) -> None:
    with open_store(path) as store:
        store.found(exemplar())
    content = path.read_bytes()
    path.write_bytes(content.replace(b"CREATE TABLE exemplar", b"CREATE TABLE \xf2xemplar"))
    with pytest.raises(GalleryError, match="it is damaged: restore it from a backup"):
        open_store(path)


@pytest.mark.parametrize("wrong", [{"track_id": 2**70}, {"stream": "no \udcff text"}])
def test_what_a_database_cannot_hold_is_refused_and_changes_nothing(
    exemplar: MakeExemplar, wrong: dict[str, object]
) -> None:
    with open_store(None) as store:
        with pytest.raises(GalleryError, match="cannot be used"):
            store.found(replace(exemplar(), **wrong))
        assert len(store.people()) == 0


def test_silhouettes_that_were_cut_short_are_damage(path: Path, exemplar: MakeExemplar) -> None:
    with GalleryStore(path, model_hash="a" * 64, keep_silhouettes=True) as store:
        store.found(exemplar())
        [kept] = store.kept(whole=True)
        assert kept.silhouettes is not None
    with sqlite3.connect(path) as connection:
        cut = "UPDATE exemplar SET silhouettes = substr(silhouettes, 1, length(silhouettes) - 4)"
        connection.execute(cut)
    connection.close()
    with open_store(path) as store, pytest.raises(GalleryError, match="packed silhouettes; the"):
        list(store.kept(whole=True))


_WITHOUT_RIGHTS = """
import os, sys
from pipeline.errors import GalleryError
from pipeline.gallery.store import GalleryStore
GalleryStore(None, model_hash="a" * 64).close()  # imports everything while that is allowed
if os.geteuid() == 0:
    os.setuid(65534)
try:
    GalleryStore(sys.argv[1], model_hash="a" * 64)
except GalleryError as error:
    print(error)
"""


def test_a_gallery_that_may_not_be_written_is_refused(path: Path, exemplar: MakeExemplar) -> None:
    with open_store(path) as store:
        store.found(exemplar())
    before = path.read_bytes()
    path.chmod(0o444)
    path.parent.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_RIGHTS, path.name],
        cwd=path.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=100,
    )
    path.parent.chmod(0o755)
    assert "people.gallery: it" in done.stdout, done.stderr
    assert "writ" in done.stdout
    assert path.read_bytes() == before


def test_a_writer_waits_for_another_process_no_longer_than_the_time_out(
    path: Path, exemplar: MakeExemplar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.gallery.database._LOCK_TIMEOUT_S", 0.1)
    with open_store(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(GalleryError, match="another process is writing"):
            store.found(exemplar(1))
        other.execute("COMMIT")
        other.close()
        store.found(exemplar(1))
        assert len(store.people()) == 1


_FILL_UP = """
import resource, sys
import numpy as np
from pipeline.errors import GalleryError
from pipeline.gallery.exemplar import Exemplar
from pipeline.gallery.store import GalleryStore

def exemplar(n):
    return Exemplar(f"door/{n}/0", "door", n, (0, 1), 1.0, 30, np.zeros((256, 16), np.float32))

store = GalleryStore(sys.argv[1], model_hash="a" * 64)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
stored = 0
try:
    for n in range(1000):
        store.found(exemplar(n))
        stored += 1
except GalleryError as error:
    message = str(error)
in_the_middle = len(store.people()), len(list(store.exemplars()))
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
store.found(exemplar(2000))
print(stored, *in_the_middle, message, sep="|")
"""


def test_a_full_disk_is_said_and_the_gallery_stays_whole(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FILL_UP, str(path)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    stored, identities, exemplars, message = done.stdout.split("|")
    assert 5 < int(stored) < 1000
    assert int(identities) == int(exemplars) == int(stored)
    assert "room" in message
    assert "what was stored before is safe" in message
    with open_store(path) as store:  # the one written after room was made is there too
        assert len(store.people()) == len(list(store.exemplars())) == int(stored) + 1


def test_several_threads_write_at_once(path: Path, exemplar: MakeExemplar) -> None:
    with open_store(path) as store:

        def enrol(first: int) -> None:
            for track_id in range(first, first + 20):
                identity, _ = store.found(exemplar(track_id))
                store.add(identity, exemplar(track_id, start_s=5.0))

        threads = [threading.Thread(target=enrol, args=(100 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        stored = list(store.exemplars())
    assert len(stored) == 4 * 20 * 2
    assert {row.identity.pseudonym for row in stored} == {f"person-{n:03d}" for n in range(1, 81)}
