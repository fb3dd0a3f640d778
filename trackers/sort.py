"""SORT: a Kalman filter, overlap, and the best assignment; nothing else.

After Bewley et al., "Simple Online and Realtime Tracking", ICIP 2016, written from the paper. The
state is that of its section 3.2, [u, v, s, r, u', v', s']: centre, area, and an aspect ratio that
has no velocity. What is ours is time in seconds and what `Sort`'s parameters say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackers.association import Matching, overlapping
from trackers.boxes import check_fractions
from trackers.kalman import XYSR
from trackers.table import Scene, TableTracker, TrackTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(kw_only=True, eq=False)
class Sort(TableTracker[TrackTable]):
    """Follows people by motion and overlap alone, with as few rules as can be.

    Each frame everybody known is predicted to the frame's time (section 3.2) and matched with the
    detections so that the summed overlap is greatest (section 3.3); a pair that overlaps by
    `min_overlap` or less is none. Detections that are nobody's begin a track, which is reported
    once it was seen in `confirm_frames` frames in a row, and a track not seen for `lost_s` ends
    (section 3.4; the paper ends a track that misses one frame, and leaves bringing people back to
    others).

        tracker = Sort()
        for frame_detections in detections:
            tracks = tracker.update(frame_detections, interval_s=1 / 25)

    The parameters that all share are explained in `trackers.table.TableTracker`.

    Attributes:
        min_confidence: Detections below are ignored. Higher begins fewer false tracks, at the
            price of losing people the detector is unsure of.
        min_overlap: Overlap (IoU of widened boxes) that makes a detection a known person. Higher
            merges fewer different people, at the price of more broken tracks.

    Raises:
        ValueError: A parameter is out of its range.
    """

    min_confidence: float = 0.4
    min_overlap: float = 0.3

    _coordinates = XYSR

    def __post_init__(self) -> None:
        check_fractions(min_confidence=self.min_confidence, min_overlap=self.min_overlap)
        super().__post_init__()

    @property
    def _newcomers_from(self) -> float:
        return self.min_confidence

    def _match(self, matching: Matching, known: TrackTable, wide: Floats, scene: Scene) -> None:
        pairs = overlapping(wide, scene.wide)
        everybody = np.ones(len(known), dtype=np.bool_)
        is_sure = scene.confidence >= self.min_confidence
        matching.stage(pairs, pairs.overlap, self.min_overlap, everybody, is_sure)

    def _begin(self, scene: Scene, rows: Ints) -> TrackTable:
        return TrackTable(*self._new_columns(scene, rows))
