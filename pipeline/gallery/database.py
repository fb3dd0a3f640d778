"""The database under a gallery: a SQLite file, memory, or a PostgreSQL server."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoResultFound, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool, StaticPool

from gait.closing import Closing
from gait.yaml_config import expand_variables
from pipeline.errors import ConfigError, GalleryError

_LOCK_TIMEOUT_S = 10.0
_VARIABLE = re.compile(r"\$\{\w+\}")
_MOST_READERS = 8

_FULL = "no room is left: free some and run again; what was stored before is safe"
_READONLY = "it may not be written: change its permissions or give another path"
_BUSY = "another process is writing to it: wait for that one to end"
DAMAGED = "it is damaged: restore it from a backup or give another path"
# What drivers raise; Python's own errors are of bytes that are no text and of too large numbers.
_FAILURES = (SQLAlchemyError, sqlite3.Error, UnicodeError, OverflowError)
# What to do about each of SQLite's primary result codes.
_SQLITE_ADVICE = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: "reading or writing failed: look at the disk's room and health; "
    "what was stored before is safe",
    sqlite3.SQLITE_READONLY: _READONLY,
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: the folder must exist, and the file and the "
    "folder must be writable",
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_NOTADB: "it is not an SQLite file: give another path",
    sqlite3.SQLITE_CORRUPT: DAMAGED,
}
# The same for the beginnings of PostgreSQL's codes; "" is no answer at all.
_POSTGRES_ADVICE = {
    "": "the server cannot be reached: see that it runs, and at this address",
    "08": "the connection broke: see that the server runs",
    "28": "the server refuses this user or password",
    "3D": "there is no such database: create it with `createdb`",
    "42501": "this user may not do that: grant it the right to create and write tables",
    "53": _FULL,
    "55P03": _BUSY,
    "57": "the server is stopping or starting: wait for it",
}


def is_url(where: str | Path) -> bool:
    """Return whether a gallery is given by an address instead of a path."""
    return "://" in str(where)


def has_literal_password(where: str | Path) -> bool:
    """Return whether an address holds a password itself, instead of `${NAME}` of a variable.

    Raises:
        GalleryError: It is an address that cannot be read.
    """
    if not is_url(where):
        return False
    url = _parsed(str(where))
    return "password" in url.query or bool(url.password and not _VARIABLE.fullmatch(url.password))


class Database(Closing):
    """Transactions on a database that one process writes at a time.

    Any thread may use it. A block of `writing` is on the disk when it ends, or undone; others
    wait for it. Blocks of `reading` see one moment each, and wait for nobody (in memory, where
    there is one connection, they wait too).

    Attributes:
        name: The database in errors and logs; never with a password.
        is_server: Whether it is a PostgreSQL server.

    Args:
        where: The file, made if missing; the address of a PostgreSQL server as
            `postgresql+psycopg://user:${PASSWORD}@host/database`, whose `${NAME}` are filled from
            the environment; None keeps everything in memory.
        password: The server's, instead of one in the address.

    Raises:
        GalleryError: The address cannot be used.
    """

    def __init__(self, where: Path | str | None, *, password: str | None = None) -> None:
        url = _url(where)
        if password is not None:
            url = url.set(password=password)
        self.is_server = url.get_backend_name() == "postgresql"
        self.name = _name(where, url)
        self._lock = threading.RLock()
        self._closed = False
        self._in_memory = where is None
        self._engine = _server(url) if self.is_server else _file(url)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Give a session whose work is committed at the end of the block, or undone.

        Raises:
            GalleryError: The database cannot be written; nothing was.
        """
        # Taking the write lock first means that no transaction fails half way because another
        # process wrote meanwhile. On a server the gallery's row is locked by its first statement.
        with self._lock, self._session("" if self.is_server else "BEGIN IMMEDIATE") as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Give a session that reads the database as it is at one moment.

        Raises:
            GalleryError: The database cannot be read.
        """
        begin = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ" if self.is_server else "BEGIN"
        with self._lock if self._in_memory else contextlib.nullcontext(), self._session(begin) as s:
            yield s

    @contextmanager
    def opening(self) -> Iterator[Session]:
        """Give a session as `writing` does, while no other process opens the same gallery."""
        with self.writing() as session:
            if self.is_server:
                session.execute(text("SELECT pg_advisory_xact_lock(hashtext('trackletgait'))"))
            yield session

    def check(self, session: Session) -> None:
        """Refuse a damaged file; a server looks after its own.

        Raises:
            GalleryError: It is damaged.
        """
        if self.is_server:
            return
        if (verdict := session.scalars(text("PRAGMA quick_check(1)")).one()) != "ok":
            raise GalleryError(f"{self.name}: {DAMAGED} ({verdict})")

    def tables(self, session: Session) -> set[str]:
        """Return the names of the tables."""
        return set(inspect(session.connection()).get_table_names())

    def write_ahead(self) -> None:
        """Let readers read a file while it is written. Only of a file known to be ours."""
        if not self.is_server:
            self._run("PRAGMA journal_mode=WAL")

    def scrub(self) -> None:
        """Rewrite the database without the bytes of what was removed.

        Raises:
            GalleryError: Somebody is using it, or there is no room for that.
        """
        if self.is_server:
            self._run("VACUUM FULL exemplar, identity, removal")
            return
        self._run("VACUUM")
        if not self._in_memory and self._run("PRAGMA wal_checkpoint(TRUNCATE)")[0] != 0:
            raise GalleryError(f"{self.name}: {_BUSY}")

    def close(self) -> None:
        """Close all connections. A second time does nothing."""
        with self._lock:
            self._closed = True
            self._engine.dispose()

    @contextmanager
    def _session(self, begin: str) -> Iterator[Session]:
        if self._closed:
            raise ValueError(f"{self.name}: expected an open gallery, this one was closed")
        try:
            with Session(self._engine) as session, session.begin():
                if begin:
                    session.connection().exec_driver_sql(begin)
                yield session
        except _FAILURES as error:
            raise self._in_words(error) from error

    def _run(self, statement: str) -> tuple[int, ...]:
        """Run what may not be within a transaction; return the first row, if there is any."""
        try:
            with self._lock, self._autocommitting() as connection:
                result = connection.exec_driver_sql(statement)
                return tuple(result.one()) if result.returns_rows else ()
        except _FAILURES as error:
            raise self._in_words(error) from error

    def _autocommitting(self) -> Connection:
        # SQLite's connections are that anyway: transactions begin where we say so.
        level = "AUTOCOMMIT" if self.is_server else None
        connection = self._engine.connect()
        return connection.execution_options(isolation_level=level) if level else connection

    def _in_words(self, error: Exception) -> GalleryError:
        if isinstance(error, NoResultFound):
            return GalleryError(f"{self.name}: it cannot be used ({error})")
        cause = error.orig if isinstance(error, DBAPIError) else error
        cause = cause or error
        advice = _advice_of_server(cause) if self.is_server else _advice_of_file(cause)
        said = " ".join(str(cause).split())
        return GalleryError(f"{self.name}: {advice} ({said})")


def _advice_of_file(cause: BaseException) -> str:
    if isinstance(cause, UnicodeDecodeError):
        return DAMAGED
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    return _SQLITE_ADVICE.get(code, "it cannot be used")


def _advice_of_server(cause: BaseException) -> str:
    code = getattr(cause, "sqlstate", None) or ""
    if not code and "FATAL" in str(cause):  # an answer, to whoever has no connection yet
        return "the server refuses: see that user, password and database are right"
    for length in (5, 2):
        if code[:length] in _POSTGRES_ADVICE:
            return _POSTGRES_ADVICE[code[:length]]
    return "it cannot be used"


def _url(where: Path | str | None) -> URL:
    """Return the address to connect to, with the environment's values put in literally."""
    if where is None or not is_url(where):
        return URL.create("sqlite", database=":memory:" if where is None else str(where))
    url = _parsed(str(where))
    try:
        filled = {
            part: expand_variables(getattr(url, part), "gallery.path")
            for part in ("username", "password", "host", "database")
            if getattr(url, part) is not None
        }
    except ConfigError as error:
        raise GalleryError(str(error)) from None
    return url.set(drivername="postgresql+psycopg", **filled)


def _parsed(where: str) -> URL:
    try:
        url = make_url(where)
    except (ArgumentError, ValueError):
        raise GalleryError(
            "gallery.path: expected a file or postgresql+psycopg://user@host/database, got an "
            "address that cannot be read"
        ) from None
    if url.drivername not in {"postgresql+psycopg", "postgresql"}:
        raise GalleryError(
            f"gallery.path: expected a file or postgresql+psycopg://..., got {url.drivername}://..."
        )
    return url


def _name(where: Path | str | None, url: URL) -> str:
    if where is None:
        return "gallery in memory"
    if not is_url(where):
        return str(where)
    # Not what was given: a password may stand at several places of an address.
    shown = url.set(password=None, query={}).render_as_string()
    return re.sub(r"^postgresql\+psycopg", "postgresql", shown)


def _file(url: URL) -> Engine:
    target = url.database or ":memory:"
    if Path(target).is_dir():
        raise GalleryError(
            f"{target}: expected a gallery's file, got a folder; name a file in it, such as "
            f"{Path(target) / 'people.gallery'}"
        )
    if target == ":memory:":
        return create_engine("sqlite://", creator=lambda: _connect(target), poolclass=StaticPool)
    # Whoever makes a file decides who may read it, and its journal: here only the owner.
    with contextlib.suppress(OSError):  # SQLite says in words what is wrong
        os.close(os.open(target, os.O_RDWR | os.O_CREAT, 0o600))
    return create_engine(
        "sqlite://",
        creator=lambda: _connect(target),
        poolclass=QueuePool,
        pool_size=_MOST_READERS,
        max_overflow=-1,
    )


def _server(url: URL) -> Engine:
    options = f"-c lock_timeout={int(_LOCK_TIMEOUT_S * 1000)}"
    try:
        return create_engine(
            url,
            pool_pre_ping=True,  # a server may have been restarted since
            pool_size=_MOST_READERS,
            connect_args={"connect_timeout": int(_LOCK_TIMEOUT_S), "options": options},
        )
    except ImportError as error:
        raise GalleryError(
            "gallery.path: PostgreSQL needs psycopg: pip install 'trackletgait[postgres]'"
        ) from error


def _connect(target: str) -> sqlite3.Connection:
    # isolation_level=None: transactions begin where we say so, not where sqlite3 guesses.
    connection = sqlite3.connect(
        target, isolation_level=None, check_same_thread=False, timeout=_LOCK_TIMEOUT_S
    )
    connection.execute("PRAGMA foreign_keys=ON")
    # In WAL mode the default would let a power cut undo transactions that were acknowledged.
    connection.execute("PRAGMA synchronous=FULL")
    # What is removed or replaced is overwritten with zeros in the file.
    connection.execute("PRAGMA secure_delete=ON")
    return connection
