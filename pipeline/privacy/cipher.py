"""Encryption at rest: what the disk holds says nothing without the site's key."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pipeline.errors import PrivacyError
from pipeline.privacy.keys import KeyConfig, check_keys, derived, read_keys

_MAGIC = b"TGS\x01"
_ID_BYTES = 8
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEADER_BYTES = len(_MAGIC) + _ID_BYTES

OVERHEAD_BYTES = _HEADER_BYTES + _NONCE_BYTES + _TAG_BYTES
"""By how much a sealed blob is longer than what is in it."""


class Cipher:
    """Seals blobs with AES-256-GCM, so that they are secret and cannot be changed or moved.

        cipher = Cipher.load(KeyConfig(file="/etc/trackletgait/site.key"))
        row.embedding = cipher.seal(blob, of=b"exemplar 12")
        blob = cipher.open(row.embedding, of=b"exemplar 12")

    A sealed blob is 40 bytes longer: a mark, which key it was, a random nonce, and the tag.

    Args:
        keys: 32 bytes each. The first seals, all of them open.

    Raises:
        ValueError: There is no key, or one has another length.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        sealing = [derived(key, "seal") for key in check_keys(tuple(keys))]
        self._ciphers = {_key_id(key): AESGCM(key) for key in sealing}
        self._current = _key_id(sealing[0])

    @classmethod
    def load(cls, config: KeyConfig) -> Self:
        """Return the cipher of the site's keys.

        Raises:
            ConfigError: The keys are missing, readable by others, or none.
        """
        return cls(read_keys(config))

    def seal(self, plain: bytes, *, of: bytes) -> bytes:
        """Return `plain` sealed.

        Args:
            plain: What nobody else may read.
            of: What it belongs to, such as its table and row: it opens only as that again.
        """
        header = _MAGIC + self._current
        # Random nonces are safe up to 2^32 blobs a key: more than any gallery ever writes.
        nonce = os.urandom(_NONCE_BYTES)
        return header + nonce + self._ciphers[self._current].encrypt(nonce, plain, header + of)

    def open(self, sealed: bytes, *, of: bytes) -> bytes:
        """Return what `seal` was given.

        Raises:
            PrivacyError: It is not sealed, none of the keys sealed it, it was changed, or it
                belongs to something else.
        """
        if not is_sealed(sealed):
            raise PrivacyError(
                f"expected a sealed blob, got {len(sealed)} bytes that are none: it was stored "
                "without encryption, or is damaged"
            )
        header, rest = sealed[:_HEADER_BYTES], sealed[_HEADER_BYTES:]
        cipher = self._ciphers.get(header[len(_MAGIC) :])
        if cipher is None:
            raise PrivacyError(
                f"sealed with key {header[len(_MAGIC) :].hex()}, which is not among the "
                f"{len(self._ciphers)} given; add the key it was sealed with after the others"
            )
        try:
            return cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], header + of)
        except InvalidTag as error:
            raise PrivacyError(
                "a sealed blob was changed, or moved from another place: what it held cannot be "
                "trusted; restore it from a backup"
            ) from error

    def is_current(self, sealed: bytes) -> bool:
        """Return whether a blob is sealed with the first key; if not, rotation seals it anew."""
        return is_sealed(sealed) and sealed[len(_MAGIC) : _HEADER_BYTES] == self._current


def is_sealed(blob: bytes) -> bool:
    """Return whether a blob looks as `Cipher.seal` leaves it."""
    return blob.startswith(_MAGIC) and len(blob) >= OVERHEAD_BYTES


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"trackletgait key id" + key).digest()[:_ID_BYTES]
