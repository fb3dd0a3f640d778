"""Events as JSON lines in a file that is renamed when it is full, or when the day is over."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from gait.closing import Closing
from pipeline.errors import OutputError
from pipeline.sinks.live import Event

logger = logging.getLogger(__name__)

_LONGEST_LINE = 1 << 20
_DAY_S = 86400


class JsonlSink(Closing):
    """Appends each event as one line; a killed process leaves whole lines only.

    A line that a power cut tore is taken away at the next start. Full files are renamed to
    `<name>.000001.jsonl`, the number rising, and the oldest beyond `keep` are removed.

    Args:
        path: The file; it and its folder are made if missing.
        rotate_bytes: Size from which a new file begins; None never.
        is_daily: Whether one begins with the first event of each day (UTC).
        keep: Full files that stay.
        is_synced: Whether to wait until the disk itself has the events.
        clock: Seconds since 1970.

    Raises:
        OutputError: The file cannot be made, is another process's, or holds something else.
    """

    def __init__(
        self,
        path: Path,
        *,
        rotate_bytes: int | None = None,
        is_daily: bool = False,
        keep: int = 10,
        is_synced: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._is_daily = is_daily
        self._keep = keep
        self._is_synced = is_synced
        self._clock = clock
        self._file: io.FileIO | None = self._open()

    def write(self, events: Sequence[Event]) -> None:
        """Append the events; all of them or none.

        Raises:
            OutputError: There is no room, or the file cannot be written.
        """
        data = b"".join(event.as_bytes() + b"\n" for event in events)
        try:
            if self._file is None:
                self._file = self._open()
            if self._is_full(self._file, len(data)):
                self._file = self._rotate(self._file)
            self._append(self._file, data)
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> io.FileIO:
        file: io.FileIO | None = None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: what was written is the operating system's, and survives a kill.
            file = io.FileIO(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o640), "r+")
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._repair(file)
            self._day = self._day_of(os.fstat(file.fileno()).st_mtime)
        except OSError as error:
            if file is not None:
                file.close()
            words = (
                "another process writes it; choose another folder, or stop that one"
                if isinstance(error, BlockingIOError)
                else error
            )
            raise OutputError(f"{self._path}: cannot be opened for events: {words}") from error
        except OutputError:
            if file is not None:
                file.close()
            raise
        return file

    def _repair(self, file: io.FileIO) -> None:
        """Take away what follows the last newline."""
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return
        start = max(0, size - _LONGEST_LINE)
        file.seek(start)
        tail = file.read(size - start)
        file.seek(0)
        if file.read(1) != b"{" or (start > 0 and b"\n" not in tail):
            raise OutputError(
                f"{self._path}: expected JSON lines, found something else; choose another path"
            )
        whole = start + tail.rfind(b"\n") + 1
        if whole < size:
            logger.warning("%s: a torn last line of %d bytes is removed", self._path, size - whole)
            file.truncate(whole)
        file.seek(whole)

    def _append(self, file: io.FileIO, data: bytes) -> None:
        whole = file.tell()
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[file.write(rest) :]
            if self._is_synced:
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                file.truncate(whole)
            file.seek(whole)
            raise

    def _is_full(self, file: io.FileIO, num_new: int) -> bool:
        if file.tell() == 0:
            self._day = self._day_of(self._clock())
            return False
        if self._rotate_bytes is not None and file.tell() + num_new > self._rotate_bytes:
            return True
        return self._is_daily and self._day_of(self._clock()) != self._day

    def _rotate(self, file: io.FileIO) -> io.FileIO:
        full = self._full_files()
        number = 1 + (_number(full[-1]) if full else 0)
        renamed = self._path.with_name(f"{self._path.stem}.{number:06d}{self._path.suffix}")
        self._path.rename(renamed)
        file.close()
        self._file = None  # should the new one not open, the next write tries again
        for old in [*full, renamed][: -self._keep]:
            old.unlink(missing_ok=True)
        fresh = self._open()
        self._day = self._day_of(self._clock())
        return fresh

    def _full_files(self) -> list[Path]:
        """The files that are full, the oldest first."""
        stem, suffix = re.escape(self._path.stem), re.escape(self._path.suffix)
        pattern = re.compile(rf"{stem}\.\d{{6,}}{suffix}")
        files = [path for path in self._path.parent.iterdir() if pattern.fullmatch(path.name)]
        return sorted(files, key=_number)

    @staticmethod
    def _day_of(unix_s: float) -> int:
        return int(unix_s // _DAY_S)


def _number(path: Path) -> int:
    numbers = re.findall(r"\.(\d{6,})", path.name)
    return int(numbers[-1])
