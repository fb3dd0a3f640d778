"""What a store says of what it holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import GalleryError
from pipeline.gallery.exemplar import Enrolment, Exemplar, Identity
from pipeline.values import Embedding


class Outdated(GalleryError):
    """What was asked for is not, or no more, what the gallery holds."""


class UnknownPerson(Outdated):
    """Somebody who is not, or no more, in the gallery."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredExemplar:
    """An exemplar as it is read back.

    Attributes:
        id: Key in the gallery.
        identity: Whose it is.
        quality: Quality of the tracklet in 0..1.
        embedding: Shape (256, 16), float32.
    """

    id: int
    identity: Identity
    quality: float
    embedding: Embedding


@dataclass(frozen=True, slots=True)
class Person:
    """One identity with all that is recorded of it.

    Attributes:
        identity: Who.
        created_s: When the identity was founded, in Unix time.
        enrolment: What allows it; None for a pseudonym.
        enrolled_s: When the person was enrolled, in Unix time.
        num_exemplars: Tracklets kept.
        num_with_silhouettes: How many of these could be embedded by another model.
    """

    identity: Identity
    created_s: float
    enrolment: Enrolment | None
    enrolled_s: float | None
    num_exemplars: int
    num_with_silhouettes: int


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """One exemplar with all that is kept of it.

    Attributes:
        id: Key in the gallery.
        identity_id: Whose it is.
        tracklet_uid: Uid of the tracklet, or of the walk's first one.
        stream: Name of the camera or file.
        track_id: The track it was cut from.
        times_s: First and last silhouette, in seconds on the stream's clock.
        quality: Quality of the tracklet in 0..1.
        num_silhouettes: Silhouettes the embedding tells of.
        created_s: When it was written, in Unix time.
        embedding: Shape (256, 16), float32; None where only the rest was asked for.
        silhouettes: Shape (T, 64, 44), uint8; None where they are not kept or not asked for.
        has_silhouettes: Whether they are kept.
    """

    id: int
    identity_id: int
    tracklet_uid: str
    stream: str
    track_id: int
    times_s: tuple[float, float]
    quality: float
    num_silhouettes: int
    created_s: float
    embedding: Embedding | None
    silhouettes: NDArray[np.uint8] | None
    has_silhouettes: bool


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """What became of a gallery since one of its revisions; applied in this order.

    Attributes:
        revision: What these changes lead to; the next ones are asked for since then.
        is_everything: Whether this is all there is, because what was removed is not remembered
            back to the revision that was asked for: forget all, and take this.
        removed_exemplars: Keys of exemplars that are gone.
        removed_identities: Keys of identities that are gone.
        identities: Those that are new, or have another name.
        exemplars: Those that are new, belong to somebody else now, or were embedded again.
    """

    revision: int
    is_everything: bool
    removed_exemplars: tuple[int, ...]
    removed_identities: tuple[int, ...]
    identities: tuple[Identity, ...]
    exemplars: tuple[StoredExemplar, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """Somebody who comes from another gallery.

    Attributes:
        name: Of an enrolled person; None for one known by a pseudonym, which is given anew.
        enrolment: What allows a name.
        enrolled_s: When the person was enrolled there, in Unix time.
        exemplars: At least one.
    """

    name: str | None
    enrolment: Enrolment | None
    enrolled_s: float | None
    exemplars: tuple[Exemplar, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """People who come from another gallery.

    Attributes:
        source: Where from, for errors.
        model_hash: Of the model that embedded them.
        people: Each of them.
    """

    source: str
    model_hash: str
    people: tuple[Arrival, ...]
