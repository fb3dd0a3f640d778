"""What galleries keep from others: sealed blobs, bytes of who is forgotten, passwords."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import GalleryError
from pipeline.gallery.exemplar import Enrolment, Exemplar
from pipeline.gallery.store import GalleryStore
from pipeline.privacy.cipher import Cipher
from pipeline.privacy.pseudonyms import PseudonymKey
from tests.servers.postgres import PASSWORD, PostgresServer

MakeExemplar = Callable[..., Exemplar]
Where = Path | str

CONSENT = Enrolment(basis="consent, folder 12", purpose="door", by="Kim", expires_s=9000.0)


def open_store(where: Where | None, model_hash: str | None = "a" * 64, **more) -> GalleryStore:
    return GalleryStore(where, model_hash=model_hash, clock=lambda: 1000.0, **more)


def labels(store: GalleryStore) -> dict[str, int]:
    """How many exemplars everybody has."""
    return {person.identity.label: person.num_exemplars for person in store.people()}


def bytes_of(where: Where, postgres: PostgresServer | None) -> bytes:
    if isinstance(where, Path):
        files = where.parent.glob(f"{where.name}*")
        return b"".join(path.read_bytes() for path in files)
    assert postgres is not None
    return postgres.bytes_of(where.partition("@/")[2].partition("?")[0])


def test_what_is_forgotten_is_gone_from_every_byte(
    where: Where, request: pytest.FixtureRequest
) -> None:
    postgres = None if isinstance(where, Path) else request.getfixturevalue("postgres")
    rng = np.random.default_rng(1)
    blank = Exemplar("SECRETUID/1/0", "door", 1, (0, 1), 1.0, 30, np.zeros((256, 16), np.float32))
    walks = [
        replace(
            blank,
            tracklet_uid=f"SECRETUID/{n}/0",
            embedding=rng.standard_normal((256, 16)).astype(np.float16).astype(np.float32),
            silhouettes=rng.integers(0, 2, (30, 64, 44), dtype=np.uint8) * 255,
        )
        for n in range(6)
    ]
    with open_store(where, keep_silhouettes=True) as store:
        store.enrol("Berta", [replace(blank, tracklet_uid="kept")], CONSENT)
        anna = store.enrol("SECRETNAME", walks, replace(CONSENT, basis="SECRETBASIS"), budget=4)
        patterns = [b"SECRETNAME", b"SECRETBASIS", b"SECRETUID"]
        for kept in store.kept(anna, whole=True):
            assert kept.embedding is not None
            patterns.append(kept.embedding.astype("<f2").tobytes()[1000:1032])
        for pattern in patterns:
            assert pattern in bytes_of(where, postgres), pattern
        assert store.forget(anna) is None
        for pattern in patterns:
            assert pattern not in bytes_of(where, postgres), pattern
        assert labels(store) == {"Berta": 1}
    assert b"SECRET" not in bytes_of(where, postgres)


def test_bytes_that_a_reader_held_back_go_when_the_gallery_is_opened_again(
    tmp_path: Path, exemplar: MakeExemplar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.gallery.database._LOCK_TIMEOUT_S", 0.2)
    path = tmp_path / "people.gallery"
    with open_store(path) as store:
        anna = store.enrol("SECRETNAME", [exemplar(1)], CONSENT)
        store.found(exemplar(2))
        reading = store.exemplars()
        next(reading)
        assert "another process" in (store.forget(anna) or "")
        assert "SECRETNAME" not in labels(store)
        reading.close()
    with open_store(path):
        assert b"SECRETNAME" not in bytes_of(path, None)


def test_a_key_seals_what_is_there_and_only_it_opens(where: Where, exemplar: MakeExemplar) -> None:
    old, new = os.urandom(32), os.urandom(32)
    with open_store(where, keep_silhouettes=True) as store:
        plain = exemplar(1, at=0.25)
        identity, _ = store.found(plain)
    with open_store(where, keep_silhouettes=True, cipher=Cipher([old])) as store:
        store.add(identity, exemplar(2, at=0.5))
        assert store.is_sealed()
        np.testing.assert_array_equal(next(store.exemplars()).embedding, plain.embedding)
        assert all(kept.silhouettes is not None for kept in store.kept(whole=True))
    with pytest.raises(GalleryError, match="sealed: configure the site's key"):
        open_store(where)
    with (
        open_store(where, cipher=Cipher([new])) as store,
        pytest.raises(GalleryError, match="not among"),
    ):
        list(store.exemplars())
    with open_store(where, model_hash=None) as store:  # to look after it
        with pytest.raises(GalleryError, match="sealed"):
            store.extend(identity, [exemplar(3)])
        with pytest.raises(GalleryError, match="sealed: configure the site's key"):
            store.whole()
        assert labels(store) == {"person-001": 2}
    with open_store(where, cipher=Cipher([new, old])) as store:
        assert store.seal() == 2
        assert store.seal() == 0
    with open_store(where, cipher=Cipher([new])) as store:
        assert len(list(store.exemplars())) == 2


def test_with_a_key_pseudonyms_say_nothing_to_others(exemplar: MakeExemplar) -> None:
    names = []
    for key in (b"1" * 32, b"2" * 32):
        with open_store(None, pseudonyms=PseudonymKey(key)) as store:
            names.append([store.found(exemplar(n))[0].pseudonym for n in range(3)])
    assert not set(names[0]) & set(names[1])
    assert len({*names[0], *names[1]}) == 6


def test_only_the_owner_may_read_a_new_gallery(tmp_path: Path, exemplar: MakeExemplar) -> None:
    with open_store(tmp_path / "people.gallery") as store:
        store.found(exemplar(1))
        modes = {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {0o600}


@pytest.mark.parametrize(
    "address", ["mysql://u:hunter2@h/d", "postgresql+psycopg://u:hunter2@h:port/d"]
)
def test_a_wrong_address_is_refused_without_its_password(address: str) -> None:
    with pytest.raises(GalleryError, match=r"gallery\.path: expected a file or") as caught:
        open_store(address)
    assert "hunter2" not in str(caught.value)


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(GalleryError, match="environment variable NOT_SET_ANYWHERE is not set"):
        open_store("postgresql+psycopg://u:${NOT_SET_ANYWHERE}@h/d")


@pytest.mark.postgres
def test_a_servers_password_is_never_shown(
    database: str, monkeypatch: pytest.MonkeyPatch, exemplar: MakeExemplar
) -> None:
    with open_store(database) as store:
        assert PASSWORD not in store.name
        assert "GALLERY_PASSWORD" not in store.name
    monkeypatch.setenv("GALLERY_PASSWORD", "hunter2")
    with pytest.raises(GalleryError) as caught:
        open_store(database)
    assert "hunter2" not in str(caught.value)
    assert "the server refuses: see that user, password and database" in str(caught.value)
    with GalleryStore(database, model_hash="a" * 64, password=PASSWORD) as store:
        store.found(exemplar(1))


@pytest.mark.postgres
def test_a_server_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="server cannot be reached"):
        open_store(f"postgresql+psycopg://walker@/people?host={tmp_path}")
