"""Galleries of older schemas are brought up to date, whole or not at all."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from pipeline.errors import GalleryError
from pipeline.gallery.migrations import upgrade
from pipeline.gallery.store import GalleryStore
from pipeline.gallery.tables import SCHEMA_VERSION, Base
from tests.servers.postgres import PASSWORD

OLD = Path(__file__).parent / "schema-1.gallery"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of a gallery that was made before there was a second schema."""
    return Path(shutil.copy(OLD, tmp_path / "people.gallery"))


def test_a_gallery_of_schema_1_is_whole_after_its_migration(old: Path) -> None:
    with sqlite3.connect(old) as before:
        blobs = [row[0] for row in before.execute("SELECT embedding FROM exemplar ORDER BY id")]
    before.close()
    for _ in range(2):
        with GalleryStore(old, model_hash="a" * 64) as store:
            people = store.people()
            stored = list(store.exemplars())
    assert [person.identity.label for person in people] == [
        "person-001",
        "person-002",
        "person-003",
    ]
    assert [person.num_exemplars for person in people] == [2, 1, 1]
    assert [e.embedding.astype("<f2").tobytes() for e in stored] == blobs
    assert [e.identity.id for e in stored] == [1, 2, 1, 3]
    assert all(np.isfinite(e.embedding).all() for e in stored)


def test_a_migrated_gallery_is_used_like_a_new_one(old: Path, exemplar) -> None:
    with GalleryStore(old, model_hash="a" * 64) as store:
        assert store.found(exemplar(9))[0].pseudonym == "person-004"
        everybody = [person.identity for person in store.people()]
        store.merge(everybody[0], everybody[1])
        assert store.forget(everybody[2]) is None
        assert len(store.changes_since().exemplars) == 4


def test_another_models_gallery_is_refused_before_it_is_changed(old: Path) -> None:
    before = old.read_bytes()
    with pytest.raises(GalleryError, match="made with model aaaa"):
        GalleryStore(old, model_hash="b" * 64)
    assert old.read_bytes() == before


def test_a_migration_that_fails_leaves_the_gallery_as_it_was(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def upgrade_and_fail(connection, *, from_version: int) -> None:
        upgrade(connection, from_version=from_version)
        raise GalleryError("stopped in the middle")

    before = old.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.gallery.migrations.upgrade", upgrade_and_fail)
        with pytest.raises(GalleryError, match="stopped"):
            GalleryStore(old, model_hash="a" * 64)
    assert old.read_bytes() == before
    GalleryStore(old, model_hash="a" * 64).close()


def test_a_migrated_gallery_has_the_tables_of_a_new_one(old: Path) -> None:
    GalleryStore(old, model_hash="a" * 64).close()
    engine = create_engine(f"sqlite:///{old}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        version = connection.execute(text("SELECT schema_version FROM gallery")).scalar()
        assert version == SCHEMA_VERSION
    engine.dispose()


_WITHOUT_ROOM = """
import resource, signal, sys
from pipeline.errors import GalleryError
from pipeline.gallery.store import GalleryStore
import pipeline.gallery.migrations
GalleryStore(None, model_hash="a" * 64).close()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
try:
    GalleryStore(sys.argv[1], model_hash="a" * 64)
except GalleryError as error:
    print(error)
"""


def test_a_migration_without_room_leaves_the_gallery_as_it_was(old: Path) -> None:
    before = old.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_ROOM, str(old)], capture_output=True, text=True, timeout=100
    )
    assert "what was stored before is safe" in done.stdout, done.stderr
    with sqlite3.connect(old) as connection:
        assert connection.execute("SELECT schema_version FROM gallery").fetchall() == [(1,)]
    connection.close()
    assert old.read_bytes() == before
    GalleryStore(old, model_hash="a" * 64).close()


@pytest.mark.postgres
def test_a_server_migrates_from_the_first_schema_too(database: str) -> None:
    engine = create_engine(database.replace("${GALLERY_PASSWORD}", ""), connect_args={
        "password": PASSWORD
    })  # fmt: skip
    with engine.begin() as connection:
        from alembic.operations import Operations

        from pipeline.gallery.migrations.versions import v0001_pseudonyms

        with Operations.context(MigrationContext.configure(connection)):
            v0001_pseudonyms.upgrade()
        connection.execute(
            text("INSERT INTO gallery VALUES (1, 1, :model, 1, 1000.0)"), {"model": "a" * 64}
        )
        connection.execute(text("INSERT INTO identity VALUES (1, 'person-001', 1000.0)"))
        connection.execute(
            text(
                "INSERT INTO exemplar VALUES "
                "(1, 1, 'door/1/0', 'door', 1, 0.0, 1.0, 1.0, 30, 1000.0, :blob)"
            ),
            {"blob": bytes(8192)},
        )
    with GalleryStore(database, model_hash="a" * 64) as store:
        [person] = store.people()
        assert (person.identity.pseudonym, person.num_exemplars) == ("person-001", 1)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()
