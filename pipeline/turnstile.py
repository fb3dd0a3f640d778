"""Who may go into perception, so that nothing waits long inside it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from pipeline.closing import Closing

T = TypeVar("T")

_MARGIN = 0.8  # of the time allowed, before two batches are tried again
_FORGETTING = 0.2  # how much of the estimate each batch renews when it was quicker


class Turnstile(Closing):
    """Keeps batches out until those inside are nearly through.

    Steps that run ahead of each other hold a batch each, and all of them wait for the slowest. On
    live cameras these pictures grow old meanwhile. Here two batches are inside while two take no
    longer than `fresh_s`, so that steps work side by side, and one when they would.

        with ExitStack() as threads:
            batches = turnstile.let_in(cameras.batches())
            ...                                            # in any threads
            for result in turnstile.let_out(results): ...

    Args:
        fresh_s: How long a batch may take from one end to the other, in seconds; None lets
            everything in.
        clock: Monotonic seconds.
    """

    def __init__(self, fresh_s: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._fresh_s = fresh_s
        self._clock = clock
        self._changed = threading.Condition()
        self._begun_s: deque[float] = deque()
        self._took_s = 0.0
        self._room = 1
        self._is_closed = False

    @property
    def room(self) -> int | None:
        """How many batches may be inside now; None for any number."""
        return None if self._fresh_s is None else self._room

    def let_in(self, items: Iterable[T]) -> Iterator[T]:
        """Yield items, each asked for only when there is room; end when it is closed."""
        iterator = iter(items)
        while self._waited_for_room():
            try:
                item = next(iterator)
            except StopIteration:
                return
            with self._changed:
                self._begun_s.append(self._clock())
            yield item

    def let_out(self, items: Iterable[T]) -> Iterator[T]:
        """Yield what became of the items, one for one and in order, and note that it is out."""
        for item in items:
            self._note_one_out()
            yield item

    def close(self) -> None:
        """Let nothing in any more, and wake who waits; harmless the second time."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _waited_for_room(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._has_room())
            return not self._is_closed

    def _has_room(self) -> bool:
        return self._fresh_s is None or len(self._begun_s) < self._room

    def _note_one_out(self) -> None:
        with self._changed:
            took_s = self._clock() - self._begun_s.popleft()
            older_s = (1 - _FORGETTING) * self._took_s + _FORGETTING * took_s
            self._took_s = max(took_s, older_s)
            if self._fresh_s is not None:
                self._judge(self._fresh_s)
            self._changed.notify_all()

    def _judge(self, fresh_s: float) -> None:
        """Choose the room for the next batches.

        With two inside a batch takes at most twice as long as alone, so that what is within the
        margin for two will not be too long, and the room does not change to and fro.
        """
        if self._room == 2 and self._took_s > fresh_s:
            self._room = 1
        elif self._room == 1 and 2 * self._took_s <= _MARGIN * fresh_s:
            self._room = 2
