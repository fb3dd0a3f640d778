"""What is kept of a person: identities and their exemplars, and which of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gait.distance import euclidean
from gait.tracklet import Tracklet
from pipeline.errors import GalleryError
from pipeline.values import Embedding

EMBEDDING_SHAPE = (256, 16)
STORED = np.dtype("<f2")  # half the disk of float32; errs by one part in 2000 of each number


@dataclass(frozen=True, slots=True)
class Identity:
    """One person of the gallery.

    Attributes:
        id: Key in the gallery.
        pseudonym: The name that is shown, such as "person-001".
        name: Of a person who was enrolled.
        expires_s: When the enrolment ends, in Unix time; from then on nobody is recognised as them.
    """

    id: int
    pseudonym: str
    name: str | None = None
    expires_s: float | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        """The name where there is one, else the pseudonym."""
        return self.pseudonym if self.name is None else self.name


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What must be known of an enrolment beside who.

    Attributes:
        basis: What allows it, such as "consent of 2026-03-01, folder 12".
        purpose: What the person is to be recognised for.
        by: Who enrols.
        expires_s: When the person is to be forgotten, in Unix time; None leaves it open.
    """

    basis: str
    purpose: str | None = None
    by: str | None = None
    expires_s: float | None = None


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
        silhouettes: Shape (T, 64, 44), uint8: those of the tracklet, from which another model can
            embed it again; None where they are not at hand.
    """

    tracklet_uid: str
    stream: str
    track_id: int
    times_s: tuple[float, float]
    quality: float
    num_silhouettes: int
    embedding: Embedding
    continues: bool = False
    silhouettes: NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, tracklet: Tracklet, embedding: Embedding) -> Exemplar:
        """Return what is kept of `tracklet`.

        Raises:
            ValueError: The tracklet has no silhouettes.
            UnusableEmbedding: The embedding has another shape or holds numbers that are not finite.
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
            embedding=rounded_embedding(embedding, tracklet.uid),
            continues=tracklet.offset > 0,
            silhouettes=tracklet.silhouettes,
        )


def within_budget(
    embeddings: NDArray[np.float32], qualities: Sequence[float], budget: int
) -> list[int]:
    """Return which `budget` of a person's exemplars to keep, in their order: those that tell most.

    They are to stand for all. So one after the other that one is taken which brings all of them
    nearest to what is kept, each as important as its quality (the greedy k-medoids of Kaufman and
    Rousseeuw, Finding Groups in Data, 1990, section 2.4.1: BUILD); of equals it is the older one.
    What is kept shows the person from many sides without anybody having to know from which, and
    odd ones, which are like no other, come last.

    Args:
        embeddings: Shape (N, 256, 16), oldest first.
        qualities: N of them, in 0..1.
        budget: The most to keep, at least 1.
    """
    if len(embeddings) <= budget:
        return list(range(len(embeddings)))
    weights = np.asarray(qualities)
    distances = euclidean(embeddings, embeddings)
    to_kept = np.full(len(embeddings), np.inf)
    kept: list[int] = []
    for _ in range(budget):
        costs = weights @ np.minimum(to_kept[:, np.newaxis], distances)
        costs[kept] = np.inf
        kept.append(int(np.argmin(costs)))
        to_kept = np.minimum(to_kept, distances[:, kept[-1]])
    return sorted(kept)


class UnusableEmbedding(GalleryError, ValueError):
    """An embedding that nothing can be compared with: a bad argument, or bad weights."""


def rounded_embedding(embedding: Embedding, uid: str) -> Embedding:
    """Return an embedding as it will be when it is read back.

    Raises:
        UnusableEmbedding: It has another shape, or holds numbers that are not finite.
    """
    if embedding.shape != EMBEDDING_SHAPE:
        raise UnusableEmbedding(
            f"{uid}: expected an embedding of shape {EMBEDDING_SHAPE}, got {embedding.shape}"
        )
    with np.errstate(over="ignore"):
        rounded = embedding.astype(STORED).astype(np.float32)
    if not np.isfinite(rounded).all():
        raise UnusableEmbedding(
            f"{uid}: expected an embedding of finite numbers below {np.finfo(STORED).max:.0f}, "
            f"got {_oddest(embedding)}; look at the weights and the silhouettes"
        )
    return rounded


def _oddest(embedding: Embedding) -> float:
    """Return a number that is not finite if there is one, else the largest."""
    odd = embedding[~np.isfinite(embedding)]
    return float(odd[0] if len(odd) else np.abs(embedding).max())
