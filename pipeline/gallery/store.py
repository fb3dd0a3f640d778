"""Where identities and exemplars are kept: one SQLite file, or memory."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, delete, func, inspect, select, text
from sqlalchemy.exc import DBAPIError, NoResultFound
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from gait.closing import Closing
from pipeline.errors import GalleryError
from pipeline.gallery.exemplar import Exemplar, Identity, pack_embedding, unpack_embedding
from pipeline.gallery.tables import SCHEMA_VERSION, Base, ExemplarRow, GalleryRow, IdentityRow
from pipeline.values import Embedding

_LOCK_TIMEOUT_S = 10.0

# What to do about each of SQLite's primary result codes.
_ADVICE = {
    sqlite3.SQLITE_FULL: "no room is left: free some and run again; what was stored before is safe",
    sqlite3.SQLITE_IOERR: "reading or writing failed: look at the disk's room and health; "
    "what was stored before is safe",
    sqlite3.SQLITE_READONLY: "it may not be written: change its permissions or give another path",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: the folder must exist, and the file and the "
    "folder must be writable",
    sqlite3.SQLITE_BUSY: "another process is writing to it: wait for that one to end",
    sqlite3.SQLITE_NOTADB: "it is not an SQLite file: give another path",
    sqlite3.SQLITE_CORRUPT: "it is damaged: restore it from a backup or give another path",
}


@dataclass(frozen=True, slots=True, eq=False)
class StoredExemplar:
    """An exemplar as it is read back.

    Attributes:
        id: Key in the gallery.
        identity: Whose it is.
        quality: Quality of the tracklet in 0..1.
        embedding: Shape (256, 16), float32.
    """

    id: int
    identity: Identity
    quality: float
    embedding: Embedding


class GalleryStore(Closing):
    """Identities and exemplars on disk, safe against `kill -9` and a full disk.

        with GalleryStore(Path("people.gallery"), model_hash=encoder.model_hash) as store:
            identity, exemplar_id = store.found(exemplar)
            store.add(identity, another_exemplar)

    Each call is one transaction: when it returns, what it wrote is on the disk and stays there;
    when it raises, nothing was written. An identity never exists without an exemplar.

    Pseudonyms are counted from "person-001" and never given twice, not even after a person is
    removed. They say nothing of a person but the order of arrival, and are the same whenever the
    same recording goes into an empty gallery.

    Any thread may use it, and several at once: there is one connection and one lock. Several
    processes may write to one file without harm to it, but a `Gallery` learns of what others
    wrote only when it is opened again.

    Args:
        path: The file, made if missing; None keeps everything in memory.
        model_hash: Hash of the weights that make the embeddings: distances between embeddings of
            two models mean nothing, so a gallery made by another is refused.
        clock: Unix time in seconds.

    Raises:
        GalleryError: The file is no gallery, damaged, newer than this program, made by another
            model or cannot be written. Nothing in it was changed.
    """

    def __init__(
        self,
        path: Path | str | None,
        *,
        model_hash: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._name = "gallery in memory" if path is None else str(path)
        self._clock = clock
        self._lock = threading.RLock()
        self._closed = False
        target = ":memory:" if path is None else str(path)
        self._engine = create_engine(
            "sqlite://", creator=lambda: _connect(target), poolclass=StaticPool
        )
        try:
            self._open(model_hash)
        except BaseException:
            self.close()
            raise

    def found(self, exemplar: Exemplar) -> tuple[Identity, int]:
        """Return a new identity and the key of its first exemplar, both written.

        Raises:
            GalleryError: They could not be written; nothing was.
        """
        with self._transaction() as session:
            gallery = session.scalars(select(GalleryRow)).one()
            gallery.num_founded += 1
            identity = IdentityRow(
                pseudonym=f"person-{gallery.num_founded:03d}", created_s=self._clock()
            )
            session.add(identity)
            session.flush()
            row = self._insert(session, identity.id, exemplar)
            return Identity(identity.id, identity.pseudonym), row.id

    def add(self, identity: Identity, exemplar: Exemplar, *, replacing: int | None = None) -> int:
        """Return the key of `exemplar`, which `identity` now has; a second time changes nothing.

        Args:
            identity: Whose it is.
            exemplar: What to keep.
            replacing: Key of an exemplar of the same identity that is dropped for it.

        Raises:
            GalleryError: It could not be written; nothing was.
        """
        known = select(ExemplarRow.id).where(
            ExemplarRow.identity_id == identity.id,
            ExemplarRow.tracklet_uid == exemplar.tracklet_uid,
        )
        with self._transaction() as session:
            key = session.scalars(known).one_or_none()
            if key is not None and key != replacing:
                return key
            if replacing is not None:
                session.execute(delete(ExemplarRow).where(ExemplarRow.id == replacing))
            return self._insert(session, identity.id, exemplar).id

    def exemplars(self) -> Iterator[StoredExemplar]:
        """Yield all exemplars in the order in which they were written.

        Raises:
            GalleryError: The file cannot be read or holds a damaged embedding.
        """
        query = select(
            ExemplarRow.id,
            IdentityRow.id,
            IdentityRow.pseudonym,
            ExemplarRow.quality,
            ExemplarRow.embedding,
        )
        query = query.join(IdentityRow, IdentityRow.id == ExemplarRow.identity_id)
        with self._transaction() as session:
            for row in session.execute(query.order_by(ExemplarRow.id)):
                embedding = unpack_embedding(row[4], where=f"{self._name}, exemplar {row[0]}")
                yield StoredExemplar(row[0], Identity(row[1], row[2]), row[3], embedding)

    def num_identities(self) -> int:
        """Return how many people the gallery holds."""
        with self._transaction() as session:
            return session.scalars(select(func.count()).select_from(IdentityRow)).one()

    def close(self) -> None:
        """Close the file. A second time does nothing."""
        with self._lock:
            self._closed = True
            self._engine.dispose()

    def _insert(self, session: Session, identity_id: int, exemplar: Exemplar) -> ExemplarRow:
        row = ExemplarRow(
            identity_id=identity_id,
            tracklet_uid=exemplar.tracklet_uid,
            stream=exemplar.stream,
            track_id=exemplar.track_id,
            start_s=exemplar.times_s[0],
            end_s=exemplar.times_s[1],
            quality=exemplar.quality,
            num_silhouettes=exemplar.num_silhouettes,
            created_s=self._clock(),
            embedding=pack_embedding(exemplar.embedding),
        )
        session.add(row)
        session.flush()
        return row

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        """Give a session whose work is committed at the end of the block, or undone."""
        with self._lock:
            if self._closed:
                raise ValueError(f"{self._name}: expected an open gallery, this one was closed")
            try:
                with Session(self._engine) as session, session.begin():
                    # Taking the write lock first means that no transaction fails half way
                    # because another process wrote meanwhile.
                    session.connection().exec_driver_sql("BEGIN IMMEDIATE")
                    yield session
            except (DBAPIError, NoResultFound, sqlite3.Error) as error:
                raise _in_words(self._name, error) from error

    def _open(self, model_hash: str) -> None:
        with self._transaction() as session:
            if not inspect(session.connection()).get_table_names():
                Base.metadata.create_all(session.connection())
                session.add(
                    GalleryRow(
                        schema_version=SCHEMA_VERSION,
                        model_hash=model_hash,
                        created_s=self._clock(),
                    )
                )
            self._check(session, model_hash)
        self._set_write_ahead()

    def _check(self, session: Session, model_hash: str) -> None:
        """Refuse what is not a whole gallery of this schema and model."""
        tables = inspect(session.connection()).get_table_names()
        if not set(Base.metadata.tables) <= set(tables):
            raise GalleryError(
                f"{self._name}: expected a gallery, got an SQLite file of something else; "
                f"give another path"
            )
        if (verdict := session.scalars(text("PRAGMA quick_check(1)")).one()) != "ok":
            raise GalleryError(f"{self._name}: {_ADVICE[sqlite3.SQLITE_CORRUPT]} ({verdict})")
        # Read alone first: a newer schema may have other columns.
        version = session.scalars(select(GalleryRow.schema_version)).one()
        if version > SCHEMA_VERSION:
            raise GalleryError(
                f"{self._name}: expected a gallery of version {SCHEMA_VERSION} or older, got "
                f"version {version}; update trackletgait or give another path"
            )
        made_by = session.scalars(select(GalleryRow.model_hash)).one()
        if made_by != model_hash:
            raise GalleryError(
                f"{self._name}: made with model {made_by[:12]}, this run uses {model_hash[:12]}, "
                f"and distances between the two mean nothing; give the weights the gallery was "
                f"made with, or another path"
            )

    def _set_write_ahead(self) -> None:
        """Let readers read while a transaction is written. Only of a file known to be ours."""
        connection = self._engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA journal_mode=WAL")
        except sqlite3.Error as error:
            raise _in_words(self._name, error) from error
        finally:
            connection.close()


def _connect(target: str) -> sqlite3.Connection:
    # isolation_level=None: transactions begin where we say so, not where sqlite3 guesses.
    connection = sqlite3.connect(
        target, isolation_level=None, check_same_thread=False, timeout=_LOCK_TIMEOUT_S
    )
    connection.execute("PRAGMA foreign_keys=ON")
    # In WAL mode the default would let a power cut undo transactions that were acknowledged.
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def _in_words(name: str, error: Exception) -> GalleryError:
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    advice = _ADVICE.get(code, "it cannot be used")
    return GalleryError(f"{name}: {advice} ({cause})")
