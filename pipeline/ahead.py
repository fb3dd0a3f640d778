"""Running one step of a loop ahead of the next, in a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL_S = 0.1  # how soon a blocked put notices that nobody reads any more


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None = None


class Ahead(Generic[T]):
    """The items of `items`, computed in a thread of their own, at most `depth` ahead.

    Chained, each loop step runs while the next one works on what came before:

        with Ahead(read(), depth=4) as frames, Ahead(map(detect, frames), depth=4) as seen:
            for detections in seen: ...

    An exception raised by `items` is raised in the reading thread, after what came before it.
    Leaving the `with` block, for whatever reason, stops the thread, closes `items` if it is a
    generator, and waits for both. With `depth=0` there is no thread: the steps run one after
    another, as they would without this class.
    """

    def __init__(self, items: Iterable[T], *, depth: int, name: str = "ahead") -> None:
        self._items = items
        self._queue: queue.Queue[T | _End] = queue.Queue(maxsize=max(depth, 1))
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._threaded = depth > 0

    def __enter__(self) -> Ahead[T]:
        if self._threaded:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        if self._threaded:
            self._thread.join()
        else:
            _close(self._items)

    def __iter__(self) -> Iterator[T]:
        if not self._threaded:
            yield from self._items
            return
        while not isinstance(item := self._next(), _End):
            yield item
        if item.error is not None:
            raise item.error

    def _next(self) -> T | _End:
        while True:
            try:
                return self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                # A neighbour that leaves its block while we wait must not leave us waiting.
                if self._stopped.is_set() or not self._thread.is_alive():
                    return self._queue.get_nowait() if self._queue.qsize() else _End()

    def _work(self) -> None:
        end = _End()
        try:
            for item in self._items:
                if not self._put(item):
                    break
        except BaseException as error:  # carried to the reader, whoever it is
            end = _End(error)
        finally:
            _close(self._items)
            self._put(end)

    def _put(self, item: T | _End) -> bool:
        """Queue `item` unless the reader has gone; say whether it was queued."""
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_POLL_S)
                return True
            except queue.Full:
                continue
        return False


def _close(items: object) -> None:
    if isinstance(items, Generator):
        items.close()
