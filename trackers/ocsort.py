"""OC-SORT: trust what was seen over what was predicted.

After Cao et al., "Observation-Centric SORT: Rethinking SORT for Robust Multi-Object Tracking", CVPR
2023, written from the paper. On top of SORT's filter it has three parts:

* Momentum (OCM, section 4.2): a detection is the more a track's, the more it lies in the direction
  in which the track was observed to go. Between directions estimated from observations dt apart
  the paper's cost of a pair, with the weight w and the angle D theta between the direction of the
  track and the one that the detection would mean, is

      C = C_IoU + w D theta

* Recovery (OCR, section 4.3): who is left over is tried once more where they were last seen, for
  people who stopped or were hidden for a moment.
* Re-update (ORU, section 4.1): when a track last seen as z1 at t1 is found again as z2 at t2, the
  filter goes the way in between once more, as if the person had been seen on the straight line

      z(t) = z1 + (t - t1) / (t2 - t1) (z2 - z1)

  which takes back the errors that grew while it only predicted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trackers.association import Matching, Pairs, expand, overlapping
from trackers.boxes import check_fractions, check_numbers, check_seconds
from trackers.camera import moved, moved_boxes
from trackers.kalman import XYSR, BoxStates
from trackers.table import Scene, TableTracker, TrackTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_MOST_VIRTUAL = 8  # observations on the line of a re-update, however long the gap


@dataclass(frozen=True, slots=True, eq=False)
class ObservedTable(TrackTable):
    """Tracks with what was seen of them.

    Attributes:
        last: Shape (N, 4): the box last seen.
        frames: Shape (N,): frames since then.
        anchor: Shape (N, 2): where their centre was seen `direction_s` ago or somewhat longer.
        next_anchor: Shape (N, 2): a centre seen later, which is to be the anchor.
        next_age_s: Shape (N,): seconds between it and the box last seen.
    """

    last: Floats
    frames: Ints
    anchor: Floats
    next_anchor: Floats
    next_age_s: Floats


@dataclass(kw_only=True, eq=False)
class OCSort(TableTracker[ObservedTable]):
    """Follows people by motion and overlap, through crowds, occlusions and sudden turns.

    Made for people who move alike and not straight (dancers, crowds): it forgets the filter's
    guesses when it has seen better.

        tracker = OCSort()
        for frame_detections in detections:
            tracks = tracker.update(frame_detections, interval_s=1 / 25)

    The parameters that all share are explained in `trackers.table.TableTracker`.

    Attributes:
        min_confidence: Detections below are ignored. Higher begins fewer false tracks, at the
            price of losing people the detector is unsure of.
        min_overlap: Overlap (IoU of widened boxes) with the prediction that makes a detection a
            known person. Higher merges fewer different people, at the price of more broken tracks.
        min_recovery_overlap: Overlap with where a person was last seen that makes a detection
            which is nobody's that person. Higher mixes up fewer people who pass there, at the
            price of losing people who stop; 1 switches the recovery off.
        recovery_s: Seconds for which a person is looked for where they were last seen. Higher
            finds people again who stopped behind others, at the price of taking whoever passes
            there for them. The paper speaks of a short time and sets no limit but `lost_s`.
        direction_weight: What half a turn between a track's direction and a detection's costs,
            in overlap. Higher keeps people apart who cross, at the price of losing those who turn;
            0 switches the momentum off. The paper's weight of a radian, 0.2, is 0.63 here.
        direction_s: Seconds, up to twice as many, over which directions are taken. Higher is less
            disturbed by jumping boxes, at the price of lagging behind people who turn. The paper
            uses 3 frames.

    Raises:
        ValueError: A parameter is out of its range.
    """

    min_confidence: float = 0.4
    min_overlap: float = 0.3
    min_recovery_overlap: float = 0.5
    recovery_s: float = 0.3
    direction_weight: float = 0.2
    direction_s: float = 0.12

    _coordinates = XYSR

    def __post_init__(self) -> None:
        check_fractions(
            min_confidence=self.min_confidence,
            min_overlap=self.min_overlap,
            min_recovery_overlap=self.min_recovery_overlap,
        )
        check_seconds("recovery_s", self.recovery_s)
        check_seconds("direction_s", self.direction_s)
        check_numbers(direction_weight=self.direction_weight)
        super().__post_init__()

    @property
    def _newcomers_from(self) -> float:
        return self.min_confidence

    def _match(self, matching: Matching, known: ObservedTable, wide: Floats, scene: Scene) -> None:
        everybody = np.ones(len(known), dtype=np.bool_)
        is_sure = scene.confidence >= self.min_confidence
        pairs = overlapping(wide, scene.wide)
        agreeing = self._with_momentum(pairs, known, scene)
        matching.stage(pairs, agreeing, self.min_overlap, everybody, is_sure)
        was_there = known.unseen_s <= max(self.recovery_s, scene.interval_s) + 1e-6
        if matching.is_taken[is_sure].all() or (matching.detection_of[was_there] >= 0).all():
            return
        pairs = overlapping(expand(known.last, self.box_margin), scene.wide)
        matching.stage(pairs, pairs.overlap, self.min_recovery_overlap, was_there, is_sure)

    def _with_momentum(self, pairs: Pairs, known: ObservedTable, scene: Scene) -> Floats:
        """Return how alike pairs are: 0 where they overlap too little, whatever the direction.

        The direction is worth weight (1 - D theta / pi) instead of costing weight D theta / pi, so
        that it ranks the pairs that overlap enough and forbids none of them.
        """
        anchor = known.anchor[pairs.rows]
        track = (_centres(known.last) - known.anchor)[pairs.rows]
        detection = _centres(scene.xyxy)[pairs.columns] - anchor
        across = track[:, 0] * detection[:, 1] - track[:, 1] * detection[:, 0]
        along = (track * detection).sum(axis=1)
        agreement = 1 - np.abs(np.arctan2(across, along)) / np.pi
        agreement[(across == 0) & (along == 0)] = 0.5  # who stands still has no direction
        similarity: Floats = pairs.overlap + self.direction_weight * agreement
        similarity[pairs.overlap <= self.min_overlap] = 0.0
        return similarity

    def _seen(
        self, known: ObservedTable, predicted: BoxStates, scene: Scene, rows: Ints
    ) -> ObservedTable:
        seen = super()._seen(known, predicted, scene, rows)
        found_again = np.flatnonzero(known.frames > 1)
        if len(found_again):
            again = self._reupdated(known[found_again], scene.xyxy[rows[found_again]])
            seen = replace(seen, states=seen.states.put(found_again, again))
        return self._observed(seen, known.unseen_s, scene.xyxy[rows])

    def _reupdated(self, known: ObservedTable, found: Floats) -> BoxStates:
        """Return the states after the straight way from where people were last seen (ORU)."""
        steps = np.minimum(known.frames, _MOST_VIRTUAL)
        step_s = known.unseen_s / steps
        states = known.states
        for k in range(1, int(steps.max()) + 1):
            rows = np.flatnonzero(steps >= k)
            share = (k / steps[rows])[:, None]
            virtual = known.last[rows] + share * (found[rows] - known.last[rows])
            there = self._filter.predict(states[rows], step_s[rows])
            states = states.put(rows, self._filter.correct(there, virtual))
        return states

    def _observed(self, seen: ObservedTable, since_s: Floats, xyxy: Floats) -> ObservedTable:
        """Return the tracks with what was seen of them, `since_s` after the last time."""
        age_s = seen.next_age_s + since_s
        is_due = age_s >= self.direction_s - 1e-6
        return replace(
            seen,
            last=xyxy,
            frames=np.zeros_like(seen.frames),
            anchor=np.where(is_due[:, None], seen.next_anchor, seen.anchor),
            next_anchor=np.where(is_due[:, None], _centres(xyxy), seen.next_anchor),
            next_age_s=np.where(is_due, 0.0, age_s),
        )

    def _aged(self, scene: Scene) -> tuple[ObservedTable, tuple[int, ...]]:
        known, ended = super()._aged(scene)
        return replace(known, frames=known.frames + 1), ended

    def _move_camera(self, known: ObservedTable, motion: Floats) -> ObservedTable:
        return replace(
            super()._move_camera(known, motion),
            last=moved_boxes(known.last, motion),
            anchor=moved(known.anchor, motion)[0],
            next_anchor=moved(known.next_anchor, motion)[0],
        )

    def _begin(self, scene: Scene, rows: Ints) -> ObservedTable:
        xyxy = scene.xyxy[rows]
        centre = _centres(xyxy)
        frames = np.zeros(len(rows), dtype=np.int64)
        return ObservedTable(
            *self._new_columns(scene, rows), xyxy, frames, centre, centre, np.zeros(len(rows))
        )


def _centres(xyxy: Floats) -> Floats:
    centres: Floats = (xyxy[:, :2] + xyxy[:, 2:]) / 2
    return centres
