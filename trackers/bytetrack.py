"""ByteTrack: follow people by associating every detection box, the unsure ones too.

After Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV
2022, Algorithm 1, written from the paper. What is ours is in `ByteTrack`'s parameters: time in
seconds, and boxes widened for association (C-BIoU, WACV 2023).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackers.association import Matching, overlapping
from trackers.boxes import check_fraction
from trackers.kalman import XYAH, BoxFilter
from trackers.table import Scene, TableTracker, TrackTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class ByteTrack(TableTracker[TrackTable]):
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
        check_fraction("low_confidence", low_confidence)
        check_fraction("high_confidence", high_confidence, at_least=low_confidence)
        check_fraction("new_confidence", new_confidence, at_least=high_confidence)
        check_fraction("min_overlap", min_overlap)
        check_fraction("min_low_overlap", min_low_overlap)
        check_fraction("min_new_overlap", min_new_overlap)
        super().__init__(
            BoxFilter(
                XYAH,
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

    def _match(self, matching: Matching, known: TrackTable, wide: Floats, scene: Scene) -> None:
        """Algorithm 1, lines 3 to 21."""
        pairs = overlapping(wide, scene.wide)
        sure_overlap = pairs.overlap * scene.confidence[pairs.columns]
        is_high = scene.confidence >= self._high
        is_low = (scene.confidence >= self._low) & ~is_high
        was_seen = known.is_known & (known.unseen_s <= scene.interval_s)
        matching.stage(pairs, sure_overlap, self._min_overlap, known.is_known, is_high)
        matching.stage(pairs, pairs.overlap, self._min_low_overlap, was_seen, is_low)
        matching.stage(pairs, sure_overlap, self._min_new_overlap, ~known.is_known, is_high)

    def _begin(self, scene: Scene, rows: Ints) -> TrackTable:
        return TrackTable(*self._new_columns(scene, rows))
