"""SORT: a Kalman filter, overlap, and the best assignment; nothing else.

After Bewley et al., "Simple Online and Realtime Tracking", ICIP 2016, written from the paper. The
state is that of its section 3.2, [u, v, s, r, u', v', s']: centre, area, and an aspect ratio that
has no velocity. What is ours is time in seconds and what `Sort`'s parameters say.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackers.association import Matching, overlapping
from trackers.boxes import check_fraction
from trackers.kalman import XYSR, BoxFilter
from trackers.table import Scene, TableTracker, TrackTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Sort(TableTracker[TrackTable]):
    """Follows people by motion and overlap alone, with as few rules as can be.

    Each frame everybody known is predicted to the frame's time (section 3.2) and matched with the
    detections so that the summed overlap is greatest (section 3.3); a pair that overlaps by
    `min_overlap` or less is none. Detections that are nobody's begin a track, which is reported
    once it was seen in `confirm_frames` frames in a row, and a track not seen for `lost_s` ends
    (section 3.4).

        tracker = Sort()
        for frame_detections in detections:
            tracks = tracker.update(frame_detections, interval_s=1 / 25)

    Only people seen in this frame are reported, with their smoothed box. Ids begin at 1, rise, and
    are never reused.

    Args:
        min_confidence: Detections below are ignored. Higher begins fewer false tracks, at the
            price of losing people the detector is unsure of.
        min_overlap: Overlap (IoU) that makes a detection a known person. Higher merges fewer
            different people, at the price of more broken tracks.
        max_newcomer_overlap: A detection that is nobody's and overlaps a person matched in this
            frame by more begins no track. Higher finds people in dense groups, at the price of
            double tracks; 1 is the paper.
        box_margin: Boxes are widened by this fraction of their size on each side before overlaps
            are measured. Higher keeps small, fast or badly boxed people, at the price of more
            switches between neighbours; 0 is the paper.
        lost_s: Seconds a person may be out of sight and keep their id; at least the interval
            between two frames. Higher bridges longer occlusions, at the price of giving the id to
            somebody else who comes by. The paper ends a track that misses one frame, and leaves
            bringing people back to others.
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
        max_newcomer_overlap: float = 0.4,
        box_margin: float = 0.2,
        lost_s: float = 0.5,
        confirm_frames: int = 3,
        box_noise: float = 0.2,
        position_noise: float = 1 / 60,
        velocity_noise: float = 1 / 320,
    ) -> None:
        check_fraction("min_confidence", min_confidence)
        check_fraction("min_overlap", min_overlap)
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

    def _match(self, matching: Matching, known: TrackTable, wide: Floats, scene: Scene) -> None:
        pairs = overlapping(wide, scene.wide)
        everybody = np.ones(len(known), dtype=np.bool_)
        is_sure = scene.confidence >= self._min_confidence
        matching.stage(pairs, pairs.overlap, self._min_overlap, everybody, is_sure)

    def _begin(self, scene: Scene, rows: Ints) -> TrackTable:
        return TrackTable(*self._new_columns(scene, rows))
