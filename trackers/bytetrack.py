"""ByteTrack: follow people by associating every detection box, the unsure ones too.

After Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV
2022, Algorithm 1, written from the paper. What is ours is in `ByteTrack`'s parameters: time in
seconds, and boxes widened for association (C-BIoU, WACV 2023).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackers.association import assign, expand, iou_matrix
from trackers.boxes import Detections, Tracks, check_boxes, pick_masks
from trackers.kalman import BoxFilter, BoxStates

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_NO_ID = 0  # of a track that is not confirmed yet; ids begin at 1
_UNMATCHED = -1
_ROUNDING_S = 1e-6  # ten intervals of 0.1 s are a second


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """All tracks, one row each, in the order they were begun."""

    states: BoxStates
    ids: Ints
    hits: Ints  # frames seen, counted up to confirm_frames
    unseen_s: Floats  # seconds since last seen

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, keep: Bools) -> _Table:
        return _Table(self.states.take(keep), self.ids[keep], self.hits[keep], self.unseen_s[keep])

    def join(self, states: BoxStates) -> _Table:
        n = len(states)
        return _Table(
            self.states.join(states),
            np.concatenate([self.ids, np.full(n, _NO_ID)]),
            np.concatenate([self.hits, np.ones(n, dtype=np.int64)]),
            np.concatenate([self.unseen_s, np.zeros(n)]),
        )


class _Matching:
    """Which track is which detection, filled stage by stage; nobody is matched twice."""

    def __init__(self, tracks: Floats, detections: Floats, margin: float) -> None:
        self._tracks = expand(tracks, margin)
        self._detections = expand(detections, margin)
        self.detection_of = np.full(len(tracks), _UNMATCHED)
        self.is_taken = np.zeros(len(detections), dtype=np.bool_)

    def stage(self, tracks: Bools, detections: Bools, above: float, weight: Floats) -> None:
        """Match the free ones among `tracks` and `detections` by overlap times `weight`."""
        rows = np.flatnonzero(tracks & (self.detection_of == _UNMATCHED))
        columns = np.flatnonzero(detections & ~self.is_taken)
        if not len(rows) or not len(columns):
            return
        overlap = iou_matrix(self._tracks[rows], self._detections[columns])
        chosen_rows, chosen_columns = assign(overlap * weight[columns], above)
        self.detection_of[rows[chosen_rows]] = columns[chosen_columns]
        self.is_taken[columns[chosen_columns]] = True


class ByteTrack:
    """Follows people by motion and overlap alone.

    Each frame goes through Algorithm 1 of the paper. Everybody known is predicted to the frame's
    time. Sure detections (`high_confidence`) are matched with everybody known, lost people too,
    by overlap times confidence. What a person's occlusion leaves of a detection (`low_confidence`)
    is matched with those seen in the last frame and not matched yet, so that a half hidden person
    is not lost. Sure detections that are nobody's begin a new track, which is reported once it was
    seen in `confirm_frames` frames in a row; a track not seen for `lost_s` ends.

        tracker = ByteTrack(lost_s=3.0)
        for frame_detections in detections:
            tracks = tracker.update(frame_detections, interval_s=1 / 25)
            for track_id, box in zip(tracks.track_ids, tracks.xyxy):
                ...
        tracker.finish()

    Only people seen in this frame are reported, with their smoothed box. Ids begin at 1, rise, and
    are never reused. Memory depends on how many people were seen in the last `lost_s` seconds and
    never on how long the tracker runs; the same detections give the same tracks, in any order.

    Args:
        high_confidence: From here on a detection is sure. Higher begins fewer false tracks, at the
            price of losing people the detector is unsure of.
        low_confidence: Detections below are ignored. Higher follows fewer ghosts, at the price of
            losing people who are half hidden.
        new_confidence: Confidence a new track needs. Higher keeps false tracks out, at the price
            of finding people later.
        min_overlap: Overlap (IoU of widened boxes) times confidence that makes a sure detection a
            known person. Higher merges fewer different people, at the price of more broken tracks.
        min_low_overlap: The same for unsure detections, without the confidence. Higher drifts less
            onto ghosts, at the price of losing half hidden people.
        min_new_overlap: As `min_overlap`, for tracks not confirmed yet. Higher confirms fewer
            false tracks, at the price of missing people who move fast.
        max_newcomer_overlap: A sure detection that is nobody's and overlaps a person matched in
            this frame by more (plain IoU) begins no track: it is mostly a second box of theirs.
            Higher finds people in dense groups, at the price of double tracks; 1 is the paper.
        box_margin: Boxes are widened by this fraction of their size on each side before overlaps
            are measured. Higher keeps small, fast or badly boxed people, at the price of more
            switches between neighbours; 0 is the paper.
        lost_s: Seconds a person may be out of sight and keep their id. Higher bridges longer
            occlusions, at the price of giving the id to somebody else who comes by.
        confirm_frames: Frames in a row a new track must be seen before it is reported. Higher
            keeps out short false tracks, at the price of a late start and lost passers-by.
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
        high_confidence: float = 0.5,
        low_confidence: float = 0.1,
        new_confidence: float = 0.6,
        min_overlap: float = 0.15,
        min_low_overlap: float = 0.25,
        min_new_overlap: float = 0.2,
        max_newcomer_overlap: float = 0.4,
        box_margin: float = 0.2,
        lost_s: float = 1.5,
        confirm_frames: int = 3,
        box_noise: float = 0.2,
        position_noise: float = 1 / 60,
        velocity_noise: float = 1 / 320,
    ) -> None:
        _check_fraction("low_confidence", low_confidence)
        _check_fraction("high_confidence", high_confidence, at_least=low_confidence)
        _check_fraction("new_confidence", new_confidence, at_least=high_confidence)
        _check_fraction("min_overlap", min_overlap)
        _check_fraction("min_low_overlap", min_low_overlap)
        _check_fraction("min_new_overlap", min_new_overlap)
        _check_fraction("max_newcomer_overlap", max_newcomer_overlap)
        _check_seconds("lost_s", lost_s)
        if not (math.isfinite(box_margin) and box_margin >= 0):
            raise ValueError(f"box_margin: expected a number of at least 0, got {box_margin}")
        if confirm_frames < 1:
            raise ValueError(f"confirm_frames: expected at least 1, got {confirm_frames}")
        self._high, self._low, self._new = high_confidence, low_confidence, new_confidence
        self._min_overlap = min_overlap
        self._min_low_overlap = min_low_overlap
        self._min_new_overlap = min_new_overlap
        self._max_newcomer_overlap = max_newcomer_overlap
        self._box_margin = box_margin
        self._lost_s = lost_s
        self._confirm_frames = confirm_frames
        self._filter = BoxFilter(
            box_noise=box_noise, position_noise=position_noise, velocity_noise=velocity_noise
        )
        self._table = self._no_tracks()
        self._next_id = 1

    def update(self, detections: Detections, *, interval_s: float) -> Tracks:
        """Return who is where in this frame.

        Args:
            detections: The people found in this frame, in any order.
            interval_s: Seconds since the previous frame; more than usual when frames were lost.
                The first frame's does not matter.

        Raises:
            ValueError: Bad boxes, or an interval that is negative or no number. The tracker is
                unchanged.
        """
        _check_seconds("interval_s", interval_s)
        check_boxes("Detections", detections.xyxy)  # may have been written to since it was made
        order = _canonical_order(detections)
        xyxy = detections.xyxy[order].astype(np.float64)
        confidence = detections.confidence[order].astype(np.float64)

        known, ended = self._predict(interval_s)
        matching = self._match(known, xyxy, confidence, interval_s)
        known = self._correct(known, matching, xyxy)
        newcomers = self._newcomers(matching, xyxy, confidence)
        table = known.join(self._filter.start(xyxy[newcomers]))
        detection_of = np.concatenate([matching.detection_of, newcomers])
        table, self._next_id = self._confirm(table)
        is_seen = detection_of != _UNMATCHED
        is_known = table.ids != _NO_ID
        self._table = table.take(is_seen | is_known)
        rows = np.flatnonzero(is_seen & is_known)
        return _report(detections, table, rows, order[detection_of[rows]], ended)

    def finish(self) -> tuple[int, ...]:
        """End every track still open and return their ids; the stream is over."""
        ids = _known_ids(self._table.ids)
        self._table = self._no_tracks()
        return ids

    def _no_tracks(self) -> _Table:
        nobody = np.empty(0, dtype=np.int64)
        return _Table(self._filter.start(np.empty((0, 4))), nobody, nobody, np.empty(0))

    def _predict(self, interval_s: float) -> tuple[_Table, tuple[int, ...]]:
        """Return the tracks at the frame's time, and the ids of those out of sight for too long."""
        table = self._table
        unseen_s = table.unseen_s + interval_s
        states = self._filter.predict(table.states, interval_s)
        is_alive = unseen_s <= self._lost_s + _ROUNDING_S
        is_alive |= (table.ids == _NO_ID) & (table.unseen_s == 0)
        known = _Table(states, table.ids, table.hits, unseen_s).take(is_alive)
        return known, _known_ids(table.ids[~is_alive])

    def _match(
        self, known: _Table, xyxy: Floats, confidence: Floats, interval_s: float
    ) -> _Matching:
        """Return who is which detection: Algorithm 1, lines 3 to 21."""
        matching = _Matching(known.states.xyxy, xyxy, self._box_margin)
        is_high = confidence >= self._high
        is_low = (confidence >= self._low) & ~is_high
        is_confirmed = known.ids != _NO_ID
        was_seen = known.unseen_s <= interval_s
        matching.stage(is_confirmed, is_high, self._min_overlap, confidence)
        matching.stage(
            is_confirmed & was_seen, is_low, self._min_low_overlap, np.ones_like(confidence)
        )
        matching.stage(~is_confirmed, is_high, self._min_new_overlap, confidence)
        return matching

    def _correct(self, known: _Table, matching: _Matching, xyxy: Floats) -> _Table:
        """Return the tracks with those seen moved to their detections."""
        rows = np.flatnonzero(matching.detection_of != _UNMATCHED)
        measured = xyxy[matching.detection_of[rows]]
        states = known.states.put(rows, self._filter.correct(known.states.take(rows), measured))
        hits, unseen_s = known.hits.copy(), known.unseen_s.copy()
        hits[rows] = np.minimum(hits[rows] + 1, self._confirm_frames)
        unseen_s[rows] = 0.0
        return _Table(states, known.ids, hits, unseen_s)

    def _newcomers(self, matching: _Matching, xyxy: Floats, confidence: Floats) -> Ints:
        """Return the detections that begin a track."""
        free = np.flatnonzero(~matching.is_taken & (confidence >= self._new))
        overlap = iou_matrix(xyxy[free], xyxy[matching.is_taken]).max(axis=1, initial=0.0)
        newcomers: Ints = free[overlap <= self._max_newcomer_overlap]
        return newcomers

    def _confirm(self, table: _Table) -> tuple[_Table, int]:
        """Return the tracks with ids for those now seen often enough, and the next free id."""
        rows = np.flatnonzero((table.ids == _NO_ID) & (table.hits >= self._confirm_frames))
        ids = table.ids.copy()
        ids[rows] = self._next_id + np.arange(len(rows))
        return dataclasses.replace(table, ids=ids), self._next_id + len(rows)


def _report(
    detections: Detections, table: _Table, rows: Ints, indices: Ints, ended: tuple[int, ...]
) -> Tracks:
    return Tracks(
        track_ids=table.ids[rows],
        xyxy=table.states.xyxy[rows].astype(np.float32),
        confidence=detections.confidence[indices],
        detection_indices=indices,
        ended=ended,
        masks=pick_masks(detections.masks, indices.tolist()),
    )


def _canonical_order(detections: Detections) -> Ints:
    """Return an order of the detections that does not depend on the one they came in."""
    return np.lexsort((*detections.xyxy.T, -detections.confidence)).astype(np.int64)


def _known_ids(ids: Ints) -> tuple[int, ...]:
    return tuple(ids[ids != _NO_ID].tolist())


def _check_seconds(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}: expected seconds of at least 0, got {value}")


def _check_fraction(name: str, value: float, *, at_least: float = 0.0) -> None:
    if not at_least <= value <= 1:
        raise ValueError(f"{name}: expected a number in {at_least}..1, got {value}")
