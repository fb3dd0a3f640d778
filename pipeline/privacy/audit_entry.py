"""One line of an audit log: what may stand in it, and how it is written and read."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from pipeline.errors import PrivacyError

Detail = str | int | float | bool | None | Sequence[str]

START = "0" * 64
"""What stands for the hash of the line before the first."""

LONGEST_LINE = 300_000
_LONGEST_TEXT = 2000
_LONGEST_IN_LIST = 500
_MOST_TEXTS = 100
_ACTION = re.compile(r"[a-z][a-z0-9-]{0,39}")
_SECRET_KEY = re.compile(r"pass|secret|token|api_?key|embedding$|silhouettes$", re.IGNORECASE)
_LOGIN = re.compile(r"://\S+@")
_QUERY_SECRET = re.compile(
    r"([?&;][^=&;\s]*(?:pass|pwd|token|auth|key|secret)[^=&;\s]*=)[^&;#\s]+", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the log.

    Attributes:
        number: From 1, rising by one.
        at_unix_s: When, in seconds since 1970.
        action: What was done: "enrol", "search", "export", "forget", "purge".
        who: Who did it.
        subject: To whom or what: an identity's pseudonym rather than a name, for nothing can be
            taken out of the log again.
        details: What else is worth knowing.
        before: Hash of the line before.
        hash: Of this one, over everything else in it.
    """

    number: int
    at_unix_s: float
    action: str
    who: str
    subject: str
    details: Mapping[str, Detail]
    before: str
    hash: str

    def as_bytes(self) -> bytes:
        """Return its line, without the newline."""
        return _as_bytes(asdict(self))


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The end of a log: kept elsewhere, it tells whether lines are missing.

    Attributes:
        number: Of the last entry; 0 of an empty log.
        hash: Its hash.
    """

    number: int = 0
    hash: str = START

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the head that a text such as "12:5f3a..." names.

        Raises:
            PrivacyError: It names none.
        """
        found = re.fullmatch(r"(\d{1,15}):([0-9a-f]{64})", text.strip())
        if not found:
            raise PrivacyError(
                f"expected the head of an audit log, a number, a colon and 64 digits 0-9 a-f, as "
                f"`trackletgait audit head` prints it, got {text.strip()[:80]!r}"
            )
        return cls(int(found[1]), found[2])


def parsed(line: bytes) -> AuditEntry | None:
    """Return the entry of a line; None when it is none, or not written as we write it."""
    try:
        entry = AuditEntry(**json.loads(line))
        has_types = isinstance(entry.number, int) and isinstance(entry.details, dict)
        return entry if has_types and entry.as_bytes() == line else None
    except (ValueError, TypeError, RecursionError):
        return None


def _as_bytes(data: Mapping[str, Any]) -> bytes:
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def _hash(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(_as_bytes(data)).hexdigest()


def chained(before: AuditHead, at_unix_s: float, content: Mapping[str, Any]) -> AuditEntry:
    """Return the entry of what `checked` returned, after the entry that `before` tells of."""
    data = {"number": before.number + 1, "at_unix_s": at_unix_s, **content, "before": before.hash}
    return AuditEntry(**data, hash=_hash(data))


def hash_of(entry: AuditEntry) -> str:
    """Return the hash that an entry of this content has to have."""
    data = asdict(entry)
    del data["hash"]
    return _hash(data)


def checked(action: str, who: str, subject: str, details: Mapping[str, Detail]) -> dict[str, Any]:
    """Return what an entry is to hold: passwords in addresses hidden, long texts and lists cut.

    Raises:
        ValueError: It holds what must not be in a log that is never erased, or far too much.
    """
    if not _ACTION.fullmatch(action):
        raise ValueError(f"action: expected a word of small letters, digits and -, got {action!r}")
    content = {
        "action": action,
        "who": _clean_text(who),
        "subject": _clean_text(subject),
        "details": {key: _detail(key, value) for key, value in details.items()},
    }
    if len(_as_bytes(content)) > LONGEST_LINE - 1000:
        raise ValueError(f"details: expected what fits a line of {LONGEST_LINE} bytes")
    return content


def _detail(key: str, value: Detail) -> Detail:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    is_secret = bool(_SECRET_KEY.search(key))
    if isinstance(value, str) and not is_secret:
        return _clean_text(value)
    if isinstance(value, list | tuple) and not is_secret and all(map(_is_text, value)):
        more = [f"and {len(value) - _MOST_TEXTS} more"] if len(value) > _MOST_TEXTS else []
        return [_clean_text(text, _LONGEST_IN_LIST) for text in value[:_MOST_TEXTS]] + more
    raise ValueError(
        f"details.{key}: expected a text, a finite number or texts, and nothing secret, got "
        f"{type(value).__name__}: it would be in the log for good"
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _clean_text(text: str, most: int = _LONGEST_TEXT) -> str:
    """Return a text as UTF-8 can hold it, not too long, without the password of an address."""
    text = text.encode("utf-8", "backslashreplace").decode()
    text = _QUERY_SECRET.sub(r"\1***", _LOGIN.sub("://***@", text))
    return text if len(text) <= most else text[: most - 3] + "..."
