"""What is said of a track: who it is, how sure that is, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.gallery.association import Association, Ranked
from pipeline.gallery.calibration import Calibration
from pipeline.gallery.decision import Limit
from pipeline.gallery.exemplar import Identity
from pipeline.gallery.known import Known
from pipeline.gallery.store import GalleryStore
from pipeline.gallery.tracks import Track
from pipeline.gallery.whereabouts import Way
from pipeline.values import Explanation, Match, Window


@dataclass(frozen=True, slots=True)
class Answers:
    """Puts into a `Match` what was settled of a track.

    Attributes:
        store: What is kept.
        known: The same, in memory.
        association: What place and time say.
        calibration: Makes probabilities; None makes none.
        shows_names: Whether people who have a name are called by it.
        explains: Whether matches are explained.
    """

    store: GalleryStore
    known: Known
    association: Association
    calibration: Calibration | None
    shows_names: bool
    explains: bool

    def match(
        self, track: Track, ranked: Ranked, limit: Limit, ways: Mapping[int, Way], *, is_new: bool
    ) -> Match:
        """Return who a track is.

        Args:
            track: With its identity, once that is settled.
            ranked: The nearest people and their distances, nearest first.
            limit: Within which somebody is taken for known.
            ways: How each of them would have come.
            is_new: Whether the track founded its identity.
        """
        own = None if track.identity is None else track.identity.id
        known = self.known.identities  # without whom somebody else removed meanwhile
        others = [each for each in ranked if each[0] != own and each[0] in known]
        runner_up, to_runner_up = others[0] if others else (None, None)
        distance = dict(ranked).get(own) if own is not None else None
        is_stranger = own is None or is_new
        return Match(
            identity=None if track.identity is None else self.label(track.identity),
            distance=to_runner_up if is_stranger else distance,
            threshold=limit.distance,
            is_new=is_new,
            probability=self._probability(track, distance, others, ways),
            threshold_name=limit.name,
            runner_up=None if runner_up is None else self.label(known[runner_up]),
            runner_up_distance=to_runner_up,
            explanation=self._explained(track, runner_up if distance is None else own),
        )

    def label(self, identity: Identity) -> str:
        """Return what somebody is called here."""
        newest = self.known.identities.get(identity.id, identity)
        return newest.label if self.shows_names else newest.pseudonym

    def _probability(
        self, track: Track, distance: float | None, others: Ranked, ways: Mapping[int, Way]
    ) -> float | None:
        """Return how probable an answer is: its person, or, without a distance, nobody else."""
        if self.calibration is None:
            return None
        if distance is not None and track.identity is not None:
            first = [(track.identity.id, distance), *others]
            return self._odds_of(self.calibration, track, first, ways)
        return 1 - self._odds_of(self.calibration, track, others, ways) if others else None

    def _odds_of(
        self, calibration: Calibration, track: Track, first: Ranked, ways: Mapping[int, Way]
    ) -> float:
        """Return how probable it is that a track is the first of some people."""
        (person, distance), *rest = first
        near = track.evidence.nearest_window(person).nearest.get(person)
        kept = None if near is None else self.known.quality(near)
        quality = track.evidence.quality()
        return calibration.probability(
            distance,
            runner_up=rest[0][1] if rest else None,
            quality=quality if kept is None else min(quality, kept),
            num_people=len(self.known),
            more_odds=self.association.log_odds(ways.get(person)),
        )

    def _explained(self, track: Track, person: int | None) -> Explanation | None:
        """Say why a track is taken for somebody, or how near the nearest one came."""
        if not self.explains or person is None:
            return None
        window = track.evidence.nearest_window(person)
        near = window.nearest.get(person)
        if near is None or near.key not in self.known.matrix:  # it was replaced meanwhile
            return None
        kept = {each.id: each for each in self.store.kept(self.known.identities[person])}
        exemplar = kept.get(near.key)
        if exemplar is None:  # by somebody else
            return None
        return Explanation(
            parts=tuple(self.known.matrix.parts(window.embedding, near.key).tolist()),
            exemplar=exemplar.tracklet_uid,
            stream=exemplar.stream,
            times_s=exemplar.times_s,
            windows=tuple(
                Window(heard.uid, heard.distance(person), heard.weight)
                for heard in track.evidence.windows
            ),
        )
