"""The link within one process: a bounded queue between two threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from gait.tracklet import Tracklet
from pipeline.errors import LinkError

T = TypeVar("T")


class Link(Protocol):
    """Carries tracklets from perception to identity, in order.

    Neither side knows whether the other is a thread, a process or a machine.
    """

    def send(self, tracklets: Sequence[Tracklet]) -> None:
        """Send tracklets, waiting for room.

        Raises:
            LinkError: Nobody will receive them.
        """
        ...

    def receive(self) -> list[Tracklet]:
        """Wait for tracklets and return them; an empty list says that no more will come."""
        ...

    def close(self) -> None:
        """Say that no more will come, and wake whoever waits. A second time does nothing."""
        ...


class LocalLink(Generic[T]):
    """A bounded queue between two threads of one process, which loses nothing.

    A `LocalLink[Tracklet]` is a `Link`; `pipeline.ahead` joins the other steps by the same means.

        link = LocalLink(capacity=64, batch=16)
        # one thread                           # another
        link.send(tracklets)                   while tracklets := link.receive():
        link.close()                               identify(tracklets)

    A side that fails says so with `fail`: the other one gets the same exception from `send` at
    once, and from `receive` after what was sent before the failure.

    Args:
        capacity: Items that may wait. Higher lets the sender run further ahead, at the price of
            memory (a tracklet has 3 KB a silhouette).
        batch: Most items that `receive` returns at once. Higher feeds the encoder better, at the
            price of latency.
    """

    def __init__(self, *, capacity: int = 64, batch: int = 16) -> None:
        if capacity < 1 or batch < 1:
            raise ValueError(f"expected a capacity and batch of 1 or more, got {capacity}, {batch}")
        self._capacity = capacity
        self._batch = batch
        self._waiting: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._error: BaseException | None = None

    def send(self, items: Sequence[T]) -> None:
        """Send items one after another, each waiting until there is room.

        Raises:
            LinkError: The link was closed; those that had room before are still received.
            BaseException: What the other side failed with.
        """
        for item in items:
            with self._changed:
                self._changed.wait_for(self._may_send)
                if self._error is not None:
                    raise self._error
                if self._closed:
                    raise LinkError("expected an open link, this one was closed")
                self._waiting.append(item)
                self._changed.notify_all()

    def receive(self) -> list[T]:
        """Wait for items and return up to `batch`; an empty list says no more will come.

        Raises:
            BaseException: What the other side failed with.
        """
        with self._changed:
            self._changed.wait_for(self._may_receive)
            if not self._waiting and self._error is not None:
                raise self._error
            count = min(self._batch, len(self._waiting))
            received = [self._waiting.popleft() for _ in range(count)]
            self._changed.notify_all()
            return received

    def fail(self, error: BaseException) -> None:
        """Close the link because of `error`, which the other side will raise; the first counts."""
        with self._changed:
            self._error = self._error or error
            self.close()

    def close(self) -> None:
        """Say that no more will come, and wake whoever waits. A second time does nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _may_send(self) -> bool:
        return self._closed or len(self._waiting) < self._capacity

    def _may_receive(self) -> bool:
        return self._closed or bool(self._waiting)
