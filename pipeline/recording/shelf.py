"""The folder of clips: their names, their bounds, and what a killed process left behind.

<folder>/<camera>/20261123T081803.123Z.mp4     a clip, named by when it begins (UTC)
<folder>/<camera>/20261123T081803.123Z.json    what is on it
<folder>/<camera>/20261123T081803.123Z.mp4.part    while it is written
"""

from __future__ import annotations

import fcntl
import io
import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import av
from av.error import FFmpegError

from gait.closing import Closing
from pipeline.errors import OutputError
from pipeline.sinks.folder import PART, folder_name

logger = logging.getLogger(__name__)

LOCK = ".recording"
"""Says that a folder is of clips, and whose it is just now."""

_CLIP = re.compile(r"(\d{8}T\d{6}\.\d{3})Z(-\d+)?\.mp4")
_STAMP = "%Y%m%dT%H%M%S.%f"
_DAY_S = 86400
_MODE = 0o750  # video of people is not everybody's


@dataclass(frozen=True, slots=True)
class _Kept:
    path: Path
    num_bytes: int
    ended_unix_s: float


class Shelf(Closing):
    """Owns a folder of clips; nothing but clips is ever removed from it.

    Opening it brings to light what a killed process was writing: what plays keeps its name, its
    record says `"complete": false`; what does not is removed.

    Args:
        folder: Made if missing.
        keep_bytes: What clips may take.
        keep_days: How old they may become; None as old as there is room.
        clock: Seconds since 1970.

    Raises:
        OutputError: The folder cannot be made, or is another process's.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep_bytes: float,
        keep_days: float | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self._keep_bytes = keep_bytes
        self._keep_days = keep_days
        self._clock = clock
        self._lock = self._locked()
        for part in folder.glob(f"*/*.mp4{PART}"):
            if _CLIP.fullmatch(part.name.removesuffix(PART)):
                self.settle(part)
        for stray in folder.glob(f"*/.*.json.*{PART}"):
            stray.unlink(missing_ok=True)
        self.tidy()

    def new_path(self, camera: str, start_unix_s: float) -> Path:
        """Return where a clip that begins now will be; its folder is made.

        Raises:
            OSError: It cannot be made.
        """
        folder = self.folder / folder_name(camera)
        folder.mkdir(_MODE, parents=True, exist_ok=True)
        stamp = datetime.fromtimestamp(start_unix_s, UTC).strftime(_STAMP)[:-3]
        names = (f"{stamp}Z{'' if n == 1 else f'-{n}'}.mp4" for n in count(1))
        paths = (folder / name for name in names)
        return next(p for p in paths if not p.exists() and not part_of(p).exists())

    def settle(self, part: Path) -> None:
        """Give a clip that was cut off its name if it plays, else remove it."""
        path = part.with_name(part.name.removesuffix(PART))
        try:
            cut_torn_end(part)
            if plays(part):
                part.replace(path)
                logger.warning("recording: %s was cut off; what there is of it plays", path)
                return
            for unusable in (part, record_of(path)):
                unusable.unlink(missing_ok=True)
            logger.debug("recording: %s was cut off before its first seconds: removed", path)
        except OSError as error:
            logger.warning("recording: %s was cut off and stays as it is: %s", part, error)

    def tidy(self) -> None:
        """Remove clips that are too old, and the oldest of what does not fit; says so."""
        try:
            kept = sorted(self._clips(), key=lambda each: each.ended_unix_s)
        except OSError as error:
            logger.warning("recording: cannot look through %s: %s", self.folder, error)
            return
        oldest_s = (
            -math.inf if self._keep_days is None else self._clock() - self._keep_days * _DAY_S
        )
        excess = sum(each.num_bytes for each in kept) - self._keep_bytes
        removed = []
        for each in kept:
            if each.path.suffix != PART and (excess > 0 or each.ended_unix_s < oldest_s):
                removed.append(each)
                excess -= each.num_bytes
        self._remove(removed)

    def close(self) -> None:
        """Let other processes have the folder."""
        self._lock.close()

    def _locked(self) -> io.FileIO:
        lock: io.FileIO | None = None
        try:
            self.folder.mkdir(_MODE, parents=True, exist_ok=True)
            lock = io.FileIO(os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o640), "r+")
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if lock is not None:
                lock.close()
            is_taken = isinstance(error, BlockingIOError)
            words = "another process records there" if is_taken else error.strerror
            raise OutputError(
                f"recording.folder: {self.folder}: expected a folder for clips: {words}"
            ) from error
        return lock

    def _clips(self) -> Iterator[_Kept]:
        """Yield every clip, also those being written; both files of it together."""
        for path in self.folder.glob("*/*.mp4*"):
            if _CLIP.fullmatch(path.name.removesuffix(PART)):
                whole = path.with_name(path.name.removesuffix(PART))
                num_bytes, ended_unix_s = _size_and_time(path)
                yield _Kept(path, num_bytes + _size_and_time(record_of(whole))[0], ended_unix_s)

    def _remove(self, clips: Sequence[_Kept]) -> None:
        gone = []
        for each in clips:
            try:
                each.path.unlink(missing_ok=True)
                record_of(each.path).unlink(missing_ok=True)
                gone.append(each)
            except OSError as error:
                logger.warning("recording: cannot remove the old %s: %s", each.path, error)
        if gone:
            logger.info(
                "recording: removed the %d oldest clips (%.1f MB), up to %s",
                *(len(gone), sum(each.num_bytes for each in gone) / 1e6, gone[-1].path),
            )


def part_of(path: Path) -> Path:
    """Return where a clip is while it is written."""
    return path.with_name(path.name + PART)


def record_of(path: Path) -> Path:
    """Return the JSON beside a clip."""
    return path.with_suffix(".json")


def cut_torn_end(path: Path) -> None:
    """Remove what follows the last whole fragment of an MP4 that was cut off.

    Raises:
        OSError: It cannot be read or written.
    """
    with path.open("r+b") as file:
        size, at, whole = os.fstat(file.fileno()).st_size, 0, 0
        while len(head := file.read(8)) == 8:
            length = int.from_bytes(head[:4])
            if length < 8 or at + length > size:
                break
            at = file.seek(at + length)
            whole = at if head[4:] == b"mdat" else whole  # a fragment is its moof and its mdat
        file.truncate(whole)


def plays(path: Path) -> bool:
    """Return whether a file holds a picture that can be shown."""
    try:
        with av.open(f"file:{path}", "r") as container:
            return next(container.decode(video=0), None) is not None
    except (FFmpegError, OSError, IndexError, ValueError):
        return False


def _size_and_time(path: Path) -> tuple[int, float]:
    with suppress(OSError):  # it has just been removed
        found = path.stat()
        return found.st_size, found.st_mtime
    return 0, math.inf
