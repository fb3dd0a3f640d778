"""Who is known, and who a track is."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gait.closing import Closing
from gait.tracklet import Tracklet
from pipeline.gallery.answers import Answers
from pipeline.gallery.association import Association, Ranked, Revision
from pipeline.gallery.calibration import Calibration
from pipeline.gallery.decision import (
    NEAREST,
    Evidence,
    Heard,
    Limit,
    LimitRule,
)
from pipeline.gallery.exemplar import Exemplar, Identity, within_budget
from pipeline.gallery.known import Known
from pipeline.gallery.neighbours import Neighbour
from pipeline.gallery.purity import switch
from pipeline.gallery.records import Outdated
from pipeline.gallery.store import GalleryStore
from pipeline.gallery.tracks import Track, TrackMemory
from pipeline.gallery.whereabouts import Way
from pipeline.values import Embedding, Match

if TYPE_CHECKING:
    from pipeline.gallery.config import GalleryConfig

logger = logging.getLogger(__name__)

_REVIEW_EVERY_S = 10.0
_MOST_RACES = 5


class Gallery(Closing):
    """Everybody who is known, and who each tracklet is.

        config = GalleryConfig(path="people.gallery", threshold=9.0)
        with config.build(model_hash=encoder.model_hash, threshold=None) as gallery:
            usable = [tracklet for tracklet in tracklets if len(tracklet)]
            gallery.note(tracklet for tracklet in tracklets if not len(tracklet))
            matches = gallery.match(usable, encoder.encode(usable))

    The rules:

    * Every tracklet of a track is searched, never among exemplars of the track itself, and the last
      ones decide together (`pipeline.gallery.decision`).
    * A track's first tracklet joins the nearest identity within the threshold that is not ruled
      out. When there is none it founds a new one; in a named gallery it is nobody.
    * Later the track stays with that identity, whatever its distance, until another one has been
      nearer by a margin for some tracklets in a row: then the track goes over to it with all that
      it gave, and an identity that it alone had founded is gone. In a named gallery it also becomes
      nobody when it has been beyond the threshold by the margin for as long.
    * Two people visible at once are two people: ruled out is who was recognised in a track that
      was seen in one frame with this one (`Tracklet.companions`, also of tracklets without
      silhouettes, which `note` takes).
    * Nobody is in two places at once, and how long people need from camera to camera is learnt
      (`pipeline.gallery.whereabouts`). Of two tracks that cannot both be a person the one that is
      farther from them yields, or the later one.
    * A track that has ended is looked at again, with all that is known by then, until `revise_s`
      after its end. Who it turns out to be `revisions` tells.
    * An identity keeps the `max_exemplars` tracklets that stand best for all of them
      (`pipeline.gallery.exemplar.within_budget`). A named gallery keeps what was enrolled and
      nothing else.
    * A tracklet that continues a walk (`Tracklet.offset`) tells all that the one before told, and
      takes its place.
    * A track is remembered until its stream's clock is `remember_s` past its last report. After
      that it is searched again like a new one. So memory does not grow with running time.

    What is new is on disk when `match` returns, and what other processes wrote is known when it
    begins. It may be made in one thread and used in another, but by one at a time.

    Args:
        store: Where identities are kept; closed with the gallery.
        config: The rules' numbers.
        limits: How near is near enough.
        calibration: Makes probabilities; None makes none.

    Raises:
        GalleryError: The store cannot be read.
    """

    def __init__(
        self,
        store: GalleryStore,
        config: GalleryConfig,
        *,
        limits: LimitRule,
        calibration: Calibration | None = None,
    ) -> None:
        self._store = store
        self._config = config
        self._limits = limits
        self._is_named = config.mode == "named"
        self._tracks = TrackMemory(
            config.decision, config.remember_s, shared_clock=config.whereabouts.shared_clock
        )
        self._association = Association(self._tracks, config.decision, config.whereabouts)
        self._known = Known(store, only_named=self._is_named, coarse=config.coarse)
        self._answers = Answers(
            store,
            self._known,
            self._association,
            calibration,
            shows_names=self._is_named,
            explains=config.explain,
        )

    def __len__(self) -> int:
        """How many people are known."""
        return len(self._known)

    @property
    def store(self) -> GalleryStore:
        """Where identities are kept; any thread may use it."""
        return self._store

    def match(self, tracklets: Sequence[Tracklet], embeddings: Sequence[Embedding]) -> list[Match]:
        """Return who each tracklet's track is, in the same order.

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
        self._known.refresh()
        self._tracks.hear(tracklets)
        matches = [self._match(exemplar) for exemplar in exemplars]
        self._look_back()
        self._tracks.forget()
        return matches

    def note(self, tracklets: Iterable[Tracklet]) -> None:
        """Learn from tracklets without silhouettes who was seen together with whom, and when.

        Raises:
            GalleryError: As for `match`.
        """
        self._tracks.forget()
        self._tracks.hear(tracklets)
        self._known.refresh()
        self._look_back()

    def settle(self) -> None:
        """Look once more at all tracks that may still be revised, since nothing more will come.

        Raises:
            GalleryError: The store could not be written.
        """
        self._known.refresh()
        for track in self._tracks:
            age_s = self._tracks.now_s(track) - track.last_seen_s
            if track.evidence.windows and age_s <= self._config.revise_s > 0:
                self._review(track)

    def revisions(self) -> list[Revision]:
        """Return which tracks are somebody else than was said last; each is told once."""
        revised = []
        for track in self._tracks:
            if not track.evidence.windows:
                continue
            own = None if track.identity is None else track.identity.id
            if own is not None and not self._is_known(own):
                continue  # forgotten by somebody else
            label = None if track.identity is None else self._answers.label(track.identity)
            if label != track.told:
                revised.append(
                    Revision(track.stream, track.track_id, track.told, label, track.is_founder)
                )
                track.told = label
        return revised

    def close(self) -> None:
        """Close the store. A second time does nothing."""
        self._store.close()

    def _match(self, exemplar: Exemplar) -> Match:
        for _ in range(_MOST_RACES):
            try:
                return self._recognise(exemplar)
            except Outdated:  # somebody else removed or merged them since `refresh`
                self._known.refresh()
        return self._recognise(exemplar)

    def _recognise(self, exemplar: Exemplar) -> Match:
        track = self._tracks.of(exemplar.stream, exemplar.track_id)
        if track.identity is not None and not self._is_known(track.identity.id):
            track.lose()  # forgotten by somebody else meanwhile
        barred = self._tracks.ruled_out(track)
        heard = Heard.of(
            exemplar.tracklet_uid,
            exemplar.quality,
            exemplar.embedding,
            self._nearest(track, exemplar.embedding, barred),
            exemplar.times_s[0],
        )
        evidence = track.evidence.after(heard, continues=exemplar.continues)
        limit = self._limits.limit(len(self._known.matrix))
        ways, founded = self._association.ways(track), track.founded
        self._yield(track, ways)
        ranked = self._still_known(evidence.ranked(barred))
        fitting = self._association.fitting(track, ranked, ways)
        self._decide(track, track.goes_on(exemplar), fitting, limit)
        is_new = track.is_founder and track.founded != founded
        track.evidence = evidence  # not before it is on disk
        answer = self._answers.match(track, ranked, limit, ways, is_new=is_new)
        track.told = answer.identity
        return self._checked(track, answer, limit)

    def _checked(self, track: Track, answer: Match, limit: Limit) -> Match:
        """Return the answer, or another one where the track has gone over to somebody else."""
        margin, windows = self._config.decision.purity_margin, track.evidence.windows
        at = None if margin is None else switch(windows, limit.distance, margin)
        if at is None or not self._part(track, {heard.uid for heard in windows[at:]}):
            return answer
        switched_at_s = track.first_seen_s = windows[at].start_s
        logger.info("track %s: somebody else from %.1f s on", track.name, switched_at_s)
        track.evidence = Evidence(self._config.decision, windows[at:])
        ranked, ways = self._looked_again(track, limit)
        again = self._answers.match(track, ranked, limit, ways, is_new=track.is_founder)
        track.told = again.identity
        return replace(again, switched_at_s=switched_at_s)

    def _part(self, track: Track, uids: set[str]) -> bool:
        """Leave who a track was with what came before some tracklets; say whether that is right.

        The track goes on with these as somebody new; it is not, where they are all that is known.
        """
        was = track.identity
        if was is not None and not self._is_named:
            kept = [each for each in self._store.kept(was) if each.id in track.exemplars]
            given = {each.id for each in kept if each.tracklet_uid in uids}
            if len(given) == len(self._known.matrix.rows_of(was.id)):
                return False
            track.exemplars = given
            track.identity = None
            if given:
                track.become(self._store.split(was, given))
            self._known.refresh()
        else:
            track.lose()
        track.barred.clear()  # by people who were beside whoever it was
        return True

    def _still_known(self, ranked: Ranked) -> Ranked:
        return [each for each in ranked if self._is_known(each[0])]

    def _is_known(self, person: int) -> bool:
        """Return whether somebody may be recognised: not forgotten, not expired."""
        identity = self._known.identities.get(person)
        return identity is not None and not self._store.has_expired(identity)

    def _look_back(self) -> None:
        """Look again at tracks that have ended: at each then, and at one more from time to time."""
        if not self._config.revise_s:
            return
        over = [track for track in self._tracks if track.is_over and track.evidence.windows]
        for track in over:
            if track.reviewed_s == -math.inf:
                self._review(track, is_first=True)
        if due := [track for track in over if self._is_due(track)]:
            self._review(min(due, key=lambda track: track.reviewed_s))

    def _is_due(self, track: Track) -> bool:
        now_s = self._tracks.now_s(track)
        is_open = now_s - track.last_seen_s <= self._config.revise_s
        return is_open and now_s - track.reviewed_s >= _REVIEW_EVERY_S

    def _review(self, track: Track, *, is_first: bool = False) -> None:
        """Look at an ended track with all that is known by now."""
        track.reviewed_s = self._tracks.now_s(track)
        if track.identity is not None and not self._is_known(track.identity.id):
            return
        limit = self._limits.limit(len(self._known.matrix))
        try:
            ranked, ways = self._looked_again(track, limit)
        except Outdated:  # as for `_match`; there is time
            self._known.refresh()
            return
        if is_first:
            self._association.learn(track, ranked, ways, limit)

    def _looked_again(self, track: Track, limit: Limit) -> tuple[Ranked, dict[int, Way]]:
        """Make a track who it is in hindsight; return distances and ways."""
        barred, ways = self._tracks.ruled_out(track), self._association.ways(track)
        track.evidence = track.evidence.again(lambda each: self._nearest(track, each, barred))
        self._yield(track, ways)
        ranked = self._still_known(track.evidence.ranked(barred))
        shown = None if track.identity is None else track.identity.id
        fitting = self._association.fitting(track, ranked, ways)
        chosen = self._association.better(shown, fitting, ways, limit.distance)
        if chosen is not None and chosen != shown:
            if self._is_named or shown is None:
                track.identity = self._known.identities[chosen]
            else:
                self._go_over(track, self._known.identities[chosen])
        return ranked, ways

    def _yield(self, track: Track, ways: Mapping[int, Way]) -> None:
        """Take from a track who it cannot be: it is somebody new, until it is somebody known."""
        if not self._association.must_yield(track, ways):
            return
        was = track.identity
        assert was is not None
        theirs = {row.key for row in self._known.matrix.rows_of(was.id)}
        given = track.exemplars & theirs
        if given == theirs:
            return  # nobody but this track tells of them
        if not given or self._is_named:
            track.lose()
            return
        track.become(self._store.split(was, given))
        self._known.refresh()
        logger.info("track %s: was %s, is new", track.name, was.pseudonym)

    def _nearest(self, track: Track, embedding: Embedding, barred: set[int]) -> list[Neighbour]:
        """Return the nearest exemplar, not of the track itself, of each of the nearest people."""
        own = None if track.identity is None else track.identity.id
        rest = barred if own is None else barred | {own}
        [found] = self._known.matrix.search_owners([embedding], k=NEAREST, barred=[rest])
        if own is not None:
            found += self._known.nearest_of(own, embedding, without=track.exemplars)
        return found

    def _decide(self, track: Track, exemplar: Exemplar, ranked: Ranked, limit: Limit) -> None:
        """Settle who a track is, and keep what it gives."""
        shown = None if track.identity is None else track.identity.id
        chosen = track.hysteresis.challenger(shown, ranked, limit.distance)
        if self._is_named:
            track.identity = None if chosen is None else self._known.identities[chosen]
            return
        if chosen is None and shown is None:
            self._found(track, exemplar)
            return
        identity = track.identity if chosen is None else self._known.identities[chosen]
        assert identity is not None
        if track.identity is not None and chosen not in (None, shown):
            self._go_over(track, identity)
        self._add(track, identity, exemplar)
        track.identity = identity

    def _found(self, track: Track, exemplar: Exemplar) -> None:
        identity, key = self._store.found(exemplar)
        self._known.refresh()
        track.become(identity)
        track.gave(key)
        logger.debug("%s is new: %s", exemplar.tracklet_uid, identity.pseudonym)

    def _go_over(self, track: Track, identity: Identity) -> None:
        """Make a track somebody else's, with all that it gave."""
        was = track.identity
        assert was is not None
        budget = self._config.max_exemplars
        is_gone = self._store.hand_over(track.exemplars, was, identity, budget=budget)
        logger.info("track %s: was %s, is %s", track.name, was.pseudonym, identity.pseudonym)
        track.identity = identity
        self._known.refresh()
        if is_gone:
            self._tracks.replace(was, identity)

    def _add(self, track: Track, identity: Identity, exemplar: Exemplar) -> None:
        """Keep an exemplar of a known identity if it is worth its place."""
        assert track.walk is not None
        kept = self._known.matrix.rows_of(identity.id)
        replacing = track.walk.key if track.walk.key in {row.key for row in kept} else None
        if replacing is None and len(kept) >= self._config.max_exemplars:
            staying = within_budget(
                np.stack([*self._known.matrix.embeddings_of(identity.id), exemplar.embedding]),
                [*(row.quality for row in kept), exemplar.quality],
                len(kept),
            )
            if len(kept) not in staying:
                return
            [replacing] = {row.key for row in kept} - {kept[n].key for n in staying[:-1]}
        key = self._store.add(identity, exemplar, replacing=replacing)
        if replacing is not None:
            track.exemplars.discard(replacing)
        track.gave(key)
        self._known.refresh()
