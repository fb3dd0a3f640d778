"""Recorded files to batches of frames, a few files at a time."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.config import RuntimeConfig
from pipeline.errors import SourceError
from pipeline.sources.inputs import open_source
from pipeline.sources.source import ReadConfig, Source
from pipeline.values import Batch, Frame

logger = logging.getLogger(__name__)

_BATCH_BYTES = 64 * 2**20  # big pictures make smaller batches, so that memory stays bounded


class ReadingObserver(Protocol):
    """Who is told what becomes of each file."""

    def opened(self, source: Source) -> None:
        """The file could be opened."""
        ...

    def ended(self, name: str, problem: str | None) -> None:
        """The file is over, or could not be read (then it may not have been opened)."""
        ...


@dataclass(slots=True)
class _OpenFile:
    source: Source
    frames: Iterator[Frame]


class Reader:
    """Reads many files in turn, a frame of each at a time, as batches.

    Args:
        files: Path and stream name of each file.
        read: Which frames are read.
        runtime: How many files are open at once, and how many frames make a batch.
        observer: Told when a file opens and ends; a file that cannot be read does not stop the
            others.
    """

    def __init__(
        self,
        files: Sequence[tuple[Path, str]],
        read: ReadConfig,
        runtime: RuntimeConfig,
        observer: ReadingObserver,
    ) -> None:
        self._waiting = deque(files)
        self._read = read
        self._runtime = runtime
        self._observer = observer
        self._open: deque[_OpenFile] = deque()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End every file after the frames already read. May be called from any thread."""
        self._stopped.set()

    def batches(self) -> Iterator[Batch]:
        """Yield batches until every file is over; close the generator to close the files."""
        frames: list[Frame] = []
        ended: list[str] = []
        try:
            while self._fill():
                file = self._open.popleft()
                frame = None if self._stopped.is_set() else self._next(file)
                if frame is None:
                    ended.append(file.source.name)
                else:
                    self._open.append(file)
                    frames.append(frame)
                if ended or self._is_full(frames):
                    yield Batch(tuple(frames), tuple(ended))
                    frames, ended = [], []
        finally:
            for file in self._open:
                file.source.close()

    def _fill(self) -> bool:
        """Open files until enough are open; say whether any is."""
        while (
            self._waiting
            and len(self._open) < self._runtime.streams_at_once
            and not self._stopped.is_set()
        ):
            path, name = self._waiting.popleft()
            try:
                source = open_source(path, name, self._read)
            except SourceError as error:
                self._observer.ended(name, str(error))
                continue
            self._observer.opened(source)
            self._open.append(_OpenFile(source, iter(source)))
        return bool(self._open)

    def _next(self, file: _OpenFile) -> Frame | None:
        """Return the file's next frame; at its end close it and return None."""
        problem: str | None = None
        try:
            frame = next(file.frames, None)
            if frame is not None:
                return frame
            problem = file.source.problem
        except SourceError as error:
            problem = str(error)
        file.source.close()
        self._observer.ended(file.source.name, problem)
        return None

    def _is_full(self, frames: Sequence[Frame]) -> bool:
        return (
            len(frames) >= self._runtime.batch_frames
            or sum(frame.image.nbytes for frame in frames) >= _BATCH_BYTES
        )
