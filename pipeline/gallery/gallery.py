"""Who is known, and how near a tracklet comes to them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from pydantic import Field

from gait.closing import Closing
from gait.distance import euclidean
from gait.tracklet import Tracklet
from pipeline.errors import ConfigError
from pipeline.gallery.exemplar import Exemplar, Identity
from pipeline.gallery.matrix import ExemplarMatrix
from pipeline.gallery.neighbours import Row
from pipeline.gallery.store import GalleryStore
from pipeline.gallery.store_config import StoreConfig
from pipeline.values import Embedding, Match

logger = logging.getLogger(__name__)


class GalleryConfig(StoreConfig):
    """Who may be recognised, and how strictly; `StoreConfig` tells where they are kept.

    Attributes:
        threshold: Largest distance at which two walks are one person's, in the paper's metric
            (mean over 16 parts of Euclidean distances). Higher recognises more people again, at
            the price of taking more strangers for somebody known. It belongs to a model, so null
            takes the encoder's own, and an encoder without one wants a number.
        max_exemplars: Tracklets kept of each person. Higher knows people from more sides, at the
            price of memory (16 KB each) and search time.
        remember_s: How long a track is remembered after it was last heard of, on its stream's
            clock. Higher keeps two people apart who were visible together although the second
            gave its first usable silhouettes only much later, at the price of memory.
    """

    threshold: float | None = Field(default=None, ge=0)
    max_exemplars: int = Field(default=10, ge=1)
    remember_s: float = Field(default=300.0, ge=0)

    def build(self, *, model_hash: str, threshold: float | None) -> Gallery:
        """Return the gallery; the caller closes it.

        Args:
            model_hash: The encoder's; only embeddings of one encoder compare.
            threshold: The encoder's own, for when none is configured.

        Raises:
            ConfigError: There is no threshold.
            GalleryError: The file cannot be opened, or belongs to another model.
        """
        threshold = self.threshold if self.threshold is not None else threshold
        if threshold is None:
            raise ConfigError(
                "gallery.threshold: expected a distance, since these weights bring none; run once "
                "with gallery.threshold=0 and let `python scripts/threshold.py RESULTS` suggest one"
            )
        store = self.open_store(model_hash=model_hash)
        try:
            return Gallery(
                store,
                threshold=threshold,
                max_exemplars=self.max_exemplars,
                remember_s=self.remember_s,
            )
        except BaseException:
            store.close()
            raise


@dataclass(slots=True)
class _Walk:
    """What is remembered of a track's present walk.

    Attributes:
        uid: Of its first tracklet.
        start_s: When that began.
        key: Of the exemplar that tells of it; None if none was kept.
    """

    uid: str
    start_s: float
    key: int | None = None


@dataclass(slots=True)
class _Track:
    """What is remembered of a track.

    Attributes:
        last_seen_s: When it was last seen, as far as was reported.
        identity: Who it is, once a tracklet of it was matched.
        exemplars: Keys of the exemplars it gave.
        walk: Its present walk, once a tracklet of it was matched.
        companions: Tracks seen in one frame with it.
    """

    last_seen_s: float
    identity: Identity | None = None
    exemplars: set[int] = field(default_factory=set)
    walk: _Walk | None = None
    companions: set[int] = field(default_factory=set)

    def goes_on(self, exemplar: Exemplar) -> Exemplar:
        """Return what is to be kept: under the name of the walk, and of all of it."""
        walk = self.walk
        if walk is None or not exemplar.continues:
            self.walk = _Walk(exemplar.tracklet_uid, exemplar.times_s[0])
            return exemplar
        times_s = walk.start_s, exemplar.times_s[1]
        return replace(exemplar, tracklet_uid=walk.uid, times_s=times_s)

    def gave(self, key: int) -> None:
        assert self.walk is not None
        self.exemplars.add(key)
        self.walk.key = key

    def hear(self, tracklet: Tracklet) -> None:
        self.last_seen_s = max(self.last_seen_s, tracklet.seen_s[1])
        self.companions.update(tracklet.companions)


class Gallery(Closing):
    """Everybody who is known, and who each tracklet is.

        config = GalleryConfig(path="people.gallery", threshold=9.0)
        with config.build(model_hash=encoder.model_hash, threshold=None) as gallery:
            usable = [tracklet for tracklet in tracklets if len(tracklet)]
            gallery.note(tracklet for tracklet in tracklets if not len(tracklet))
            matches = gallery.match(usable, encoder.encode(usable))

    The rules:

    * The first tracklet of a track is searched. It joins the nearest identity within the threshold
      that is not ruled out; when there is none it founds a new one.
    * A track is one person: its later tracklets belong to the same identity, whatever their
      distance.
    * Two people visible at once are two people: ruled out is who was recognised in a track that
      was seen in one frame with this one (`Tracklet.companions`, also of tracklets without
      silhouettes, which `note` takes).
    * An identity keeps `max_exemplars` tracklets that differ most: of the two nearest to each other
      the one of lower quality goes, the newer one when they are equal.
    * A tracklet that continues a walk (`Tracklet.offset`) tells all that the one before told, and
      takes its place.
    * A track is remembered until its stream's clock is `remember_s` past its last report. After
      that it is searched again like a new one. So memory does not grow with running time.

    What is new is on disk when `match` returns. It may be made in one thread and used in another,
    but by one at a time.

    Args:
        store: Where identities are kept; closed with the gallery.
        threshold: Largest distance at which two walks are one person's.
        max_exemplars: Tracklets kept of each person.
        remember_s: How long a track is remembered after it was last heard of.

    Raises:
        GalleryError: The store cannot be read.
    """

    def __init__(
        self,
        store: GalleryStore,
        *,
        threshold: float,
        max_exemplars: int = 10,
        remember_s: float = 300.0,
    ) -> None:
        self._store = store
        self._threshold = threshold
        self._max_exemplars = max_exemplars
        self._remember_s = remember_s
        self._tracks: dict[str, dict[int, _Track]] = {}
        self._heard_s: dict[str, float] = {}
        self._identities: dict[int, Identity] = {}
        self._matrix = ExemplarMatrix()
        for stored in store.exemplars():
            self._identities[stored.identity.id] = stored.identity
            row = Row(stored.id, stored.identity.id, stored.quality)
            self._matrix.append(row, stored.embedding)

    def __len__(self) -> int:
        """How many people are known."""
        return len(self._identities)

    def match(self, tracklets: Sequence[Tracklet], embeddings: Sequence[Embedding]) -> list[Match]:
        """Return who each tracklet is, in the same order.

        The distance of a match is the one to the nearest exemplar that was a possible answer: of
        all identities not ruled out for the first tracklet of a track, of its identity for later
        ones, and never to an exemplar of the track itself. None when there was no such exemplar.

        Args:
            tracklets: With silhouettes, a stream's in the order in which they were assembled.
            embeddings: One each, shape (256, 16).

        Raises:
            ValueError: A tracklet has no silhouettes, or an embedding has another shape or is not
                finite. Nothing was changed.
            GalleryError: The store could not be written. The tracklets before are stored.
        """
        pairs = zip(tracklets, embeddings, strict=True)
        exemplars = [Exemplar.of(tracklet, embedding) for tracklet, embedding in pairs]
        self._hear(tracklets)
        matches = [self._match(exemplar) for exemplar in exemplars]
        self._forget()
        return matches

    def note(self, tracklets: Iterable[Tracklet]) -> None:
        """Learn from tracklets without silhouettes who was seen together with whom, and when."""
        self._forget()
        self._hear(tracklets)

    def close(self) -> None:
        """Close the store. A second time does nothing."""
        self._store.close()

    def _match(self, exemplar: Exemplar) -> Match:
        track = self._tracks[exemplar.stream][exemplar.track_id]
        exemplar = track.goes_on(exemplar)
        if track.identity is None:
            return self._recognise(track, exemplar)
        distance = self._distance(track, exemplar)
        self._add(track, track.identity, exemplar)
        return Match(track.identity.pseudonym, distance, self._threshold)

    def _recognise(self, track: _Track, exemplar: Exemplar) -> Match:
        """Find or found the identity of a track by its first tracklet."""
        found = self._matrix.nearest(exemplar.embedding, barred=self._ruled_out(track, exemplar))
        distance = None if found is None else found.distance
        if found is None or found.distance > self._threshold:
            return self._found(track, exemplar, distance)
        identity = self._identities[found.owner]
        self._add(track, identity, exemplar)
        track.identity = identity
        return Match(identity.pseudonym, distance, self._threshold)

    def _found(self, track: _Track, exemplar: Exemplar, distance: float | None) -> Match:
        identity, key = self._store.found(exemplar)
        self._identities[identity.id] = identity
        self._matrix.append(Row(key, identity.id, exemplar.quality), exemplar.embedding)
        track.identity = identity
        track.gave(key)
        logger.debug("%s is new: %s", exemplar.tracklet_uid, identity.pseudonym)
        return Match(identity.pseudonym, distance, self._threshold, is_new=True)

    def _ruled_out(self, track: _Track, exemplar: Exemplar) -> set[int]:
        """Return the identities of those who were seen in one frame with `track`."""
        tracks = self._tracks[exemplar.stream]
        others = (tracks[other] for other in track.companions if other in tracks)
        return {other.identity.id for other in others if other.identity}

    def _distance(self, track: _Track, exemplar: Exemplar) -> float | None:
        """Return how near a later tracklet of a track is to what others gave its identity."""
        assert track.identity is not None
        rows = [
            row
            for row in self._matrix.rows_of(track.identity.id)
            if self._matrix[row].key not in track.exemplars
        ]
        if not rows:
            return None
        kept = self._matrix.embeddings_of(rows)
        return float(euclidean(exemplar.embedding[np.newaxis], kept).min())

    def _add(self, track: _Track, identity: Identity, exemplar: Exemplar) -> None:
        """Keep an exemplar of a known identity if it is worth its place."""
        assert track.walk is not None
        rows = self._matrix.rows_of(identity.id)
        index = next((row for row in rows if self._matrix[row].key == track.walk.key), None)
        if index is None and len(rows) >= self._max_exemplars:
            index = self._least_telling(rows, exemplar)
            if index is None:
                return
        replacing = None if index is None else self._matrix[index].key
        key = self._store.add(identity, exemplar, replacing=replacing)
        if replacing is not None:
            track.exemplars.discard(replacing)
        track.gave(key)
        if key in self._matrix:  # the same tracklet came before
            return
        row = Row(key, identity.id, exemplar.quality)
        if index is None:
            self._matrix.append(row, exemplar.embedding)
        else:
            self._matrix.replace(index, row, exemplar.embedding)

    def _least_telling(self, rows: Sequence[int], exemplar: Exemplar) -> int | None:
        """Return the row to give up for `exemplar`, or None when that is the least telling."""
        rows = sorted(rows, key=lambda row: self._matrix[row].key)  # oldest first
        kept = self._matrix.embeddings_of(rows)
        all_of_them = np.concatenate([kept, exemplar.embedding[np.newaxis]])
        distances = euclidean(all_of_them, all_of_them)
        distances[np.tril_indices(len(all_of_them))] = np.inf
        older, newer = divmod(int(np.argmin(distances)), len(distances))
        qualities = [self._matrix[row].quality for row in rows] + [exemplar.quality]
        goes = older if qualities[older] < qualities[newer] else newer
        return rows[goes] if goes < len(rows) else None

    def _hear(self, tracklets: Iterable[Tracklet]) -> None:
        for tracklet in tracklets:
            tracks = self._tracks.setdefault(tracklet.stream, {})
            track = tracks.setdefault(tracklet.track_id, _Track(tracklet.seen_s[1]))
            track.hear(tracklet)
            self._heard_s[tracklet.stream] = tracklet.seen_s[1]

    def _forget(self) -> None:
        """Drop the tracks that are too far from now, on their stream's clock.

        Either way: a clock that was set back must not keep old tracks for ever.
        """
        for stream, tracks in self._tracks.items():
            now_s = self._heard_s[stream]
            self._tracks[stream] = {
                track_id: track
                for track_id, track in tracks.items()
                if abs(now_s - track.last_seen_s) <= self._remember_s
            }
