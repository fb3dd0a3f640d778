"""Running one step of a loop ahead of the next, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator
from typing import Generic, TypeVar

from gait.closing import Closing
from pipeline.errors import LinkError
from pipeline.transport.local import LocalLink

T = TypeVar("T")


class Ahead(Closing, Generic[T]):
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
        self._threaded = depth > 0
        self._link = LocalLink[T](capacity=max(depth, 1), batch=1)
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def __enter__(self) -> Ahead[T]:
        if self._threaded:
            self._thread.start()
        return self

    def close(self) -> None:
        """Stop the thread and wait for it; harmless the second time."""
        self._link.close()
        if self._threaded:
            self._thread.join()
        else:
            _close(self._items)

    def __iter__(self) -> Iterator[T]:
        if not self._threaded:
            yield from self._items
            return
        while received := self._link.receive():
            yield from received

    def _work(self) -> None:
        try:
            for item in self._items:
                self._link.send([item])
        except LinkError:  # the reader has left its block
            pass
        except BaseException as error:  # carried to the reader, whoever it is
            self._link.fail(error)
        finally:
            _close(self._items)
            self._link.close()


def _close(items: object) -> None:
    if isinstance(items, Generator):
        items.close()
