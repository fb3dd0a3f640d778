"""Where a camera's process puts pictures and the run finds them: shared memory without a name.

What has no name cannot be left behind: it goes with the last process that holds it, whoever is
killed. Pages that no picture has touched cost nothing, so every slot has room for the largest.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError

NUM_SLOTS = 4
MOST_PICTURE_BYTES = 1 << 27
"""Bytes of the largest picture: 44 megapixels, above 8K."""

_MOST_LENT = 2  # of the others, one waits to be taken and one is being written
_HEAD_BYTES = mmap.PAGESIZE  # a byte a slot: 1 while somebody needs what is in it
_ALL_BYTES = _HEAD_BYTES + NUM_SLOTS * MOST_PICTURE_BYTES


@contextmanager
def memory_file() -> Iterator[int]:
    """Yield the descriptor of new memory, for both sides to map; it is closed afterwards.

    Raises:
        ConfigError: This system has no such memory.
        OSError: There is none left.
    """
    if not hasattr(os, "memfd_create"):
        raise ConfigError("process: expected Linux for a camera in a process of its own")
    file = os.memfd_create("trackletgait camera", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(file, _ALL_BYTES)
        # A reader gone mad must not be able to pull the memory from under us (SIGBUS).
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        yield file
    finally:
        os.close(file)


def check_place(slot: int, height: int, width: int) -> None:
    """Raise ValueError unless a picture of that size has room in that slot."""
    if not 0 < 3 * height * width <= MOST_PICTURE_BYTES or not 0 <= slot < NUM_SLOTS:
        raise ValueError(
            f"expected a picture of at most {MOST_PICTURE_BYTES} bytes in one of {NUM_SLOTS} "
            f"slots, got {width}x{height} in slot {slot}; read this camera without `process`"
        )


class PictureMemory:
    """Slots for pictures; one side puts, the other lends them out.

    Args:
        file: Of `memory_file`; may be closed afterwards.
    """

    def __init__(self, file: int) -> None:
        self._map = mmap.mmap(file, _ALL_BYTES)
        self._lent: set[int] = set()

    def free_slot(self) -> int | None:
        """Return a slot that nobody needs; None when all are taken."""
        slot = self._map.find(b"\0", 0, NUM_SLOTS)
        return None if slot < 0 else slot

    def put(self, slot: int, image: NDArray[np.uint8]) -> None:
        """Copy a picture into a free slot.

        Raises:
            ValueError: It is larger than any slot.
        """
        np.copyto(self._view(slot, image.shape[0], image.shape[1]), image)
        self._map[slot] = 1

    def lend(self, slot: int, height: int, width: int) -> NDArray[np.uint8]:
        """Return the picture in a slot, which is free again when nobody has the array any more.

        Whoever keeps many gets copies, so that there is always room for the next one.

        Raises:
            ValueError: No slot holds a picture of that size.
        """
        image = self._view(slot, height, width)
        if len(self._lent) >= _MOST_LENT:
            image = image.copy()
            self.free(slot)
            return image
        self._lent.add(slot)
        # Views of the array keep it alive. A store of one byte needs no lock, also not in here.
        weakref.finalize(image, self.free, slot).atexit = False
        return image

    def free(self, slot: int) -> None:
        """Let the next picture have a slot."""
        self._lent.discard(slot)
        self._map[slot] = 0

    def _view(self, slot: int, height: int, width: int) -> NDArray[np.uint8]:
        check_place(slot, height, width)
        start = _HEAD_BYTES + slot * MOST_PICTURE_BYTES
        return np.ndarray((height, width, 3), np.uint8, self._map, start)
