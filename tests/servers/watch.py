"""What the chaos rows look at: what cameras did, and what the process holds."""

from __future__ import annotations

import ctypes
import gc
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import psutil

from pipeline.sources.camera_state import CameraState, Change
from pipeline.sources.cameras import Cameras
from pipeline.values import Frame

_MOST_MS = 60_000
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        fault: What was done.
        must_show: What it had to show.
        shown: What it showed, with figures.
        is_ok: Whether that is enough; None where it was too short to tell.
    """

    fault: str
    must_show: str
    shown: str
    is_ok: bool | None


class Diary:
    """Remembers every change of state and when it was."""

    def __init__(self) -> None:
        self.entries: list[tuple[float, Change]] = []

    def changed(self, change: Change) -> None:
        """Note a change."""
        self.entries.append((time.monotonic(), change))

    def first_s(self, state: CameraState, since_s: float = 0.0, camera: str | None = None) -> float:
        """Return when a state was first entered since then; infinite if it was not."""
        return next(
            (
                at_s
                for at_s, change in list(self.entries)
                if at_s >= since_s and change.state is state and camera in (None, change.camera)
            ),
            float("inf"),
        )

    def has_entered(self, state: CameraState, since_s: float) -> Callable[[], bool]:
        """Return a question: has a state been entered since then?"""
        return lambda: math.isfinite(self.first_s(state, since_s))

    def has_failed(self, num_times: int) -> Callable[[], bool]:
        """Return a question: has it been tried anew more often than that?"""
        return lambda: self.count(CameraState.CONNECTING) > num_times

    def has_reason(self, *states: CameraState) -> Callable[[], bool]:
        """Return a question: was a reason given for one of the states?"""
        return lambda: bool(self.reason(*states))

    def count(self, state: CameraState) -> int:
        """Return how often a state was entered."""
        return sum(change.state is state for _, change in list(self.entries))

    def reason(self, *states: CameraState) -> str:
        """Return the first reason given for one of the states; empty without."""
        found = (c.reason for _, c in list(self.entries) if c.state in states and c.reason)
        return next(found, "")


@dataclass(frozen=True)
class Holdings:
    """What this process holds.

    Attributes:
        rss_mib: Resident memory.
        held_mib: The same after garbage was collected and malloc gave its free pages back: what is
            free comes and goes with the moment, what is held does not.
        threads: Threads, those of libraries too.
        files: Open file descriptors.
    """

    rss_mib: float
    held_mib: float
    threads: int
    files: int

    @classmethod
    def now(cls) -> Holdings:
        """Look, then collect garbage, give back what is free, and look again."""
        process = psutil.Process()
        rss_mib = process.memory_info().rss / 2**20
        gc.collect()
        if hasattr(_LIBC, "malloc_trim"):  # of glibc alone
            _LIBC.malloc_trim(0)
        held_mib = process.memory_info().rss / 2**20
        return cls(rss_mib, held_mib, process.num_threads(), process.num_fds())

    def is_flat_since(self, before: Holdings) -> bool:
        """Return whether nothing grew by more than one in a hundred."""
        return (
            self.held_mib <= 1.01 * before.held_mib
            and self.threads <= before.threads
            and self.files <= before.files
        )

    def since(self, before: Holdings) -> str:
        """Return both in words."""
        return (
            f"RSS {before.rss_mib:.1f} to {self.rss_mib:.1f} MiB, of which {before.held_mib:.1f} "
            f"to {self.held_mib:.1f} held, threads {before.threads} to {self.threads}, files "
            f"{before.files} to {self.files}"
        )


class Consumer:
    """Takes batches as fast as they come, or slower, and notes what came."""

    def __init__(self, cameras: Cameras, seconds_per_batch: float = 0.0) -> None:
        self._cameras = cameras
        self._pause_s = seconds_per_batch
        self.last: dict[str, int] = {}
        self._missing: Counter[str] = Counter()
        # A bin for each millisecond, so that an hour's soak does not grow by its own notes.
        self._ages_ms = np.zeros(_MOST_MS, np.int64)
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._consume, daemon=True)

    def missing(self, name: str) -> int:
        """Return how many frames of a camera were skipped between its first and its last."""
        return self._missing[name]

    @property
    def num_frames(self) -> int:
        """How many frames came, of all cameras."""
        return int(self._ages_ms.sum())

    def age_s(self, percentile: float) -> float:
        """Return a percentile of the frames' ages when they were handed over."""
        up_to = np.cumsum(self._ages_ms)
        return float(np.searchsorted(up_to, up_to[-1] * percentile / 100)) / 1000

    def _consume(self) -> None:
        try:
            for batch in self._cameras.batches():
                now_s = time.time()
                for frame in batch.frames:
                    self._note(frame, now_s)
                time.sleep(self._pause_s)
        except Exception as error:  # told to whoever asks for the row
            self.error = error

    def _note(self, frame: Frame, now_s: float) -> None:
        last = self.last.get(frame.stream, frame.index - 1)
        self._missing[frame.stream] += frame.index - last - 1
        self.last[frame.stream] = frame.index
        age_ms = round(1000 * (now_s - (frame.captured_s or 0.0)))
        self._ages_ms[min(max(age_ms, 0), _MOST_MS - 1)] += 1


@contextmanager
def consumed(cameras: Cameras, seconds_per_batch: float = 0.0) -> Iterator[Consumer]:
    """Consume while the block runs, then close the cameras."""
    consumer = Consumer(cameras, seconds_per_batch)
    consumer.thread.start()
    try:
        yield consumer
    finally:
        cameras.close()
        consumer.thread.join(10)


def wait_for(what: Callable[[], bool], seconds: float) -> bool:
    """Wait until something holds; return whether it came to hold in time."""
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        if what():
            return True
        time.sleep(0.02)
    return what()


def all_live(cameras: Cameras, names: Sequence[str]) -> Callable[[], bool]:
    """Return a question: are they all live?"""

    def is_live() -> bool:
        there = cameras.by_name
        return all(n in there and there[n].state is CameraState.LIVE for n in names)

    return is_live
