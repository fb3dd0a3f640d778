"""What waits on a sender's disk until the receiver has acknowledged it, and a receiver's marks."""

from __future__ import annotations

import sqlite3
import struct
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from gait.closing import Closing
from pipeline.errors import LinkError

_LOCK_TIMEOUT_S = 1.0
_SPOOL_TABLES = """
    CREATE TABLE IF NOT EXISTS about (
        id TEXT NOT NULL, next_track_id INTEGER NOT NULL, num_dropped INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS waiting (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, size INTEGER NOT NULL, frames BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS wills (
        stream TEXT NOT NULL, track_id INTEGER NOT NULL, frames BLOB NOT NULL,
        PRIMARY KEY (stream, track_id)) WITHOUT ROWID;
"""
_MARK_TABLES = """
    CREATE TABLE IF NOT EXISTS marks (
        sender TEXT NOT NULL, spool TEXT NOT NULL, seq INTEGER NOT NULL, at_unix_s REAL NOT NULL,
        PRIMARY KEY (sender, spool)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS kept (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        stream TEXT NOT NULL, track_id INTEGER NOT NULL, frames BLOB NOT NULL);
    CREATE INDEX IF NOT EXISTS kept_tracks ON kept (stream, track_id, number);
"""
_MOST_KEPT = 20  # messages of one track: somebody may stand in view for a day
_TRIM = f"""
    DELETE FROM kept WHERE (stream, track_id) = (?, ?) AND number <= (
        SELECT number FROM kept WHERE (stream, track_id) = (?, ?)
        ORDER BY number DESC LIMIT 1 OFFSET {_MOST_KEPT})
"""
_REMEMBERED_S = 400 * 86400.0  # a spool that was silent for longer is taken for lost
_MOST_JOURNAL_BYTES = 16_000_000

Track = tuple[str, int]
"""A stream and the id of a track in it."""


class Spool(Closing):
    """Messages on disk, oldest first, of bounded size.

        with Spool(Path("link.spool")) as spool:
            spool.put([frames])
            [(seq, frames)] = spool.after(0, 1)
            spool.remove(seq)

    When `put` returns, the messages are on the disk and survive `kill -9` and a power cut. Each
    has a number that is higher than any before it, also in earlier runs, so spool and number
    together name a message uniquely. Never copy a spool to another machine: its `id` would no
    longer be unique. Any thread may use it; two processes may not.

    It also holds a will for every track that has not ended: the message that says so. Those of a
    process that was killed wait to be sent as soon as the next one opens the spool.

    Args:
        path: The SQLite file, made if missing.
        max_bytes: Most bytes of messages; beyond it the oldest go first and are counted. Higher
            outlasts longer cuts of the network (12 KB a tracklet of 30 silhouettes: 1 GB
            holds 80,000), at the price of disk. The file may be a third larger.
        clock: Unix time in seconds.

    Raises:
        LinkError: Another process has it open, or the file is no spool, damaged or cannot be
            written.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = 1_000_000_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if max_bytes < 1:
            raise ValueError(f"expected max_bytes of 1 or more, got {max_bytes}")
        self._max_bytes = max_bytes
        self._database = _Database(path, _SPOOL_TABLES)
        try:
            self._open(clock)
        except BaseException:
            self.close()
            raise

    def _open(self, clock: Callable[[], float]) -> None:
        with self._database.transaction() as sql:
            if sql.execute("SELECT COUNT(*) FROM about").fetchone() == (0,):
                sql.execute("INSERT INTO about VALUES (?, 0, 0)", (uuid.uuid4().hex,))
            # from a backup that was restored, numbers would be given twice: the clock went on
            last = sql.execute("SELECT seq FROM sqlite_sequence").fetchone() or (0,)
            self._last: int = max(last[0], int(clock() * 1000))
            self._carry_out_wills(sql)
            about = sql.execute("SELECT id, next_track_id, num_dropped FROM about").fetchone()
            self.id: str = about[0]
            self.first_track_id: int = about[1]
            self.num_dropped: int = about[2]
            held = sql.execute("SELECT COUNT(*), COALESCE(SUM(size), 0) FROM waiting").fetchone()
            self._count: int = held[0]
            self._bytes: int = held[1]

    def _carry_out_wills(self, sql: sqlite3.Connection) -> None:
        wills = sql.execute("SELECT frames FROM wills ORDER BY stream, track_id").fetchall()
        for (blob,) in wills:
            self._last += 1
            sql.execute("INSERT INTO waiting VALUES (?, ?, ?)", (self._last, len(blob), blob))
        sql.execute("DELETE FROM wills")

    def __len__(self) -> int:
        """How many messages wait."""
        return self._count

    @property
    def num_bytes(self) -> int:
        """Bytes of all messages that wait."""
        return self._bytes

    @property
    def fill(self) -> float:
        """How full it is, 0..1."""
        return self._bytes / self._max_bytes

    def put(
        self,
        messages: Sequence[Sequence[bytes]],
        *,
        next_track_id: int = 0,
        wills: Mapping[Track, Sequence[bytes] | None] | None = None,
    ) -> int:
        """Add messages and return how many old ones were dropped to make room.

        Args:
            messages: The frames of each.
            next_track_id: Lowest track id that these messages leave free; the next process to
                open the spool finds the highest of them in `first_track_id`.
            wills: The message that ends each track, in the place of its former one; None for a
                track that has ended.

        Raises:
            LinkError: They cannot be written; none was.
        """
        blobs = [_join(frames) for frames in messages]
        skipped = self._too_many(blobs)
        blobs = blobs[skipped:]
        added = sum(map(len, blobs))
        with self._database.transaction() as sql:
            excess = self._bytes if skipped else self._bytes + added - self._max_bytes
            dropped, freed = self._oldest(sql, excess)
            num_dropped = skipped + len(dropped)
            sql.execute("DELETE FROM waiting WHERE seq <= ?", (dropped[-1] if dropped else 0,))
            rows = [(self._last + n, len(blob), blob) for n, blob in enumerate(blobs, start=1)]
            sql.executemany("INSERT INTO waiting VALUES (?, ?, ?)", rows)
            sql.execute(
                "UPDATE about SET next_track_id = MAX(next_track_id, ?), num_dropped = ?",
                (next_track_id, self.num_dropped + num_dropped),
            )
            self._keep_wills(sql, wills or {})
            sql.commit()
            self._last += len(rows)
            self._bytes += added - freed
            self._count += len(rows) - len(dropped)
            self.num_dropped += num_dropped
        return num_dropped

    def after(self, seq: int, limit: int) -> list[tuple[int, list[bytes]]]:
        """Return the oldest messages with a number above `seq`, at most `limit`.

        Raises:
            LinkError: The disk cannot be read.
        """
        with self._database.transaction() as sql:
            rows = sql.execute(
                "SELECT seq, frames FROM waiting WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit)
            ).fetchall()
        return [(number, _split(blob)) for number, blob in rows]

    def remove(self, seq: int) -> int:
        """Forget all messages up to the number `seq`, and return how many those were.

        Raises:
            LinkError: The disk cannot be written.
        """
        with self._database.transaction() as sql:
            count, size = sql.execute(
                "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM waiting WHERE seq <= ?", (seq,)
            ).fetchone()
            sql.execute("DELETE FROM waiting WHERE seq <= ?", (seq,))
            sql.commit()
            self._count -= count
            self._bytes -= size
        return int(count)

    def close(self) -> None:
        """Close the file; what waits stays in it."""
        self._database.close()

    def _keep_wills(
        self, sql: sqlite3.Connection, wills: Mapping[Track, Sequence[bytes] | None]
    ) -> None:
        for track, frames in wills.items():
            if frames is None:
                sql.execute("DELETE FROM wills WHERE (stream, track_id) = (?, ?)", track)
            else:
                row = *track, _join(frames)
                sql.execute("INSERT OR REPLACE INTO wills VALUES (?, ?, ?)", row)

    def _too_many(self, blobs: Sequence[bytes]) -> int:
        """Return how many of the first do not fit, though nothing else were in the spool."""
        room = self._max_bytes
        for count, blob in enumerate(reversed(blobs)):
            room -= len(blob)
            if room < 0:
                return len(blobs) - count
        return 0

    def _oldest(self, sql: sqlite3.Connection, size: int) -> tuple[list[int], int]:
        """Return the numbers of the oldest messages that have `size` bytes, and how many bytes."""
        seqs, freed = [], 0
        if size > 0:
            for seq, row_size in sql.execute("SELECT seq, size FROM waiting ORDER BY seq"):
                seqs.append(seq)
                freed += row_size
                if freed >= size:
                    break
        return seqs, freed


class Marks(Closing):
    """How far a receiver is with each sender's spool, on disk, and what it keeps of open tracks.

    Args:
        path: The SQLite file, made if missing; one process at a time.
        clock: Unix time in seconds.

    Raises:
        LinkError: Another process has it open, or the file is no such file, damaged or cannot be
            written.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._database = _Database(path, _MARK_TABLES)
        with self._database.transaction() as sql:
            sql.execute("DELETE FROM marks WHERE at_unix_s < ?", (clock() - _REMEMBERED_S,))

    def read(self, sender: str, spool: str) -> int:
        """Return the number up to which all is done; 0 when nothing is."""
        with self._database.transaction() as sql:
            row = sql.execute(
                "SELECT seq FROM marks WHERE sender = ? AND spool = ?", (sender, spool)
            ).fetchone()
        return int(row[0]) if row else 0

    def write(
        self,
        marks: Sequence[tuple[str, str, int]],
        kept: Sequence[tuple[Track, Sequence[bytes]]] = (),
    ) -> None:
        """Keep (sender, spool, number) for each, and messages; on the disk when it returns.

        Args:
            marks: How far we are.
            kept: Messages by the track they are of; of each track the newest 20 stay.

        Raises:
            LinkError: They cannot be written; nothing was.
        """
        now_s = self._clock()
        with self._database.transaction() as sql:
            sql.executemany(
                "INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?)",
                [(*mark, now_s) for mark in marks],
            )
            sql.executemany(
                "INSERT INTO kept (stream, track_id, frames) VALUES (?, ?, ?)",
                [(*track, _join(frames)) for track, frames in kept],
            )
            sql.executemany(_TRIM, [(*track, *track) for track in {track for track, _ in kept}])

    def kept(self, after: int, limit: int) -> list[tuple[int, list[bytes]]]:
        """Return the oldest messages kept with a number above `after`, at most `limit`.

        Raises:
            LinkError: The disk cannot be read.
        """
        query = "SELECT number, frames FROM kept WHERE number > ? ORDER BY number LIMIT ?"
        with self._database.transaction() as sql:
            rows = sql.execute(query, (after, limit)).fetchall()
        return [(number, _split(blob)) for number, blob in rows]

    def release(self, tracks: Collection[Track]) -> None:
        """Forget what is kept of tracks.

        Raises:
            LinkError: The disk cannot be written.
        """
        with self._database.transaction() as sql:
            sql.executemany("DELETE FROM kept WHERE (stream, track_id) = (?, ?)", list(tracks))

    def drop(self, numbers: Collection[int]) -> None:
        """Forget messages that are kept, by their numbers.

        Raises:
            LinkError: The disk cannot be written.
        """
        with self._database.transaction() as sql:
            sql.executemany("DELETE FROM kept WHERE number = ?", [(each,) for each in numbers])

    def close(self) -> None:
        """Close the file."""
        self._database.close()


class _Database:
    """One SQLite file for one process and any of its threads."""

    def __init__(self, path: Path, tables: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LinkError(f"{path.parent}: cannot be made: {error.strerror}") from error
        with self._in_words():
            self._sql: sqlite3.Connection | None = sqlite3.connect(
                path, timeout=_LOCK_TIMEOUT_S, check_same_thread=False
            )
        try:
            with self._in_words():
                self._sql.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._sql.execute("PRAGMA journal_mode = WAL")
                # FULL, not NORMAL: a power cut must not take back what was sent and acknowledged
                self._sql.execute("PRAGMA synchronous = FULL")
                self._sql.execute(f"PRAGMA journal_size_limit = {_MOST_JOURNAL_BYTES}")
                self._sql.executescript(f"BEGIN IMMEDIATE; {tables} COMMIT;")
        except BaseException:
            self.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection; all that is done is written, or nothing when it raises."""
        with self._lock, self._in_words():
            if self._sql is None:
                raise LinkError(f"{self._path}: expected an open file, this one was closed")
            with self._sql:
                yield self._sql

    def close(self) -> None:
        with self._lock:
            if self._sql is not None:
                self._sql.close()
                self._sql = None

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise LinkError(f"{self._path}: {_advice(error)} ({error})") from error


def _advice(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return {
        sqlite3.SQLITE_BUSY: "another process has it open: end that one or give another path",
        sqlite3.SQLITE_FULL: "the disk is full: free some room",
        sqlite3.SQLITE_IOERR: "reading or writing failed: look at the disk's room and health",
        sqlite3.SQLITE_READONLY: "it may not be written: change its permissions",
        sqlite3.SQLITE_CANTOPEN: "it cannot be opened: look at the folder's permissions",
        sqlite3.SQLITE_NOTADB: "it is not an SQLite file: give another path",
        sqlite3.SQLITE_CORRUPT: "it is damaged: move it away and start again",
    }.get(code, "it cannot be used: give another path")


def _join(frames: Sequence[bytes]) -> bytes:
    lengths = struct.pack(f"<I{len(frames)}I", len(frames), *map(len, frames))
    return lengths + b"".join(frames)


def _split(blob: bytes) -> list[bytes]:
    (count,) = struct.unpack_from("<I", blob)
    lengths = struct.unpack_from(f"<{count}I", blob, 4)
    frames, start = [], 4 + 4 * count
    for length in lengths:
        frames.append(blob[start : start + length])
        start += length
    return frames
