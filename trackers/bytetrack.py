"""ByteTrack: follow people by associating every detection box, the unsure ones too.

After Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV
2022, Algorithm 1, written from the paper. What is ours is in the parameters: time in seconds, and
boxes widened for association (C-BIoU, WACV 2023).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from trackers.association import Matching, Pairs, overlapping
from trackers.boxes import check_fractions, check_rising
from trackers.kalman import XYAH
from trackers.table import Scene, TableTracker, TrackTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
T = TypeVar("T", bound=TrackTable)


@dataclass(kw_only=True, eq=False)
class SureThenUnsure(TableTracker[T]):
    """Algorithm 1 of ByteTrack, whatever makes a person and a detection alike.

    Everybody known is predicted to the frame's time. Sure detections (`high_confidence`) are
    matched with everybody known, lost people too. What a person's occlusion leaves of a detection
    (`low_confidence`) is matched with those seen in the last frame and not matched yet, so that a
    half hidden person is not lost. Sure detections that are nobody's begin a new track, which is
    reported once it was seen in `confirm_frames` frames in a row; a track not seen for `lost_s`
    ends.

    Attributes:
        high_confidence: From here on a detection is sure. Higher begins fewer false tracks, at the
            price of losing people the detector is unsure of.
        low_confidence: Detections below are ignored. Higher follows fewer ghosts, at the price of
            losing people who are half hidden.
        new_confidence: Confidence a new track needs. Higher keeps false tracks out, at the price
            of finding people later.
        min_overlap: How alike a sure detection and a known person must be: the overlap (IoU of
            widened boxes), times the confidence for ByteTrack, or the looks for BoT-SORT where they
            say more. Higher merges fewer different people, at the price of more broken tracks.
        min_low_overlap: Overlap (IoU of widened boxes) that makes an unsure detection a known
            person. Higher drifts less onto ghosts, at the price of losing half hidden people.
        min_new_overlap: As `min_overlap`, for tracks not confirmed yet. Higher confirms fewer
            false tracks, at the price of missing people who move fast.
    """

    high_confidence: float = 0.45
    low_confidence: float = 0.1
    new_confidence: float = 0.5
    min_overlap: float = 0.3
    min_low_overlap: float = 0.5
    min_new_overlap: float = 0.3

    def __post_init__(self) -> None:
        check_rising(
            low_confidence=self.low_confidence,
            high_confidence=self.high_confidence,
            new_confidence=self.new_confidence,
        )
        check_fractions(
            min_overlap=self.min_overlap,
            min_low_overlap=self.min_low_overlap,
            min_new_overlap=self.min_new_overlap,
        )
        super().__post_init__()

    @property
    def _newcomers_from(self) -> float:
        return self.new_confidence

    @abstractmethod
    def _alike(self, pairs: Pairs, known: T, scene: Scene) -> Floats:
        """Return how alike people and sure detections are that overlap."""

    def _match(self, matching: Matching, known: T, wide: Floats, scene: Scene) -> None:
        """Algorithm 1, lines 3 to 21."""
        pairs = overlapping(wide, scene.wide)
        alike = self._alike(pairs, known, scene)
        is_high = scene.confidence >= self.high_confidence
        is_low = (scene.confidence >= self.low_confidence) & ~is_high
        was_seen = known.is_known & (known.unseen_s <= scene.interval_s)
        matching.stage(pairs, alike, self.min_overlap, known.is_known, is_high)
        matching.stage(pairs, pairs.overlap, self.min_low_overlap, was_seen, is_low)
        matching.stage(pairs, alike, self.min_new_overlap, ~known.is_known, is_high)


@dataclass(kw_only=True, eq=False)
class ByteTrack(SureThenUnsure[TrackTable]):
    """Follows people by motion and overlap alone.

    Sure detections are matched by the overlap (IoU of widened boxes) times their confidence; the
    rest is `SureThenUnsure`, where the parameters are explained, with those that all share in
    `trackers.table.TableTracker`.

        tracker = ByteTrack(lost_s=3.0)
        for frame_detections in detections:
            tracks = tracker.update(frame_detections, interval_s=1 / 25)
            for track_id, box in zip(tracks.track_ids, tracks.xyxy):
                ...
        tracker.finish()

    Raises:
        ValueError: A parameter is out of its range.
    """

    min_overlap: float = 0.22  # times the confidence

    _coordinates = XYAH

    def _alike(self, pairs: Pairs, known: TrackTable, scene: Scene) -> Floats:
        alike: Floats = pairs.overlap * scene.confidence[pairs.columns]
        return alike

    def _begin(self, scene: Scene, rows: Ints) -> TrackTable:
        return TrackTable(*self._new_columns(scene, rows))
