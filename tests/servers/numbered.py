"""Pictures that carry their own number: how old one is can be told of whatever comes out of it.

Whoever follows people in a stream, and in whatever library, hands out the picture they were seen
in. Its number says which one it was, and the server's log when that was sent: latency is measured
in the same way of everybody, without asking their clocks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_BLOCK = 16  # pixels of a bit's side: a macroblock, which survives compression
_BITS = 12
_DARK, _LIGHT, _MIDDLE = 16, 240, 128


def stamp(image: NDArray[np.uint8], number: int) -> None:
    """Write a number, up to 4095, into the upper left corner of a picture."""
    bits = [(number >> place) & 1 for place in range(_BITS)]
    row = np.repeat(np.where(bits, _LIGHT, _DARK), _BLOCK).astype(np.uint8)
    image[:_BLOCK, : len(row)] = row[None, :, None]


def read(image: NDArray[np.uint8]) -> int:
    """Return the number in a picture."""
    row = image[:_BLOCK, : _BITS * _BLOCK].mean(axis=(0, 2)).reshape(_BITS, _BLOCK).mean(axis=1)
    return int(sum(1 << place for place in range(_BITS) if row[place] > _MIDDLE))


class SentLog:
    """When each picture of each camera was sent.

    Args:
        path: What the server wrote: path, number and Unix seconds, a line each.
    """

    def __init__(self, path: Path) -> None:
        self._sent: dict[tuple[str, int], list[float]] = defaultdict(list)
        for line in path.read_text().splitlines():
            camera, number, unix_s = line.split()
            self._sent[camera, int(number)].append(float(unix_s))

    def age_s(self, camera: str, number: int, at_unix_s: float) -> float:
        """Return how long before a moment a picture was last sent.

        Raises:
            ValueError: It had not been sent then.
        """
        times_s = self._sent.get((camera, number), [])
        place = bisect_right(times_s, at_unix_s)
        if not place:
            raise ValueError(f"{camera}: picture {number} had not been sent at {at_unix_s}")
        return at_unix_s - times_s[place - 1]

    def num_sent(self, from_unix_s: float, to_unix_s: float) -> int:
        """Return how many pictures all cameras sent in a span of time."""
        return sum(
            bisect_right(times_s, to_unix_s) - bisect_right(times_s, from_unix_s)
            for times_s in self._sent.values()
        )
