"""Files that are there whole or not at all, whenever the process is killed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gait.errors import DataError

PARTIAL_SUFFIX = ".part"


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write `data` to `path`, making its folder.

    Args:
        path: The file.
        data: Its content.
        durable: As for `open_atomically`.

    Raises:
        DataError: It cannot be written; what was at `path` before is still there.
    """
    with open_atomically(path, durable=durable) as file:
        file.write(data)


@contextlib.contextmanager
def open_atomically(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a hidden file beside `path` that takes its place when the block ends well.

    Args:
        path: The file.
        durable: Whether to wait until the disk has it, so that it also outlives a power cut, at
            the price of some milliseconds to a tenth of a second each.

    Raises:
        DataError: It cannot be written; what was at `path` before is still there.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):
            raise DataError(
                f"{path}: cannot write it ({error.strerror or error}); choose a folder that is "
                "writable and has room"
            ) from error
        raise
