"""Files a machine may make anew at any time: compiled engines, exported graphs, verdicts.

They lie in one folder that only its owner may write to, because some of them are programs: whoever
can change an engine can run code. Nothing is ever taken from anywhere else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from gait.errors import RuntimeUnavailable

CACHE_VARIABLE = "TRACKLETGAIT_CACHE"
_ADVICE = f"set {CACHE_VARIABLE} to a folder of your own"


def cache_folder() -> Path:
    """Return the folder of the cache, made with mode 0700 if it was not there.

    It is `$TRACKLETGAIT_CACHE`, else `$XDG_CACHE_HOME/trackletgait`, else `~/.cache/trackletgait`,
    with every symbolic link on the way followed.

    Raises:
        RuntimeUnavailable: It cannot be made, belongs to somebody else, or others may write to it.
    """
    wanted = _wanted_folder()
    try:
        wanted.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = wanted.resolve(strict=True)
        status = folder.stat()
    except OSError as error:
        raise RuntimeUnavailable(
            f"cache folder {wanted}: cannot use it ({error.strerror or error}); {_ADVICE}"
        ) from error
    _check_private(folder, status, f"chmod go-w it, or {_ADVICE}")
    return folder


def entry(kind: str, key: Mapping[str, str], suffix: str) -> Path:
    """Return where in the cache something of this key lies, or would lie.

    Args:
        kind: What it is, the readable beginning of the file's name.
        key: All it depends on. Another key is another file.
        suffix: The end of the file's name, such as ".json".

    Raises:
        RuntimeUnavailable: The cache folder cannot be used.
        ValueError: `kind` or `suffix` cannot be part of a file's name.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,63}", kind, re.ASCII):
        raise ValueError(f"kind: expected letters, digits and -, got {kind!r}")
    if not re.fullmatch(r"(\.[A-Za-z0-9]{1,16})*", suffix, re.ASCII):
        raise ValueError(f"suffix: expected a dot and letters such as .json, got {suffix!r}")
    whole_key = json.dumps(dict(key), sort_keys=True).encode()
    return cache_folder() / f"{kind}-{hashlib.sha256(whole_key).hexdigest()}{suffix}"


def store(path: Path, content: bytes) -> None:
    """Put `content` at `path`, mode 0600: all of it, or what was there before.

    Of several processes that store at once, the last one's content stays.

    Raises:
        RuntimeUnavailable: It cannot be written.
    """
    partial: str | None = None
    try:
        # mkstemp makes the file with mode 0600 and a name of its own for every thread.
        descriptor, partial = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=".part", dir=path.parent
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(partial, path)
    except BaseException as error:
        if partial is not None:
            discard(Path(partial))
        if isinstance(error, OSError):
            raise RuntimeUnavailable(
                f"{path}: cannot write it ({error.strerror or error}); make room, or {_ADVICE}"
            ) from error
        raise


def load(path: Path) -> bytes | None:
    """Return what was stored at `path`, or None when there is nothing.

    Raises:
        RuntimeUnavailable: It is a symbolic link or no ordinary file, belongs to somebody else,
            others may write to it, or it cannot be read.
    """
    try:
        # Without O_NONBLOCK a named pipe in the file's place would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise RuntimeUnavailable(f"{path}: expected an ordinary file; remove it")
            _check_private(path, status, "remove it")
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:  # a symbolic link is ELOOP, a folder is EISDIR
        raise RuntimeUnavailable(
            f"{path}: expected an ordinary file that can be read ({error.strerror or error}); "
            "remove it"
        ) from error


def discard(path: Path) -> None:
    """Remove the file if it is there and can be removed."""
    with contextlib.suppress(OSError):
        path.unlink()


def _wanted_folder() -> Path:
    try:
        if own := os.environ.get(CACHE_VARIABLE):
            return Path(own).expanduser()
        shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
        # The XDG specification has relative paths ignored.
        base = shared if shared.is_absolute() else Path.home() / ".cache"
    except RuntimeError as error:  # no home folder
        raise RuntimeUnavailable(f"cache folder: {error}; {_ADVICE}") from error
    return base / "trackletgait"


def _check_private(path: Path, status: os.stat_result, advice: str) -> None:
    if status.st_uid != os.geteuid():
        raise RuntimeUnavailable(
            f"{path}: expected it to belong to the user who runs this (uid {os.geteuid()}), got "
            f"uid {status.st_uid}; {_ADVICE}"
        )
    if status.st_mode & 0o022:
        raise RuntimeUnavailable(
            f"{path}: expected that only its owner may write to it, got mode "
            f"{stat.S_IMODE(status.st_mode):04o}; {advice}"
        )
