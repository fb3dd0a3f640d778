"""A whole data set in one file: all pixels, memory-mapped, and an index of the sequences.

    bytes 0..63      magic, version, where the index lies, how long it is, its checksum
    from 4096        all frames of all sequences, uint8, one after the other
    behind them      the index: JSON with the width, keys, lengths and a CRC-32 a sequence

The file is written beside its place and renamed when complete, so it is whole or not there.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from gait.data.atomic import open_atomically
from gait.data.dataset import GaitDataset, SequenceKey, indices_of
from gait.errors import DataError
from gait.strict import StrictModel

PACK_SUFFIX = ".gaitpack"

_MAGIC = b"GAITPACK"
_VERSION = 1
_HEAD = struct.Struct("<8sIIQQI")  # magic, version, reserved, index offset, index length, CRC-32
_PIXELS_AT = 4096
_HEIGHT = 64


def write_pack(
    dataset: GaitDataset, path: Path, on_sequence: Callable[[SequenceKey], None] | None = None
) -> None:
    """Write all sequences of `dataset` to one file.

    Args:
        dataset: What to pack; all sequences of one width.
        path: The file, replaced if there.
        on_sequence: Called after each sequence.

    Raises:
        DataError: No sequence, a damaged one, both widths in one data set, or the file cannot be
            written; then what was at `path` before is still there.
    """
    sequences = (dataset[position] for position in range(len(dataset)))
    write_pack_of(dataset.keys, sequences, path, on_sequence)


def write_pack_of(
    keys: Sequence[SequenceKey],
    sequences: Iterable[NDArray[np.uint8]],
    path: Path,
    on_sequence: Callable[[SequenceKey], None] | None = None,
) -> None:
    """Write sequences as they come to one file, one for each of `keys`, like `write_pack`."""
    if not keys:
        raise DataError(f"{path}: expected at least one sequence to pack, got none")
    with open_atomically(path) as file:
        file.seek(_PIXELS_AT)
        index = _write_pixels(file, keys, sequences, on_sequence or (lambda _: None))
        _write_index(file, index)


def _write_pixels(
    file: BinaryIO,
    keys: Sequence[SequenceKey],
    sequences: Iterable[NDArray[np.uint8]],
    on_sequence: Callable[[SequenceKey], None],
) -> _Index:
    lengths, checksums, width = [], [], None
    for key, silhouettes in zip(keys, map(np.ascontiguousarray, sequences), strict=True):
        width = width or silhouettes.shape[2]
        if silhouettes.shape[2] != width:
            raise DataError(
                f"{key}: expected 64x{width} as {keys[0]}, got 64x{silhouettes.shape[2]}; "
                "a data set has one width: prepare it again from the PNGs"
            )
        file.write(silhouettes.data)
        lengths.append(len(silhouettes))
        checksums.append(zlib.crc32(silhouettes.data))
        on_sequence(key)
    assert width is not None  # there is a key
    return _Index(width, list(keys), np.array(lengths, np.int64), checksums)


def _write_index(file: BinaryIO, index: _Index) -> None:
    data, offset = index.to_json(), file.tell()
    file.write(data)
    file.seek(0)
    file.write(_HEAD.pack(_MAGIC, _VERSION, 0, offset, len(data), zlib.crc32(data)))


class _Content(StrictModel):
    """The index as JSON."""

    width: Literal[44, 64]
    keys: list[tuple[str, str, str]] = Field(min_length=1)
    lengths: list[Annotated[int, Field(ge=1, lt=2**32)]]
    crc32: list[Annotated[int, Field(ge=0, lt=2**32)]]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not len(self.keys) == len(self.lengths) == len(self.crc32):
            raise ValueError("keys, lengths and crc32: expected as many of each")
        return self


@dataclass(frozen=True, slots=True, eq=False)
class _Index:
    """What lies where in a pack; the offsets follow from the lengths."""

    width: int
    keys: list[SequenceKey]
    lengths: NDArray[np.int64]
    checksums: list[int]

    def to_json(self) -> bytes:
        content = {
            "width": self.width,
            "keys": [[key.subject, key.condition, key.view] for key in self.keys],
            "lengths": self.lengths.tolist(),
            "crc32": self.checksums,
        }
        return json.dumps(content, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        content = _Content.model_validate_json(data)
        keys = [SequenceKey(*key) for key in content.keys]
        return cls(content.width, keys, np.array(content.lengths, np.int64), content.crc32)


class _Pack:
    """An open pack: the map, its index, and which sequences have been compared yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.index = _read_index(path)
        frame = _HEIGHT * self.index.width
        self.ends = np.cumsum(self.index.lengths)
        mapped = np.memmap(path, np.uint8, "r", _PIXELS_AT, (int(self.ends[-1]) * frame,))
        self.pixels = mapped.view(np.ndarray).reshape(-1, _HEIGHT, self.index.width)
        self.compared = np.zeros(len(self.ends), np.bool_)

    def __reduce__(self) -> tuple[type[_Pack], tuple[Path]]:
        return _Pack, (self.path,)  # another process maps the file instead of copying it

    def sequence(self, position: int) -> NDArray[np.uint8]:
        end = self.ends[position]
        silhouettes = self.pixels[end - self.index.lengths[position] : end]
        if not self.compared[position]:
            self._compare(position, silhouettes)
        return silhouettes

    def _compare(self, position: int, silhouettes: NDArray[np.uint8]) -> None:
        found, expected = zlib.crc32(silhouettes.data), self.index.checksums[position]
        if found != expected:
            raise DataError(
                f"{self.path}: sequence {self.index.keys[position]} is damaged (expected checksum "
                f"{expected:08x}, got {found:08x}); pack the data set again"
            )
        self.compared[position] = True


class PackedDataset:
    """Sequences of a pack: views into the mapped file, nothing is copied.

    Each sequence is compared with its checksum when it is first read by a process; from then on
    reading it costs nothing but the pages the system has to fetch.

    Args:
        path: A file that `write_pack` wrote.

    Raises:
        DataError: The file is missing, no pack, of another version, truncated, or its index is
            damaged.
    """

    def __init__(self, path: Path) -> None:
        self._pack = _Pack(path)
        self._choose(range(len(self._pack.ends)))

    def _choose(self, positions: Sequence[int]) -> None:
        self._positions = np.array(positions, np.int64)
        self.keys = [self._pack.index.keys[position] for position in positions]
        self.lengths = self._pack.index.lengths[self._positions]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Return one sequence: a read-only view into the file, shape (T, 64, 44) or (T, 64, 64).

        Raises:
            DataError: Its pixels are damaged.
        """
        return self._pack.sequence(self._positions[index])

    def select(self, subjects: Iterable[str]) -> Self:
        """Return the sequences of `subjects`, in their order, of the same mapped file."""
        chosen = object.__new__(type(self))
        chosen._pack = self._pack
        chosen._choose([int(self._positions[i]) for i in indices_of(self.keys, subjects)])
        return chosen


def _read_index(path: Path) -> _Index:
    try:
        with path.open("rb") as file:
            return _parse(path, file)
    except OSError as error:
        raise DataError(f"{path}: cannot read the pack ({error.strerror or error})") from error


def _parse(path: Path, file: BinaryIO) -> _Index:
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size or not head.startswith(_MAGIC):
        raise DataError(
            f"{path}: expected a pack of silhouettes, got another or a truncated file; "
            "`trackletgait data pack` makes one"
        )
    _, version, _, offset, length, checksum = _HEAD.unpack(head)
    if version != _VERSION:
        raise DataError(
            f"{path}: expected a pack of version {_VERSION}, got version {version}; "
            "pack the data set again"
        )
    data = b""
    if offset + length <= file.seek(0, os.SEEK_END):  # a damaged head may ask for exabytes
        file.seek(offset)
        data = file.read(length)
    if len(data) != length or zlib.crc32(data) != checksum:
        raise DataError(f"{path}: the index is damaged or truncated; pack the data set again")
    return _checked(path, data, offset)


def _checked(path: Path, data: bytes, offset: int) -> _Index:
    try:
        index = _Index.from_json(data)
    except ValidationError as error:
        problem = error.errors()[0]
        raise DataError(
            f"{path}: expected an index of sequences, got another at "
            f"{'.'.join(map(str, problem['loc'])) or 'its top'} ({problem['msg']}); "
            "pack the data set again"
        ) from error
    expected = _PIXELS_AT + int(index.lengths.sum()) * _HEIGHT * index.width
    if offset != expected:
        raise DataError(
            f"{path}: expected the index behind {expected} bytes of pixels, got it at {offset}; "
            "pack the data set again"
        )
    return index
