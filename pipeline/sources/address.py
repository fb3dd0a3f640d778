"""Where a camera is, with its password kept out of everything that is printed.

address = Address.parse("rtsp://guard:${GATE_PASSWORD}@10.0.0.7/stream1")
av.open(address.url)                    # the password in it, percent-encoded
print(address)                          # rtsp://guard:***@10.0.0.7/stream1
print(address.without_secrets(error))   # whatever FFmpeg quoted of it is gone
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote

from pipeline.errors import ConfigError

logger = logging.getLogger(__name__)

HIDDEN = "***"

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:@\[\]/?#]+)(:\d{1,5})?")
_QUERY_SECRET = re.compile(
    r"([?&;](?:password|passwd|pass|pwd|token|auth|key|secret)=)([^&;#\s]+)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Address:
    """A camera's address; `str` and `repr` hide what must not be seen.

    Attributes:
        url: As a library opens it, credentials percent-encoded. Never to be printed.
        shown: The same with `***` for every password.
        secrets: Every spelling of the passwords, the longest first.
    """

    url: str = field(repr=False)
    shown: str
    secrets: tuple[str, ...] = field(repr=False, default=())

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str] | None = None) -> Address:
        """Read an address as people write it.

        `${NAME}` stands for a variable of the environment, taken literally: a value put in user or
        password may hold any character. Credentials that are written out may hold `@ : # ? %`
        too, and `/` in the password; only `user:pa@ss/word@host` has two readings, of which the
        standard's is taken: put such a password into a variable, or write `@` as `%40`.

        Args:
            text: Such as `rtsp://user:password@host:554/path`, a path, or `/dev/video0`.
            environment: Instead of the process's own.

        Raises:
            ConfigError: A variable is not set, or there is no host.
        """
        scheme = _SCHEME.match(text)
        if scheme is None:
            return cls(_filled(text, environment, encoded=False), text)
        credentials, rest = _split(text[scheme.end() :])
        start = scheme.group()
        rest_url = _filled(rest, environment, encoded=True)
        if not _HOST.match(rest_url):
            raise ConfigError(
                f"camera address: expected a host after {start}, got {start}{HIDDEN}; write "
                "rtsp://user:password@host:554/path"
            )
        query_secrets = {match.group(2) for match in _QUERY_SECRET.finditer(rest_url)}
        shown_rest = _QUERY_SECRET.sub(rf"\g<1>{HIDDEN}", rest_url)
        if credentials is None:
            return cls(start + rest_url, start + shown_rest, _spellings(query_secrets))
        user, colon, password = credentials.partition(":")
        user, password = _plain(user, environment), _plain(password, environment)
        login = quote(user, safe="") + colon + quote(password, safe="")
        hidden_login = f"{quote(user, safe='')}{colon}{HIDDEN if colon else ''}"
        return cls(
            f"{start}{login}@{rest_url}",
            f"{start}{hidden_login}@{shown_rest}",
            _spellings(query_secrets | ({password} if password else set())),
        )

    def with_password(self, password: str) -> Address:
        """Return the same address with a password that came from elsewhere, such as a file.

        Raises:
            ConfigError: The address names no user whose password it could be.
        """
        scheme = _SCHEME.match(self.url)
        credentials, rest = _split(self.url[scheme.end() :]) if scheme else (None, "")
        if scheme is None or not credentials:
            raise ConfigError(
                f"camera address: expected a user for the password, got {self.shown}; write "
                "rtsp://user@host:554/path"
            )
        user = credentials.partition(":")[0]
        _, _, shown_rest = self.shown[scheme.end() :].partition("@")
        return Address(
            f"{scheme.group()}{user}:{quote(password, safe='')}@{rest}",
            f"{scheme.group()}{user}:{HIDDEN}@{shown_rest}",
            _spellings({password, *self.secrets}),
        )

    def without_secrets(self, text: object) -> str:
        """Return a text with every spelling of the passwords replaced by `***`."""
        found = str(text)
        for secret in self.secrets:
            found = found.replace(secret, HIDDEN)
        return found

    def __str__(self) -> str:
        return self.shown


def read_password(path: Path, *, key: str = "password_file") -> str:
    """Return the password a file holds: its first line, without the line's end.

    A file that others than its owner may read is used, with a warning in the log: containers mount
    secrets so.

    Args:
        path: The file.
        key: Of the configuration, for errors.

    Raises:
        ConfigError: The file cannot be read, or is empty.
    """
    try:
        with path.open(encoding="utf-8") as file:
            mode, password = os.fstat(file.fileno()).st_mode, file.readline(4096).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"{key}: expected a file with a password, got {path}: {why}") from error
    if not password:
        raise ConfigError(f"{key}: expected a password in the first line of {path}")
    if mode & 0o077:
        logger.warning("%s can be read by others than its owner: chmod 600 it", path)
    return password


def _split(rest: str) -> tuple[str | None, str]:
    """Return credentials, None without any, and host with all that follows."""
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        credentials, _, host = authority.rpartition("@")
        return credentials, host + slash + path
    # What precedes the first slash is no host with a port: the slash belongs to a password.
    if "@" in path and ":" in authority and not _HOST.fullmatch(authority):
        credentials, _, host = rest.rpartition("@")
        return credentials, host
    return None, rest


def _plain(part: str, environment: Mapping[str, str] | None) -> str:
    """Return user or password as the camera knows it."""
    pieces = _VARIABLE.split(part)  # text, name, text, name, ..., text
    return "".join(
        _value(piece, environment) if index % 2 else unquote(piece)
        for index, piece in enumerate(pieces)
    )


def _filled(text: str, environment: Mapping[str, str] | None, *, encoded: bool) -> str:
    def value(match: re.Match[str]) -> str:
        found = _value(match.group(1), environment)
        return quote(found, safe="/:[].-_~") if encoded else found

    return _VARIABLE.sub(value, text)


def _value(name: str, environment: Mapping[str, str] | None) -> str:
    values = os.environ if environment is None else environment
    if name not in values:
        raise ConfigError(
            f"camera address: expected the environment variable {name} to be set, as the address "
            f"has ${{{name}}}; set it, or write %24 for a dollar sign"
        )
    return values[name]


def _spellings(secrets: set[str]) -> tuple[str, ...]:
    """Return the ways a library may quote them, the longest first so that none hides in another."""
    all_spellings = {
        spelling
        for secret in secrets
        for spelling in (
            secret,
            unquote(secret),
            quote(secret),
            quote(secret, safe=""),
            quote(secret, safe="").lower(),
            quote_plus(secret),
        )
    }
    return tuple(sorted(all_spellings, key=lambda each: (-len(each), each)))
