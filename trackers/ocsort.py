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
from trackers.boxes import check_fraction, check_seconds
from trackers.camera import moved, moved_boxes
from trackers.kalman import XYSR, BoxFilter, BoxStates
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


class OCSort(TableTracker[ObservedTable]):
    """Follows people by motion and overlap, through crowds, occlusions and sudden turns.

    Made for people who move alike and not straight (dancers, crowds): it forgets the filter's
    guesses when it has seen better.

        tracker = OCSort()
        for frame_detections in detections:
            tracks = tracker.update(frame_detections, interval_s=1 / 25)

    Only people seen in this frame are reported, with the box they were seen in. Ids begin at 1,
    rise, and are never reused.

    Args:
        min_confidence: Detections below are ignored. Higher begins fewer false tracks, at the
            price of losing people the detector is unsure of.
        min_overlap: Overlap (IoU) with the prediction that makes a detection a known person.
            Higher merges fewer different people, at the price of more broken tracks.
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
        max_newcomer_overlap: A detection that is nobody's and overlaps a person matched in this
            frame by more begins no track. Higher finds people in dense groups, at the price of
            double tracks; 1 is the paper.
        box_margin: Boxes are widened by this fraction of their size on each side before overlaps
            are measured. Higher keeps small, fast or badly boxed people, at the price of more
            switches between neighbours; 0 is the paper.
        lost_s: Seconds a person may be out of sight and keep their id; at least the interval
            between two frames. Higher bridges longer occlusions, at the price of giving the id to
            somebody else who comes by.
        confirm_frames: Frames in a row a new track must be seen before it is reported. Higher
            keeps out short false tracks, at the price of a late start.
        box_noise: Standard deviation of the detector's boxes, as a fraction of their height.
            Higher smooths a jumping detector, at the price of lagging behind people who turn.
        position_noise: Motion that a constant velocity misses in 1/25 s, as a fraction of the
            height. Higher follows the detector's boxes more closely, at the price of more jitter.
        velocity_noise: Change of velocity in 1/25 s, as a fraction of the height per 1/25 s.
            Higher follows people who stop and turn, at the price of wilder guesses while hidden.

    Raises:
        ValueError: A parameter is out of its range.
    """

    def __init__(
        self,
        *,
        min_confidence: float = 0.5,
        min_overlap: float = 0.3,
        min_recovery_overlap: float = 0.3,
        recovery_s: float = 0.3,
        direction_weight: float = 0.2,
        direction_s: float = 0.12,
        max_newcomer_overlap: float = 0.4,
        box_margin: float = 0.2,
        lost_s: float = 1.5,
        confirm_frames: int = 3,
        box_noise: float = 0.2,
        position_noise: float = 1 / 60,
        velocity_noise: float = 1 / 320,
    ) -> None:
        check_fraction("min_confidence", min_confidence)
        check_fraction("min_overlap", min_overlap)
        check_fraction("min_recovery_overlap", min_recovery_overlap)
        check_seconds("recovery_s", recovery_s)
        check_seconds("direction_s", direction_s)
        if not 0 <= direction_weight < np.inf:
            raise ValueError(
                f"direction_weight: expected a number of at least 0, got {direction_weight}"
            )
        super().__init__(
            BoxFilter(
                XYSR,
                box_noise=box_noise,
                position_noise=position_noise,
                velocity_noise=velocity_noise,
            ),
            new_confidence=min_confidence,
            max_newcomer_overlap=max_newcomer_overlap,
            box_margin=box_margin,
            lost_s=lost_s,
            confirm_frames=confirm_frames,
        )
        self._min_confidence = min_confidence
        self._min_overlap = min_overlap
        self._min_recovery_overlap = min_recovery_overlap
        self._recovery_s = recovery_s
        self._direction_weight = direction_weight
        self._direction_s = direction_s

    def _match(self, matching: Matching, known: ObservedTable, wide: Floats, scene: Scene) -> None:
        everybody = np.ones(len(known), dtype=np.bool_)
        is_sure = scene.confidence >= self._min_confidence
        pairs = overlapping(wide, scene.wide)
        agreeing = self._with_momentum(pairs, known, scene)
        matching.stage(pairs, agreeing, self._min_overlap, everybody, is_sure)
        was_there = known.unseen_s <= max(self._recovery_s, scene.interval_s) + 1e-6
        if matching.is_taken[is_sure].all() or (matching.detection_of[was_there] >= 0).all():
            return
        pairs = overlapping(expand(known.last, self._box_margin), scene.wide)
        matching.stage(pairs, pairs.overlap, self._min_recovery_overlap, was_there, is_sure)

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
        similarity: Floats = pairs.overlap + self._direction_weight * agreement
        similarity[pairs.overlap <= self._min_overlap] = 0.0
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
        is_due = age_s >= self._direction_s - 1e-6
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

    def _boxes(self, table: ObservedTable) -> Floats:
        return table.last


def _centres(xyxy: Floats) -> Floats:
    centres: Floats = (xyxy[:, :2] + xyxy[:, 2:]) / 2
    return centres
