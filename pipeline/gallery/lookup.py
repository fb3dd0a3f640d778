"""Whom the people on a video are nearest to, told without deciding anything."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.gallery.enrolment import Walk, Walks
from pipeline.gallery.exemplar import Identity
from pipeline.gallery.known import Known
from pipeline.gallery.store import GalleryStore


@dataclass(frozen=True, slots=True)
class Answer:
    """Who somebody on a video may be.

    Attributes:
        walk: The track.
        nearest: The nearest people and their distances, nearest first.
    """

    walk: Walk
    nearest: tuple[tuple[Identity, float], ...]


def look_up(store: GalleryStore, found: Walks, *, count: int) -> list[Answer]:
    """Return who of a gallery the people on a video are nearest to, but for expired enrolments.

    Args:
        store: Opened with the hash of the model that `found` was embedded by.
        found: Who walks on the video.
        count: How many people of the gallery for each.

    Raises:
        GalleryError: The gallery cannot be read.
    """
    known = Known(store)
    expired = {key for key, each in known.identities.items() if store.has_expired(each)}
    answers = []
    for walk in (each for each in found.walks if each.tracklets):
        barred = [expired] * len(walk.embeddings)
        nearest: dict[int, float] = {}
        for neighbours in known.matrix.search_owners(walk.embeddings, k=count, barred=barred):
            for each in neighbours:
                nearest[each.owner] = min(each.distance, nearest.get(each.owner, float("inf")))
        ordered = sorted(nearest.items(), key=lambda pair: pair[1])[:count]
        people = tuple((known.identities[owner], distance) for owner, distance in ordered)
        answers.append(Answer(walk, people))
    return answers
