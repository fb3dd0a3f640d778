"""What is kept of a person: identities and their exemplars, and how embeddings are written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gait.tracklet import Tracklet
from pipeline.errors import GalleryError
from pipeline.values import Embedding

EMBEDDING_SHAPE = (256, 16)
_STORED = np.dtype("<f2")  # half the disk of float32; errs by one part in 2000 of each number


@dataclass(frozen=True, slots=True)
class Identity:
    """One person of the gallery.

    Attributes:
        id: Key in the gallery.
        pseudonym: The name that is shown, such as "person-001".
    """

    id: int
    pseudonym: str


@dataclass(frozen=True, slots=True, eq=False)
class Exemplar:
    """One tracklet kept to recognise a person by.

    Attributes:
        tracklet_uid: Uid of the tracklet, or of the walk's first one where it continues another.
        stream: Name of the camera or file.
        track_id: The track it was cut from.
        times_s: First and last silhouette, in seconds on the stream's clock.
        quality: Quality of the tracklet in 0..1.
        num_silhouettes: Silhouettes the embedding tells of.
        continues: Whether it tells more of a walk of which another tracklet told before.
        embedding: Shape (256, 16), float32, rounded to what the store keeps: a gallery that was
            closed and opened again answers as it did before.
    """

    tracklet_uid: str
    stream: str
    track_id: int
    times_s: tuple[float, float]
    quality: float
    num_silhouettes: int
    embedding: Embedding
    continues: bool = False

    @classmethod
    def of(cls, tracklet: Tracklet, embedding: Embedding) -> Exemplar:
        """Return what is kept of `tracklet`.

        Raises:
            ValueError: The tracklet has no silhouettes, or the embedding has another shape or
                holds numbers that are not finite.
        """
        if not len(tracklet):
            raise ValueError(
                f"{tracklet.uid}: expected a tracklet with silhouettes, got one without; "
                f"such tracklets have no embedding and go to `note`"
            )
        return cls(
            tracklet_uid=tracklet.uid,
            stream=tracklet.stream,
            track_id=tracklet.track_id,
            times_s=(float(tracklet.times_s[0]), float(tracklet.times_s[-1])),
            quality=tracklet.quality,
            num_silhouettes=tracklet.offset + len(tracklet),
            embedding=_rounded(embedding, tracklet.uid),
            continues=tracklet.offset > 0,
        )


def _rounded(embedding: Embedding, uid: str) -> Embedding:
    if embedding.shape != EMBEDDING_SHAPE:
        raise ValueError(
            f"{uid}: expected an embedding of shape {EMBEDDING_SHAPE}, got {embedding.shape}"
        )
    with np.errstate(over="ignore"):
        rounded = embedding.astype(_STORED).astype(np.float32)
    if not np.isfinite(rounded).all():
        raise ValueError(
            f"{uid}: expected an embedding of finite numbers below {np.finfo(_STORED).max:.0f}, "
            f"got {_oddest(embedding)}; look at the weights and the silhouettes"
        )
    return rounded


def _oddest(embedding: Embedding) -> float:
    """Return a number that is not finite if there is one, else the largest."""
    odd = embedding[~np.isfinite(embedding)]
    return float(odd[0] if len(odd) else np.abs(embedding).max())


def pack_embedding(embedding: NDArray[np.float32]) -> bytes:
    """Return an embedding as 256 x 16 little-endian float16 numbers."""
    return embedding.astype(_STORED).tobytes()


def unpack_embedding(blob: bytes, *, where: str) -> Embedding:
    """Return the embedding written by `pack_embedding`, as float32.

    Raises:
        GalleryError: The blob has another length or holds numbers that are not finite.
    """
    expected = _STORED.itemsize * EMBEDDING_SHAPE[0] * EMBEDDING_SHAPE[1]
    if len(blob) != expected:
        raise GalleryError(
            f"{where}: expected an embedding of {expected} bytes, got {len(blob)}; the gallery is "
            f"damaged: restore it from a backup"
        )
    embedding = np.frombuffer(blob, dtype=_STORED).reshape(EMBEDDING_SHAPE).astype(np.float32)
    if not np.isfinite(embedding).all():
        raise GalleryError(
            f"{where}: expected finite numbers in the embedding; the gallery is damaged: "
            f"restore it from a backup"
        )
    return embedding
