"""Many who read, one who changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class SharedAccess:
    """Lets any number of threads read at once, and one change things while nobody reads.

    Who wants to change goes first: a stream of readers cannot keep a change waiting for longer
    than the reads that had begun. No thread may ask again within its own block.
    """

    def __init__(self) -> None:
        self._turn = Condition()
        self._num_reading = 0
        self._num_changing = 0  # who changes, and who waits for it
        self._is_changing = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keep others from changing anything within the block."""
        with self._turn:
            self._turn.wait_for(lambda: not self._num_changing)
            self._num_reading += 1
        try:
            yield
        finally:
            with self._turn:
                self._num_reading -= 1
                self._turn.notify_all()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Keep others from reading and changing anything within the block."""
        with self._turn:
            self._num_changing += 1
            try:
                self._turn.wait_for(lambda: not self._num_reading and not self._is_changing)
            except BaseException:
                self._num_changing -= 1
                self._turn.notify_all()
                raise
            self._is_changing = True
        try:
            yield
        finally:
            with self._turn:
                self._num_changing -= 1
                self._is_changing = False
                self._turn.notify_all()
