"""A scene as it was perceived, with embeddings, and how right identities of its tracks are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from gait.encoder import Encoder
from pipeline.evaluation.boxes import (
    NOBODY,
    Boxes,
    TrackTruth,
    whom_tracks_followed,
    without_ignored,
)
from pipeline.evaluation.identity import IdScore, id_score
from pipeline.evaluation.looks import Looks
from pipeline.evaluation.perceived import Perceived
from pipeline.evaluation.scene import Scene
from pipeline.gallery.config import GalleryConfig
from pipeline.gallery.sightings import SightingBook
from pipeline.values import Embedding, Sighting

Track = tuple[str, int]
"""Camera and track id."""


@dataclass(frozen=True, slots=True, eq=False)
class Identities(Mapping[Track, str]):
    """Who each track is, "" for nobody.

    Attributes:
        last: At its end.
        parts: Of each track that was split, from when in seconds it is whom, in order.
    """

    last: Mapping[Track, str]
    parts: Mapping[Track, Sequence[tuple[float, str]]]

    @classmethod
    def of(cls, sightings: Iterable[Sighting]) -> Self:
        """Return what sightings say, of which later ones of the same start take back earlier."""
        found: dict[Track, dict[float, str]] = {}
        for each in sightings:
            of_track = found.setdefault((each.stream, each.track_id), {})
            of_track[each.start_s] = each.identity or NOBODY
        parts = {track: sorted(of_track.items()) for track, of_track in found.items()}
        last = {track: of_track[-1][1] for track, of_track in parts.items()}
        return cls(last, {track: each for track, each in parts.items() if len(each) > 1})

    def __getitem__(self, track: Track) -> str:
        return self.last[track]

    def __iter__(self) -> Iterator[Track]:
        return iter(self.last)

    def __len__(self) -> int:
        return len(self.last)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A scene as it was perceived, and its truth.

    Attributes:
        perceived: All tracklets and boxes.
        embeddings: One a tracklet; None where there is none.
        model_hash: Of the encoder.
        truth: Camera to the boxes of those who must be found.
        found: Camera to the boxes of tracks, without those on people who need not be found.
        followed: Camera to track to whom it follows.
        usable: Tracks that gave silhouettes, and were on somebody who counts or on nobody.
        looks: What tracks look like, by the way of looking.
    """

    perceived: Perceived
    embeddings: Sequence[Embedding | None]
    model_hash: str
    truth: Mapping[str, Boxes]
    found: Mapping[str, Boxes]
    followed: Mapping[str, Mapping[str, TrackTruth]]
    usable: Sequence[Track]
    looks: Mapping[str, Looks]

    @classmethod
    def of(
        cls,
        scene: Scene,
        perceived: Perceived,
        encoder: Encoder,
        looks: Mapping[str, Looks] | None = None,
    ) -> Self:
        """Return the case of a scene."""
        cameras = scene.cameras
        truth = {name: camera.counted()[0] for name, camera in cameras.items()}
        found = {
            name: perceived.tracks[name][without_ignored(*camera.counted(), perceived.tracks[name])]
            for name, camera in cameras.items()
        }
        followed = {name: whom_tracks_followed(truth[name], found[name]) for name in truth}
        there = {(name, int(track)) for name, tracks in followed.items() for track in tracks}
        usable = sorted({t.track for t in perceived.tracklets if len(t)} & there)
        return cls(
            perceived,
            embed(perceived, encoder),
            encoder.model_hash,
            truth,
            found,
            followed,
            usable,
            looks or {},
        )

    @property
    def names(self) -> dict[Track, str]:
        """Whom each track mostly follows, "" for nobody."""
        return {
            (name, int(track)): each.person
            for name, tracks in self.followed.items()
            for track, each in tracks.items()
        }

    def identities(self, config: GalleryConfig) -> Identities:
        """Return the identity the product's gallery gives each track."""
        book = SightingBook()
        sightings: list[Sighting] = []
        with config.build(model_hash=self.model_hash, threshold=None) as gallery:
            pairs = zip(self.perceived.tracklets, self.embeddings, strict=True)
            for tracklet, embedding in pairs:
                if embedding is None:
                    gallery.note([tracklet])
                    sightings += book.collect([tracklet], [None])
                else:
                    sightings += book.collect([tracklet], gallery.match([tracklet], [embedding]))
                sightings += book.revise(gallery.revisions())
            sightings += book.close()
            gallery.settle()
            sightings += book.revise(gallery.revisions())
        return Identities.of(sightings)

    def score(self, identities: Mapping[Track, str]) -> IdScore:
        """Return how right identities are over all cameras."""
        return id_score(self.truth, self._named(identities))

    def by_camera(self, identities: Mapping[Track, str]) -> dict[str, float]:
        """Return IDF1 on each camera alone."""
        named = self._named(identities)
        return {name: id_score({name: self.truth[name]}, {name: named[name]}).f1 for name in named}

    def _named(self, identities: Mapping[Track, str]) -> dict[str, Boxes]:
        parts = identities.parts if isinstance(identities, Identities) else {}
        named = {}
        for name, boxes in self.found.items():
            tracks = [(name, int(track)) for track in boxes.who.tolist()]
            who = np.array([identities.get(track, NOBODY) for track in tracks], dtype=object)
            times_s = boxes.frames * self._frame_s(name)
            for track in parts.keys() & set(tracks):
                rows = boxes.who == str(track[1])
                for start_s, identity in [(0.0, parts[track][0][1]), *parts[track]]:
                    who[rows & (times_s > start_s - 1e-6)] = identity
            named[name] = boxes.named(who.astype(np.str_))
        return named

    def _frame_s(self, camera: str) -> float:
        """Return how long a frame of a camera lasts."""
        for t in self.perceived.tracklets:
            if t.stream == camera and len(t) > 1:
                frames = t.frame_indices[-1] - t.frame_indices[0]
                return float((t.times_s[-1] - t.times_s[0]) / frames)
        return 0.0


def embed(perceived: Perceived, encoder: Encoder) -> list[Embedding | None]:
    """Return the embedding of each tracklet; None for one without silhouettes."""
    usable = [tracklet for tracklet in perceived.tracklets if len(tracklet)]
    made = iter(encoder.encode(usable))
    return [next(made) if len(tracklet) else None for tracklet in perceived.tracklets]
