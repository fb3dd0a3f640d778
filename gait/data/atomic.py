"""Files that are there whole or not at all, whenever the process is killed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gait.errors import DataError

PARTIAL_SUFFIX = ".part"


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path`, making its folder.

    Raises:
        DataError: It cannot be written; what was at `path` before is still there.
    """
    with open_atomically(path) as file:
        file.write(data)


@contextlib.contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """Open a hidden file beside `path` that takes its place when the block ends well.

    Raises:
        DataError: It cannot be written; what was at `path` before is still there.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            yield file
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
