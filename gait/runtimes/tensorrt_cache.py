"""What TensorRT has made, kept for the next start: `gait.runtimes.cache` with a seal around it.

An engine is a program. Its safety is that only the user may write to the folder, which
`gait.runtimes.cache` checks; the seal tells damage and mistakes: a file that is cut off, was made
for something else or has changed does not reach the vendor.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gait.errors import RuntimeUnavailable
from gait.runtimes import cache

logger = logging.getLogger(__name__)

MAGIC = b"trackletgait/1\n\0"
_DIGEST = 32
_SIZE = 8


@dataclass(frozen=True, slots=True, eq=False)
class Sealed:
    """Something that was kept.

    Attributes:
        notes: Ours about it.
        content: The vendor's bytes.
    """

    notes: Mapping[str, str]
    content: bytes


class BrokenSeal(ValueError):
    """Bytes that are not what was kept under that key; the message says why."""


def keep(kind: str, key: Mapping[str, str], kept: Sealed) -> None:
    """Keep something for the next start, or say in the log why that is not possible.

    Of several processes that made the same at once, the last one's stays; each is whole.
    """
    try:
        cache.store(cache.entry(kind, key, ".bin"), seal(key, kept))
    except RuntimeUnavailable as error:
        logger.warning("%s is not kept for the next start: %s", kind, error)


def find(kind: str, key: Mapping[str, str]) -> Sealed | None:
    """Return what was kept under exactly this key, or None.

    What lies there and is something else is removed, with a line in the log.
    """
    try:
        path = cache.entry(kind, key, ".bin")
    except RuntimeUnavailable as error:
        logger.warning("no %s from an earlier start: %s", kind, error)
        return None
    try:
        content = cache.load(path)
        return None if content is None else unseal(key, content)
    except (RuntimeUnavailable, BrokenSeal) as error:
        _remove(path, error)
        return None


def forget(kind: str, key: Mapping[str, str], reason: str) -> None:
    """Remove what was kept under this key, with a line in the log."""
    try:
        _remove(cache.entry(kind, key, ".bin"), reason)
    except RuntimeUnavailable as error:
        logger.warning("%s cannot be removed: %s", kind, error)


def seal(key: Mapping[str, str], kept: Sealed) -> bytes:
    """Return the file: magic, SHA-256 of the rest, length of the head, head, content."""
    head = json.dumps({"key": dict(key), "notes": dict(kept.notes)}, sort_keys=True).encode()
    rest = len(head).to_bytes(_SIZE, "little") + head + kept.content
    return MAGIC + hashlib.sha256(rest).digest() + rest


def unseal(key: Mapping[str, str], file: bytes) -> Sealed:
    """Return what `seal` was given.

    Raises:
        BrokenSeal: It is cut off, has changed, was made by something else or under another key.
    """
    if not file.startswith(MAGIC):
        raise BrokenSeal("it was not made by trackletgait")
    digest_end = len(MAGIC) + _DIGEST
    digest, rest = file[len(MAGIC) : digest_end], memoryview(file)[digest_end:]
    if hashlib.sha256(rest).digest() != digest:
        raise BrokenSeal("it is cut off or has changed")
    head_end = _SIZE + int.from_bytes(rest[:_SIZE], "little")
    try:
        head = json.loads(bytes(rest[_SIZE:head_end]))
        is_ours = head["key"] == dict(key)
        notes = {str(name): str(note) for name, note in head["notes"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenSeal("it was not made by trackletgait") from error
    if not is_ours:
        raise BrokenSeal("it was made for something else")
    return Sealed(notes, bytes(rest[head_end:]))


def _remove(path: Path, reason: object) -> None:
    logger.warning("%s: removed, and made anew: %s", path.name, reason)
    cache.discard(path)
