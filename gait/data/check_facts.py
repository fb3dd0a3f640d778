"""What `data check` wants to know of one sequence; found in a worker process."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gait.data.dataset import SequenceKey, ViewFolder
from gait.data.pack import PackedDataset
from gait.data.pickles import read_silhouettes
from gait.errors import DataError

_PERSON = 128
_CUTS = {44: ((0, 44), (10, 34)), 64: ((0, 64), (10, 54), (20, 44))}
"""Columns left by one cut too many, for each width: all of them, or those inside a zero border."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One sequence as it was found.

    Attributes:
        key: Which walk.
        where: Its file, for messages.
        error: What is wrong with the file; the rest is zero then.
        num_frames: Silhouettes.
        width: Columns, 44 or 64.
        num_black: Silhouettes without a person.
        clipped: Share of the silhouettes whose person ends at both sides of a cut, 0..1.
        digest: Equal for equal pixels.
    """

    key: SequenceKey
    where: str
    error: str | None = None
    num_frames: int = 0
    width: int = 0
    num_black: int = 0
    clipped: float = 0.0
    digest: bytes = b""


@dataclass(frozen=True, slots=True)
class FileTask:
    """A view folder to examine."""

    entry: ViewFolder
    data_in_use: tuple[bool, ...] | None

    @property
    def key(self) -> SequenceKey:
        """Which walk."""
        return self.entry.key

    @property
    def where(self) -> str:
        """The folder, or its file if it has but one."""
        files = self.entry.files
        return str(files[0] if len(files) == 1 else self.entry.folder)

    def read(self) -> NDArray[np.uint8]:
        """Return the silhouettes.

        Raises:
            DataError: There are none, or they are damaged.
        """
        return read_silhouettes(self.entry.file_in_use(self.data_in_use))


@dataclass(frozen=True, slots=True)
class PackTask:
    """A sequence of a pack to examine."""

    path: Path
    index: int
    key: SequenceKey

    @property
    def where(self) -> str:
        """The pack and the walk."""
        return f"{self.path}: {self.key}"

    def read(self) -> NDArray[np.uint8]:
        """Return the silhouettes.

        Raises:
            DataError: They are damaged.
        """
        return _open(self.path)[self.index]


Task = FileTask | PackTask


def examine(task: Task) -> Facts:
    """Return what is to be known of one sequence; a damaged one is a fact, not an error."""
    try:
        silhouettes = task.read()
    except DataError as error:
        return Facts(task.key, task.where, error=str(error))
    return Facts(
        task.key,
        task.where,
        num_frames=len(silhouettes),
        width=silhouettes.shape[2],
        num_black=int((~silhouettes.any(axis=(1, 2))).sum()),
        clipped=clipped_share(silhouettes),
        digest=hashlib.blake2b(np.ascontiguousarray(silhouettes).data, digest_size=16).digest(),
    )


def clipped_share(silhouettes: NDArray[np.uint8]) -> float:
    """Return the share of frames whose person ends sharply at both sides of a possible cut.

    A walker inside 44 columns reaches both sides in few frames if any. Cut a second time, to 24
    columns, limbs or trunk end at both sides in most; the cut may since have been padded back.

    Args:
        silhouettes: Shape (T, 64, 44) or (T, 64, 64).
    """
    columns: NDArray[np.bool_] = np.any(silhouettes >= _PERSON, axis=1)
    occupied = np.flatnonzero(silhouettes.any(axis=(0, 1)))
    if not len(occupied):
        return 0.0
    return max(
        float((columns[:, left] & columns[:, right - 1]).mean())
        for left, right in _CUTS[silhouettes.shape[2]]
        if left <= occupied[0] and occupied[-1] < right
    )


@lru_cache(maxsize=1)
def _open(path: Path) -> PackedDataset:
    return PackedDataset(path)
