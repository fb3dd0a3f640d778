"""The queue between perception and identity that never holds perception up.

queue = SupersedingQueue(256)
# perception's thread                  # identity's thread
queue.put(tracklets)                   while not queue.is_over:
queue.close()                              identify(queue.get(timeout_s=1.0))
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gait.tracklet import Box, Tracklet
from pipeline.errors import LinkError

logger = logging.getLogger(__name__)

_OVERHEAD_BYTES = 2_000  # what a tracklet takes besides its arrays, rather too much than too little
_BYTES_PER_COMPANION = 40


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """What became of the tracklets: `put` = `got` + `superseded` + `dropped` + `merged` + waiting.

    Attributes:
        put: Tracklets that came.
        got: Tracklets handed on.
        superseded: Windows dropped for the sake of a newer one of the same track.
        dropped: Tracklets dropped without that.
        merged: Tracklets that became part of the one before them; nothing of them is lost.
        emptied: Last tracklets that lost their silhouettes (they are handed on all the same).
        lost_ends: Last tracklets among `dropped`. Not 0 only when nobody has taken anything for so
            long that the ends of tracks alone filled the memory; those tracks stay open.
    """

    put: int = 0
    got: int = 0
    superseded: int = 0
    dropped: int = 0
    merged: int = 0
    emptied: int = 0
    lost_ends: int = 0


@dataclass(slots=True)
class _Waiting:
    tracklet: Tracklet
    since_s: float
    size: int


class SupersedingQueue:
    """A bounded queue in which new tracklets take the room of old ones.

    It is a `Link` whose `send` never waits. What happens when it is full, in this order, the
    oldest first:

    1. Neighbours that continue each other (`Tracklet.offset`), or of which the newer has no
       silhouettes, become one tracklet: nothing is lost. This makes room for tracklets, not bytes.
    2. A window is dropped when the next one of its track does not need it.
    3. A tracklet is dropped that is not its track's last one. If it was part of a longer walk, the
       walk begins with its next tracklet, and the encoder counts a lost beginning.
    4. A track's last tracklet loses its silhouettes, but comes.

    What a dropped tracklet tells besides silhouettes (reasons, companions) its track's next one
    tells, if that has come. The order within a track is kept.

    Args:
        capacity: Tracklets that may wait; last ones may be more. Higher loses less when many
            people come at once, at the price of sightings that are late.
        batch: Most tracklets that `get` returns. Higher feeds the encoder better, at the price of
            latency.
        max_bytes: Memory for what waits, last ones included. Higher likewise.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        capacity: int = 256,
        *,
        batch: int = 16,
        max_bytes: int = 64_000_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if min(capacity, batch, max_bytes) < 1:
            raise ValueError(
                "expected a capacity, batch and max_bytes of 1 or more, "
                f"got {capacity}, {batch}, {max_bytes}"
            )
        self.capacity = capacity
        self.max_bytes = max_bytes
        self._batch = batch
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._bytes = 0
        self._counts = QueueCounts()
        self._is_closed = False
        self._error: BaseException | None = None

    def put(self, tracklets: Sequence[Tracklet]) -> None:
        """Add tracklets, making room at the cost of older ones; never waits.

        Raises:
            LinkError: The queue was closed.
            BaseException: What the other side failed with.
        """
        with self._changed:
            if self._error is not None:
                raise self._error
            if self._is_closed:
                raise LinkError("expected an open queue, this one was closed")
            for tracklet in tracklets:
                self._append(tracklet)
                while self._is_too_full:
                    self._make_room()
            self._changed.notify_all()

    def get(self, timeout_s: float | None = None) -> list[Tracklet]:
        """Return up to `batch` tracklets, oldest first; none when time ran out or it `is_over`.

        Args:
            timeout_s: Longest wait for the first one; None waits until one comes or none will.

        Raises:
            BaseException: What the other side failed with, after what came before that.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed, timeout_s)
            if not self._waiting and self._error is not None:
                raise self._error
            taken, self._waiting = self._waiting[: self._batch], self._waiting[self._batch :]
            self._bytes -= sum(one.size for one in taken)
            self._count(got=len(taken))
            return [one.tracklet for one in taken]

    def send(self, tracklets: Sequence[Tracklet]) -> None:
        """Do what `put` does, under the name it has in a `Link`."""
        self.put(tracklets)

    def receive(self) -> list[Tracklet]:
        """Wait for tracklets as in a `Link`; an empty list says that no more will come."""
        return self.get()

    def fail(self, error: BaseException) -> None:
        """Close the queue because of `error`, which the other side raises; the first counts."""
        with self._changed:
            self._error = self._error or error
            self.close()

    def close(self) -> None:
        """Say that no more will come, and wake who waits. A second time does nothing."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    @property
    def is_over(self) -> bool:
        """Whether it was closed and everything was taken."""
        with self._changed:
            return self._is_closed and not self._waiting and self._error is None

    @property
    def counts(self) -> QueueCounts:
        """What has happened so far."""
        with self._changed:
            return self._counts

    @property
    def depth(self) -> int:
        """How many tracklets wait."""
        with self._changed:
            return len(self._waiting)

    @property
    def num_bytes(self) -> int:
        """Memory of what waits."""
        with self._changed:
            return self._bytes

    @property
    def age_s(self) -> float:
        """How long the oldest has waited, in seconds; 0 when nothing waits."""
        with self._changed:
            return self._clock() - self._waiting[0].since_s if self._waiting else 0.0

    @property
    def _is_too_full(self) -> bool:
        if self._bytes > self.max_bytes:
            return True
        return len(self._waiting) > self.capacity and self._oldest_open() is not None

    def _append(self, tracklet: Tracklet) -> None:
        self._waiting.append(_Waiting(tracklet, self._clock(), _size(tracklet)))
        self._bytes += self._waiting[-1].size
        self._count(put=1)

    def _make_room(self) -> None:
        if len(self._waiting) > self.capacity and self._merge():
            return
        if self._supersede():
            return
        if (index := self._oldest_open()) is not None:
            self._drop(index)
            self._count(dropped=1)
            return
        self._shrink_an_end()

    def _merge(self) -> bool:
        for index, following in self._neighbours():
            older, newer = self._waiting[index].tracklet, self._waiting[following].tracklet
            if _is_continued(older, newer):
                self._replace(index, _joined(older, newer))
                self._remove(following)
                self._count(merged=1)
                return True
        return False

    def _supersede(self) -> bool:
        for index, following in self._neighbours():
            newer = self._waiting[following].tracklet
            if len(newer) and newer.offset == 0:
                self._drop(index)
                self._count(superseded=1)
                return True
        return False

    def _shrink_an_end(self) -> None:
        for index, one in enumerate(self._waiting):
            if len(one.tracklet):
                self._replace(index, one.tracklet.emptied())
                self._count(emptied=1)
                return
        logger.error("%s: nobody takes tracklets; its end is lost", self._waiting[0].tracklet.uid)
        self._remove(0)
        self._count(dropped=1, lost_ends=1)

    def _drop(self, index: int) -> None:
        """Remove a tracklet and let the next of its track tell what it told besides."""
        following = dict(self._neighbours()).get(index)
        dropped = self._waiting[index].tracklet
        if following is not None:
            self._replace(following, _telling_also(self._waiting[following].tracklet, dropped))
        self._remove(index)

    def _neighbours(self) -> Iterator[tuple[int, int]]:
        """Yield the places of every tracklet and of the next one of its track, oldest first."""
        following: dict[tuple[str, int], int] = {}
        pairs = []
        for index in range(len(self._waiting) - 1, -1, -1):
            track = _track(self._waiting[index].tracklet)
            # The name of a camera that was removed may come again, and its numbers with it.
            if track in following and not self._waiting[index].tracklet.is_last:
                pairs.append((index, following[track]))
            following[track] = index
        return reversed(pairs)

    def _oldest_open(self) -> int | None:
        """Return the place of the oldest tracklet that is not its track's last."""
        places = (i for i, one in enumerate(self._waiting) if not one.tracklet.is_last)
        return next(places, None)

    def _replace(self, index: int, tracklet: Tracklet) -> None:
        one = self._waiting[index]
        size = _size(tracklet)
        self._bytes += size - one.size
        self._waiting[index] = _Waiting(tracklet, one.since_s, size)

    def _remove(self, index: int) -> None:
        self._bytes -= self._waiting.pop(index).size

    def _count(self, **more: int) -> None:
        now = self._counts
        self._counts = replace(now, **{name: getattr(now, name) + n for name, n in more.items()})


def _track(tracklet: Tracklet) -> tuple[str, int]:
    return tracklet.stream, tracklet.track_id


def _size(tracklet: Tracklet) -> int:
    arrays = tracklet.silhouettes, tracklet.frame_indices, tracklet.times_s
    companions = _BYTES_PER_COMPANION * len(tracklet.companions)
    return _OVERHEAD_BYTES + companions + sum(array.nbytes for array in arrays)


def _is_continued(older: Tracklet, newer: Tracklet) -> bool:
    """Whether two neighbours of a track can be said as one."""
    if not len(older) or not len(newer):
        return True
    goes_on = newer.offset == older.offset + len(older)
    is_later = newer.frame_indices[0] > older.frame_indices[-1]
    return bool(goes_on and is_later and newer.times_s[0] > older.times_s[-1])


def _joined(older: Tracklet, newer: Tracklet) -> Tracklet:
    both = (older, newer)
    total = len(older) + len(newer)
    return replace(
        _telling_also(newer, older),
        silhouettes=np.concatenate([t.silhouettes for t in both]),
        frame_indices=np.concatenate([t.frame_indices for t in both]),
        times_s=np.concatenate([t.times_s for t in both]),
        quality=sum(t.quality * len(t) for t in both) / total if total else 0.0,
        offset=older.offset if len(older) else newer.offset,
        boxes=_boxes_of_both(older, newer),
    )


def _boxes_of_both(older: Tracklet, newer: Tracklet) -> tuple[Box, Box] | None:
    if not len(older) or not len(newer):
        return older.boxes if len(older) else newer.boxes
    return (older.boxes[0], newer.boxes[1]) if older.boxes and newer.boxes else None


def _telling_also(tracklet: Tracklet, older: Tracklet) -> Tracklet:
    reasons = dict(older.reasons)
    for reason, count in tracklet.reasons:
        reasons[reason] = reasons.get(reason, 0) + count
    return replace(
        tracklet,
        seen_s=(min(older.seen_s[0], tracklet.seen_s[0]), tracklet.seen_s[1]),
        reasons=tuple(sorted(reasons.items())),
        companions=tuple(sorted({*older.companions, *tracklet.companions})),
    )
