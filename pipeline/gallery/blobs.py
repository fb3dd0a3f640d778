"""How embeddings and silhouettes are written into a row, sealed when the site has a key."""

from __future__ import annotations

import zlib
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from gait.tracklet import SILHOUETTE_HW
from pipeline.errors import GalleryError, PrivacyError
from pipeline.gallery.exemplar import EMBEDDING_SHAPE, STORED
from pipeline.gallery.tables import ExemplarRow
from pipeline.privacy.cipher import Cipher, is_sealed
from pipeline.values import Embedding

MOST_SILHOUETTES = 720
"""Kept of one walk: as many as the encoder looks at."""

_BYTES_EACH = SILHOUETTE_HW[0] * SILHOUETTE_HW[1]
_RESTORE = "the gallery is damaged: restore it from a backup"


class Blobs:
    """Packs what an exemplar holds, and unpacks it without trusting it.

    Args:
        name: The gallery's, for errors.
        cipher: Seals what is written, each blob to its row; None writes and reads plainly.
    """

    def __init__(self, name: str, cipher: Cipher | None) -> None:
        self._name = name
        self._cipher = cipher

    def need_cipher(self) -> None:
        """Refuse to go on without the key of a gallery that is sealed.

        Raises:
            GalleryError: There is none.
        """
        if self._cipher is None:
            raise GalleryError(
                f"{self._name}: what it holds is sealed: configure the site's key (gallery.key)"
            )

    def pack_embedding(self, key: int, embedding: Embedding) -> bytes:
        """Return an embedding as 256 x 16 little-endian float16 numbers."""
        return self._sealed(embedding.astype(STORED).tobytes(), key, "embedding")

    def unpack_embedding(self, key: int, blob: bytes) -> Embedding:
        """Return the embedding that was packed for exemplar `key`, as float32.

        Raises:
            GalleryError: The blob has another length, holds numbers that are not finite, or is
                sealed with another key or for another exemplar.
        """
        plain = self._opened(blob, key, "embedding")
        expected = STORED.itemsize * EMBEDDING_SHAPE[0] * EMBEDDING_SHAPE[1]
        if len(plain) != expected:
            self._refuse(key, f"an embedding of {expected} bytes, got {len(plain)}", plain)
        embedding = np.frombuffer(plain, dtype=STORED).reshape(EMBEDDING_SHAPE)
        if not np.isfinite(embedding).all():
            self._refuse(key, "finite numbers in the embedding", plain)
        return embedding.astype(np.float32)

    def pack_silhouettes(self, key: int, silhouettes: NDArray[np.uint8]) -> bytes:
        """Return the last 720 silhouettes without loss as a zlib stream, about 370 bytes each."""
        packing = zlib.compressobj(strategy=zlib.Z_RLE)
        packed = packing.compress(silhouettes[-MOST_SILHOUETTES:].tobytes()) + packing.flush()
        return self._sealed(packed, key, "silhouettes")

    def unpack_silhouettes(self, key: int, blob: bytes) -> NDArray[np.uint8]:
        """Return the silhouettes that were packed for exemplar `key`, 1 to 720.

        Raises:
            GalleryError: The blob holds something else.
        """
        unpacking = zlib.decompressobj()
        most = MOST_SILHOUETTES * _BYTES_EACH
        packed = self._opened(blob, key, "silhouettes")
        try:
            plain = unpacking.decompress(packed, most + 1)
        except zlib.error:
            plain = b""
        if not (unpacking.eof and 0 < len(plain) <= most) or len(plain) % _BYTES_EACH:
            self._refuse(key, f"1 to {MOST_SILHOUETTES} packed silhouettes", packed)
        return np.frombuffer(plain, np.uint8).reshape(-1, *SILHOUETTE_HW)

    def reseal(self, row: ExemplarRow, *, was_sealed: bool) -> bool:
        """Seal what a row holds with the site's first key; return whether it was not yet."""
        assert self._cipher is not None
        if was_sealed and self._cipher.is_current(row.embedding):
            return False
        row.embedding = self._resealed(row.embedding, row.id, "embedding", was_sealed)
        if row.silhouettes is not None:
            row.silhouettes = self._resealed(row.silhouettes, row.id, "silhouettes", was_sealed)
        return True

    def _resealed(self, blob: bytes, key: int, kind: str, was_sealed: bool) -> bytes:
        return self._sealed(self._opened(blob, key, kind) if was_sealed else blob, key, kind)

    def _sealed(self, plain: bytes, key: int, kind: str) -> bytes:
        return plain if self._cipher is None else self._cipher.seal(plain, of=_place(key, kind))

    def _opened(self, blob: object, key: int, kind: str) -> bytes:
        if not isinstance(blob, bytes):  # SQLite's columns hold whatever a damaged file says
            return b""
        if self._cipher is None:
            return blob
        try:
            return self._cipher.open(blob, of=_place(key, kind))
        except PrivacyError as error:
            raise GalleryError(f"{self._where(key)}: {kind}: {error}") from error

    def _refuse(self, key: int, expected: str, came: bytes) -> NoReturn:
        if self._cipher is None and is_sealed(came):
            self.need_cipher()
        raise GalleryError(f"{self._where(key)}: expected {expected}; {_RESTORE}")

    def _where(self, key: int) -> str:
        return f"{self._name}, exemplar {key}"


def _place(key: int, kind: str) -> bytes:
    """Return what a blob is sealed to: moved to another row or column it does not open."""
    return f"exemplar {key} {kind}".encode()
