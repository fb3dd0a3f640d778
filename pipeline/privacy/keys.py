"""The site's secret: from one key come those that seal, that name and that sign.

A key is 32 random bytes in base64. The first of a file seals and signs, all of them open: to
rotate, put a new one before the others. Each use takes a key of its own that is derived from it,
so what one use gives away helps nobody against another.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import secrets
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from gait.data.atomic import PARTIAL_SUFFIX
from gait.strict import StrictModel
from pipeline.errors import ConfigError, PrivacyError

KEY_BYTES = 32
_MOST_KEYS = 100
_MOST_FILE_BYTES = 10_000
_HEAD = "# Secret keys of trackletgait. The first seals and signs, all open. Keep a copy apart.\n"


class KeyConfig(StrictModel):
    """Where the site's keys are; one of the two.

    Attributes:
        variable: Environment variable that holds them, separated by blanks. Leaves nothing on
            the disk, at the price of being visible to whoever may look into the process.
        file: File that holds them, a line each, which only its owner may read. Outlives a
            restart, at the price of lying beside what it protects unless it is kept apart.
    """

    variable: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    file: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Self:
        if (self.variable is None) == (self.file is None):
            raise ValueError("expected either variable or file")
        return self


def read_keys(config: KeyConfig) -> tuple[bytes, ...]:
    """Return the site's keys, 32 bytes each, the one to use first.

    Raises:
        ConfigError: They are missing, others may read the file, or it holds no keys.
    """
    if config.variable is not None:
        where = f"environment variable {config.variable}"
        text = os.environ.get(config.variable, "")
        if not text.strip():
            raise ConfigError(
                f"{where}: expected the site's key, it is not set; make one with "
                "`trackletgait privacy key FILE`"
            )
        return _parse(text.split(), where)
    assert config.file is not None
    lines = _read(Path(config.file)).splitlines()
    words = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return _parse(words, config.file)


def make_key_file(path: Path, *, rotate: bool = False) -> int:
    """Write a file with a new key, which only its owner may read, and return how many it holds.

    Args:
        path: The file.
        rotate: Put the new key before those that are there instead of refusing.

    Raises:
        ConfigError: There is a file already, or, to rotate, none that holds keys.
        PrivacyError: It cannot be written; what was there is still there.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: expected the name of a file, got a folder")
    if path.exists() and not rotate:
        raise ConfigError(
            f"{path}: a key is there already; what it sealed would be lost with it. Give another "
            "path, or --rotate to put a new key before it"
        )
    old = read_keys(KeyConfig(file=str(path))) if rotate else ()
    keys = (secrets.token_bytes(KEY_BYTES), *old)
    text = _HEAD + "".join(base64.b64encode(key).decode() + "\n" for key in keys)
    _write(path, text.encode("ascii"))
    return len(keys)


def derived(key: bytes, use: Literal["seal", "name", "sign"]) -> bytes:
    """Return the 32 bytes that serve one use of a key (one block of HKDF-Expand, RFC 5869)."""
    return hmac.digest(key, f"trackletgait {use}".encode() + b"\x01", "sha256")


def check_keys(keys: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return the keys.

    Raises:
        ValueError: There is none, or one has another length than 32 bytes.
    """
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise ValueError(
            f"expected at least one key, each of {KEY_BYTES} bytes, got lengths "
            f"{[len(key) for key in keys]}"
        )
    return keys


def _write(path: Path, data: bytes) -> None:
    """Write a file that at no moment anybody but its owner may read."""
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise PrivacyError(f"{path}: the key cannot be written: {error.strerror}") from error


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise ConfigError(f"{path}: others may read this secret key: chmod 600 it")
            data = file.read(_MOST_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: the key cannot be read: {error.strerror or error}") from error
    if len(data) > _MOST_FILE_BYTES:
        raise ConfigError(f"{path}: expected keys, got a file that is far too long")
    return data.decode("ascii", "replace")


def _parse(words: list[str], where: str) -> tuple[bytes, ...]:
    """Return the keys of a text; no error shows any of it."""
    keys = []
    for number, word in enumerate(words, start=1):
        try:
            key = base64.b64decode(word, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise ConfigError(
                f"{where}: key {number}: expected {KEY_BYTES} bytes in base64 (44 characters); "
                "make one with `trackletgait privacy key FILE`"
            ) from None
        keys.append(key)
    if not 1 <= len(keys) <= _MOST_KEYS:
        raise ConfigError(f"{where}: expected 1 to {_MOST_KEYS} keys, got {len(keys)}")
    return tuple(keys)
