"""Who may speak to whom: CURVE keys of senders and receivers, and where plain text is allowed.

Every machine has a key of its own, NAME.key, which never leaves it, and NAME.pub, which the other
side needs. The files are ZeroMQ certificates, so other programs read them too.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import zmq
import zmq.auth
from zmq.utils import z85

from pipeline.errors import ConfigError, LinkError

logger = logging.getLogger(__name__)

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_MOST_FILE_BYTES = 10_000


@dataclass(frozen=True, slots=True)
class KeyPair:
    """The key of one machine.

    Attributes:
        name: Whose it is: the file's name.
        public: What others know, 40 bytes of Z85 text.
        secret: What only its owner knows, likewise.
    """

    name: str
    public: bytes
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SenderKeys:
    """What a sender needs: its own key and the receiver's public one.

    Its name is the name under which the receiver allows it.
    """

    own: KeyPair
    receiver: bytes

    @classmethod
    def read(cls, own: Path, receiver: Path) -> SenderKeys:
        """Return the keys of two files, NAME.key and the receiver's NAME.pub.

        Raises:
            ConfigError: A file is missing or is no key.
        """
        return cls(read_key(own), read_public_key(receiver))


@dataclass(frozen=True, slots=True)
class ReceiverKeys:
    """What a receiver needs: its own key and the folder of the senders it allows.

    The folder holds the NAME.pub of every sender. It is read anew when somebody connects: a file
    that is added lets a sender in, one that is taken away keeps it from connecting again.
    """

    own: KeyPair
    allowed: Path

    @classmethod
    def read(cls, own: Path, allowed: Path) -> ReceiverKeys:
        """Return the key of a file, and the folder.

        Raises:
            ConfigError: The file is missing or is no key, or the folder is missing.
        """
        if not allowed.is_dir():
            raise ConfigError(f"{allowed}: expected a folder with the .pub files of the senders")
        return cls(read_key(own), allowed)

    def name_of(self, public: bytes) -> str | None:
        """Return under which name a public key is allowed; None when it is not."""
        for path in sorted(self.allowed.glob("*.pub")):
            try:
                if read_public_key(path) == public and re.fullmatch(NAME_PATTERN, path.stem):
                    return path.stem
            except ConfigError as error:
                logger.warning("not a sender's key: %s", error)
        return None


def make_keys(name: str, folder: Path) -> tuple[Path, Path]:
    """Write NAME.key, which only its owner may read, and NAME.pub, and return both paths.

    Raises:
        ConfigError: The name cannot be one, or there is a key of this name: it is never replaced.
        LinkError: The files cannot be written.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(
            f"name: expected letters, digits, '.', '_' and '-', at most 64, got {name!r}"
        )
    public, secret = (key.decode() for key in zmq.curve_keypair())
    head = f'# trackletgait key of {name}\nmetadata\ncurve\n    public-key = "{public}"\n'
    texts = {
        folder / f"{name}.key": (0o600, f'{head}    secret-key = "{secret}"\n'),
        folder / f"{name}.pub": (0o644, head),
    }
    for path in texts:
        if path.exists():
            raise ConfigError(f"{path}: a key of this name exists; give another name or folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, (mode, text) in texts.items():
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
                file.write(text)
    except OSError as error:
        raise LinkError(f"{folder}: the keys cannot be written: {error.strerror}") from error
    return folder / f"{name}.key", folder / f"{name}.pub"


def read_key(path: Path) -> KeyPair:
    """Return the key of a .key file, and warn when others than its owner may read it.

    Raises:
        ConfigError: It is missing, cannot be read, or holds no secret key.
    """
    public, secret = _read(path)
    if secret is None:
        raise ConfigError(f"{path}: expected a secret key; is this the .pub file?")
    if path.stat().st_mode & 0o077:
        logger.warning("%s: others may read this secret key: chmod 600 it", path)
    return KeyPair(path.stem, public, secret)


def read_public_key(path: Path) -> bytes:
    """Return the public key of a .pub file.

    Raises:
        ConfigError: It is missing, cannot be read, or is no key.
    """
    return _read(path)[0]


def check_endpoint(endpoint: str, *, has_keys: bool, insecure: bool) -> None:
    """Refuse an address that is none, or that would carry plain text between machines.

    Raises:
        ConfigError: Says what to do.
    """
    scheme, _, address = endpoint.partition("://")
    is_tcp = scheme == "tcp" and _has_port(address)
    if not is_tcp and not (scheme == "ipc" and address):
        raise ConfigError(f"expected tcp://HOST:PORT (up to 65535) or ipc://PATH, got {endpoint!r}")
    if has_keys or insecure or scheme == "ipc" or _is_loopback(endpoint):
        return
    raise ConfigError(
        f"{endpoint}: expected keys, since this address is reached from other machines and "
        "silhouettes would cross the network unencrypted, from anybody. Make keys with "
        "`trackletgait keys NAME`, or say that you accept this with --insecure"
    )


def _has_port(address: str) -> bool:
    host, _, port = address.rpartition(":")
    return bool(host) and (port == "*" or (port.isdecimal() and 0 < int(port) <= 65535))


def _is_loopback(endpoint: str) -> bool:
    try:
        host = urlsplit(endpoint).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, or *
        return False


def _read(path: Path) -> tuple[bytes, bytes | None]:
    try:
        if path.stat().st_size > _MOST_FILE_BYTES:
            raise ValueError("too long")
        public, secret = zmq.auth.load_certificate(path)
        for key in (public, secret):
            if key is not None and (len(key) != 40 or len(z85.decode(key)) != 32):
                raise ValueError("expected 40 characters")
    except OSError as error:
        raise ConfigError(f"{path}: the key cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError) as error:  # without its text, which may hold the key
        raise ConfigError(
            f"{path}: expected a key made by `trackletgait keys`; this is none"
        ) from error
    return public, secret
