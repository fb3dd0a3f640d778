"""Lines of JSON about people, taken out of files that may be growing meanwhile.

A line is overwritten where it stands, with `{}` and blanks, and the file keeps its length: who is
appending to it does not notice, so nothing newer is lost, and a run that was killed half way is
finished by the next. A full file whose lines are all gone is removed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.errors import PrivacyError
from pipeline.privacy.labels import Labels
from pipeline.privacy.receipt import Removed, Tally

_GONE = b"{}"
_LONGEST_LINE = 1 << 20
_LAST_S = 1e11  # what calendars can hold; neither is NaN less
_ROTATED = re.compile(r".+\.\d{6,}\.[^.]+")


@dataclass(frozen=True, slots=True)
class Line:
    """One line that says something.

    Attributes:
        offset: Where it begins in the file.
        raw: Its bytes without the newline.
        at_unix_s: When it was written, in seconds since 1970; of a damaged line, when the line
            before was; None of a line that does not say.
        content: What an event, or a sighting of a results folder, holds; None of a damaged line.
    """

    offset: int
    raw: bytes
    at_unix_s: float | None
    content: dict[str, Any] | None

    def is_of(self, labels: Labels, gallery: str | None = None) -> bool:
        """Return whether it names somebody, whatever the field; also where it is damaged.

        Args:
            labels: What they are called.
            gallery: Uid of the gallery of a line that does not say.

        Raises:
            PrivacyError: It may as well name somebody of another gallery.
        """
        if self.content is not None:
            return labels.are_among(self.content.values(), self.content.get("gallery", gallery))
        spelt = {each: json.dumps(each, ensure_ascii=False).encode() for each in labels.all}
        return labels.are_among([each for each in spelt if spelt[each] in self.raw], gallery)


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a file that have not been taken out.

    Raises:
        PrivacyError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            yield from _lines(file)
    except OSError as error:
        raise PrivacyError(f"{path}: cannot be read: {error.strerror}") from error


def remove_lines(
    path: Path,
    goes: Callable[[Line], bool],
    *,
    ends: Callable[[Line], bool] = lambda line: False,
    is_dry_run: bool = False,
) -> Removed | None:
    """Take lines out of a file; return what went, None when nothing did.

    Args:
        path: The file.
        goes: Whether a line goes.
        ends: Whether no line goes from this one on, so that nobody need read them.
        is_dry_run: Only say what would go.

    Raises:
        PrivacyError: It cannot be read or written.
    """
    tally = Tally("sightings", str(path))
    try:
        with path.open("rb" if is_dry_run else "r+b") as file:
            for line in takewhile(lambda line: not ends(line), _lines(file)):
                if goes(line):
                    tally.add(line.raw, line.at_unix_s)
                    if not is_dry_run:
                        os.pwrite(file.fileno(), _GONE.ljust(len(line.raw)), line.offset)
            if tally.removed is not None and not is_dry_run:
                os.fsync(file.fileno())
        if not is_dry_run and _ROTATED.fullmatch(path.name):
            with path.open("rb") as file:  # anew: the other one remembers what it read before
                is_empty = next(_lines(file), None) is None
            if is_empty:
                path.unlink(missing_ok=True)
    except FileNotFoundError:  # its writer rotates
        return None
    except OSError as error:
        raise PrivacyError(f"{path}: cannot be cleared: {error.strerror}") from error
    return tally.removed


def rotated(path: Path) -> list[Path]:
    """Return a file of events and the full ones beside it, the oldest first."""
    pattern = re.compile(rf"{re.escape(path.stem)}\.\d{{6,}}{re.escape(path.suffix)}")
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    full = sorted(each for each in beside if pattern.fullmatch(each.name))
    return [each for each in (*full, path) if each.is_file() and not each.is_symlink()]


def _lines(file: BinaryIO) -> Iterator[Line]:
    file.seek(0)
    offset = 0
    at_unix_s = None
    # What follows the last newline is still being written.
    while (raw := file.readline(_LONGEST_LINE)).endswith(b"\n"):
        if len(raw) > len(_GONE) and raw.strip() != _GONE:
            data = _parsed(raw)
            written_s = None if data is None else data.get("at_unix_s")
            if isinstance(written_s, int | float) and abs(written_s) < _LAST_S:
                at_unix_s = float(written_s)
            content = data.get("content", data) if data is not None else None
            yield Line(offset, raw[:-1], at_unix_s, content if isinstance(content, dict) else None)
        offset += len(raw)
    if len(raw) == _LONGEST_LINE:
        raise PrivacyError(f"{file.name}: expected lines of JSON, got one that does not end")


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None
