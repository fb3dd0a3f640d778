"""Everybody in a store, in memory, kept in step with it whoever writes."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence

import numpy as np

from pipeline.gallery.coarse import CoarseConfig
from pipeline.gallery.exemplar import Identity
from pipeline.gallery.matrix import ExemplarMatrix
from pipeline.gallery.neighbours import Neighbour, Row
from pipeline.gallery.records import StoredExemplar
from pipeline.gallery.store import GalleryStore
from pipeline.values import Embedding

_AT_ONCE = 512


class Known:
    """The people of a store and their exemplars, ready to be searched.

        known = Known(store)
        known.refresh()          # what this or another process has written meanwhile
        known.matrix.search_owners([probe])

    Args:
        store: What is kept; stays open when this is gone.
        only_named: Leave out people without a name.
        coarse: How a large gallery is searched; None searches all of it.

    Raises:
        GalleryError: The store cannot be read.
    """

    def __init__(
        self,
        store: GalleryStore,
        *,
        only_named: bool = False,
        coarse: CoarseConfig | None = None,
    ) -> None:
        self._coarse = coarse
        self.matrix = ExemplarMatrix(coarse=coarse)
        self.identities: dict[int, Identity] = {}
        self._store = store
        self._only_named = only_named
        self._revision = store.revision()
        stored = store.exemplars()
        while some := list(itertools.islice(stored, _AT_ONCE)):
            self._take(some)

    def __len__(self) -> int:
        """How many people are known."""
        return len(self.identities)

    def nearest_of(
        self, person: int, embedding: Embedding, *, without: Collection[int]
    ) -> list[Neighbour]:
        """Return the exemplar of somebody that is nearest to a probe; empty without one.

        Args:
            person: Key of the identity.
            embedding: The probe.
            without: Keys of exemplars that do not count.
        """
        keys = [row.key for row in self.matrix.rows_of(person) if row.key not in without]
        found = [
            Neighbour(key, person, float(self.matrix.parts(embedding, key).mean())) for key in keys
        ]
        return [min(found, key=lambda each: each.distance)] if found else []

    def quality(self, near: Neighbour) -> float | None:
        """Return the quality of an exemplar; None when it is gone."""
        rows = self.matrix.rows_of(near.owner)
        return next((row.quality for row in rows if row.key == near.key), None)

    def refresh(self) -> None:
        """Take over what became of the store.

        Raises:
            GalleryError: It cannot be read, or was embedded again by another model.
        """
        if self._store.revision() == self._revision:
            return
        changes = self._store.changes_since(self._revision)
        if changes.is_everything:
            self.matrix, self.identities = ExemplarMatrix(coarse=self._coarse), {}
        for key in changes.removed_exemplars:
            if key in self.matrix:
                self.matrix.remove(key)
        self._take(changes.exemplars)
        for identity in changes.identities:
            self._name(identity)
        for gone in changes.removed_identities:
            self.identities.pop(gone, None)
        self._revision = changes.revision

    def _take(self, exemplars: Sequence[StoredExemplar]) -> None:
        new = []
        for each in exemplars:
            if not self._name(each.identity):
                continue
            if each.id in self.matrix:
                self.matrix.move(each.id, each.identity.id)
            else:
                new.append(each)
        if new:
            rows = [Row(each.id, each.identity.id, each.quality) for each in new]
            self.matrix.extend(rows, np.stack([each.embedding for each in new]))

    def _name(self, identity: Identity) -> bool:
        """Take note of who somebody is; say whether they are looked for."""
        if self._only_named and identity.name is None:
            return False
        self.identities[identity.id] = identity
        return True
