"""BoT-SORT: ByteTrack with a better box, a moving camera, and appearance.

After Aharon et al., "BoT-SORT: Robust Associations Multi-Pedestrian Tracking", 2022, written from
the paper. On top of ByteTrack:

* The filter's state is [x, y, w, h] and its velocities (eq. 1), so that width and height have
  noise of their own (eq. 3, 4).
* The camera's motion is taken out of the predictions (eq. 6 to 8), where `Detections.camera_motion`
  says how it moved; `trackers.kalman.BoxFilter.move_camera` says what is ours.
* Appearance joins overlap (eq. 11, 12), where `Detections.features` say what people look like. A
  track remembers a running mean e of them, with the share a of what it knew, f being the newest,

      e = a e + (1 - a) f

  and with d_iou and d_cos for 1 - IoU and 1 - cosine, a pair's cost is

      d = 0.5 d_cos  if d_cos < theta_emb and d_iou < theta_iou, else 1;   C = min(d_iou, d)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trackers.association import Matching, Pairs, overlapping
from trackers.boxes import check_fraction
from trackers.kalman import XYWH, BoxFilter, BoxStates
from trackers.table import Scene, TableTracker, TrackTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class LookingTable(TrackTable):
    """Tracks with what they look like.

    Attributes:
        features: Shape (N, D), of unit length, or 0 of those whose looks are not known; D is 0
            as long as no detections had features.
    """

    features: Features


class BotSort(TableTracker[LookingTable]):
    """Follows people by motion, overlap and, when there are features, by what they look like.

    The stages are ByteTrack's. Without features and without a camera motion it differs from
    ByteTrack by its filter, and by not weighing overlap by confidence.

        tracker = BotSort()
        for frame_detections in detections:  # with features and camera_motion, or without
            tracks = tracker.update(frame_detections, interval_s=1 / 25)

    Only people seen in this frame are reported, with their smoothed box. Ids begin at 1, rise, and
    are never reused.

    Args:
        high_confidence: From here on a detection is sure. Higher begins fewer false tracks, at the
            price of losing people the detector is unsure of.
        low_confidence: Detections below are ignored. Higher follows fewer ghosts, at the price of
            losing people who are half hidden.
        new_confidence: Confidence a new track needs. Higher keeps false tracks out, at the price
            of finding people later.
        min_overlap: How alike a sure detection must be to a known person: overlap (IoU of widened
            boxes), or appearance where that says more. Higher merges fewer different people, at
            the price of more broken tracks.
        min_low_overlap: Overlap that makes an unsure detection a known person. Higher drifts less
            onto ghosts, at the price of losing half hidden people.
        min_new_overlap: As `min_overlap`, for tracks not confirmed yet. Higher confirms fewer
            false tracks, at the price of missing people who move fast.
        max_looks_distance: Appearance counts for pairs whose cosine distance is below
            (theta_emb). Higher trusts appearance in other light, at the price of mistaking people
            in similar clothes for each other; 0 leaves appearance out. The paper's is 0.25.
        min_looks_overlap: Appearance counts for pairs that overlap by more (1 - theta_iou).
            Higher asks the looks of near people only, at the price of losing those whose
            prediction is off. The paper's is 0.5.
        looks_memory: Share of what is known of a person's looks that a new sighting keeps.
            Higher forgets slower what people look like, at the price of knowing new sides of them
            later.
        max_newcomer_overlap: A sure detection that is nobody's and overlaps a person matched in
            this frame by more (plain IoU) begins no track. Higher finds people in dense groups, at
            the price of double tracks; 1 is the paper.
        box_margin: Boxes are widened by this fraction of their size on each side before overlaps
            are measured. Higher keeps small, fast or badly boxed people, at the price of more
            switches between neighbours; 0 is the paper.
        lost_s: Seconds a person may be out of sight and keep their id. Higher bridges longer
            occlusions, at the price of giving the id to somebody else who comes by.
        confirm_frames: Frames in a row a new track must be seen before it is reported. Higher
            keeps out short false tracks, at the price of a late start and lost passers-by.
        box_noise: Standard deviation of the detector's boxes, as a fraction of their width and
            height. Higher smooths a jumping detector, at the price of lagging behind people who
            turn.
        position_noise: Motion that a constant velocity misses in 1/25 s, as a fraction of the
            size. Higher follows the detector's boxes more closely, at the price of more jitter.
        velocity_noise: Change of velocity in 1/25 s, as a fraction of the size per 1/25 s. Higher
            follows people who stop and turn, at the price of wilder guesses while hidden.

    Raises:
        ValueError: A parameter is out of its range.
    """

    def __init__(
        self,
        *,
        high_confidence: float = 0.5,
        low_confidence: float = 0.1,
        new_confidence: float = 0.6,
        min_overlap: float = 0.2,
        min_low_overlap: float = 0.5,
        min_new_overlap: float = 0.3,
        max_looks_distance: float = 0.3,
        min_looks_overlap: float = 0.1,
        looks_memory: float = 0.9,
        max_newcomer_overlap: float = 0.4,
        box_margin: float = 0.1,
        lost_s: float = 1.5,
        confirm_frames: int = 3,
        box_noise: float = 0.2,
        position_noise: float = 1 / 60,
        velocity_noise: float = 1 / 320,
    ) -> None:
        check_fraction("low_confidence", low_confidence)
        check_fraction("high_confidence", high_confidence, at_least=low_confidence)
        check_fraction("new_confidence", new_confidence, at_least=high_confidence)
        check_fraction("min_overlap", min_overlap)
        check_fraction("min_low_overlap", min_low_overlap)
        check_fraction("min_new_overlap", min_new_overlap)
        check_fraction("max_looks_distance", max_looks_distance)
        check_fraction("min_looks_overlap", min_looks_overlap)
        check_fraction("looks_memory", looks_memory)
        super().__init__(
            BoxFilter(
                XYWH,
                box_noise=box_noise,
                position_noise=position_noise,
                velocity_noise=velocity_noise,
            ),
            new_confidence=new_confidence,
            max_newcomer_overlap=max_newcomer_overlap,
            box_margin=box_margin,
            lost_s=lost_s,
            confirm_frames=confirm_frames,
        )
        self._high, self._low = high_confidence, low_confidence
        self._min_overlap = min_overlap
        self._min_low_overlap = min_low_overlap
        self._min_new_overlap = min_new_overlap
        self._max_looks_distance = max_looks_distance
        self._min_looks_overlap = min_looks_overlap
        self._looks_memory = looks_memory

    def _match(self, matching: Matching, known: LookingTable, wide: Floats, scene: Scene) -> None:
        pairs = overlapping(wide, scene.wide)
        alike = self._with_looks(pairs, known, scene)
        is_high = scene.confidence >= self._high
        is_low = (scene.confidence >= self._low) & ~is_high
        was_seen = known.is_known & (known.unseen_s <= scene.interval_s)
        matching.stage(pairs, alike, self._min_overlap, known.is_known, is_high)
        matching.stage(pairs, pairs.overlap, self._min_low_overlap, was_seen, is_low)
        matching.stage(pairs, alike, self._min_new_overlap, ~known.is_known, is_high)

    def _with_looks(self, pairs: Pairs, known: LookingTable, scene: Scene) -> Floats:
        """Return how alike pairs are: 1 - C."""
        if scene.features is None:
            return pairs.overlap
        near = np.flatnonzero(pairs.overlap > self._min_looks_overlap)
        looks = known.features[pairs.rows[near]], _unit(scene.features)[pairs.columns[near]]
        distance = 1 - np.einsum("kd,kd->k", *looks).astype(np.float64)
        is_alike = distance < self._max_looks_distance
        alike = pairs.overlap.copy()
        alike[near[is_alike]] = np.maximum(alike[near], 1 - 0.5 * distance)[is_alike]
        return alike

    def _aged(self, scene: Scene) -> tuple[LookingTable, tuple[int, ...]]:
        known, ended = super()._aged(scene)
        if scene.features is None:
            return known, ended
        had, size = known.features.shape[1], scene.features.shape[1]
        if had == size:
            return known, ended
        if had:
            raise ValueError(
                f"Detections.features: expected {had} numbers a person as in the frames before, "
                f"got {size}"
            )
        return replace(known, features=np.zeros((len(known), size), dtype=np.float32)), ended

    def _seen(
        self, known: LookingTable, predicted: BoxStates, scene: Scene, rows: Ints
    ) -> LookingTable:
        seen = super()._seen(known, predicted, scene, rows)
        if scene.features is None:
            return seen
        new = _unit(scene.features[rows])
        is_first = ~known.features.any(axis=1, keepdims=True)
        keep = np.where(is_first, 0.0, self._looks_memory).astype(np.float32)
        return replace(seen, features=_unit(keep * known.features + (1 - keep) * new))

    def _begin(self, scene: Scene, rows: Ints) -> LookingTable:
        if scene.features is None:
            features = np.zeros((len(rows), self._table.features.shape[1]), dtype=np.float32)
        else:
            features = _unit(scene.features[rows])
        return LookingTable(*self._new_columns(scene, rows), features)


def _unit(features: Features) -> Features:
    """Return vectors of length 1; those without length stay 0."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)
