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

from trackers.association import Pairs
from trackers.boxes import check_fractions
from trackers.bytetrack import SureThenUnsure
from trackers.kalman import XYWH, BoxStates
from trackers.table import Scene, TrackTable

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


@dataclass(kw_only=True, eq=False)
class BotSort(SureThenUnsure[LookingTable]):
    """Follows people by motion, overlap and, when there are features, by what they look like.

    Without features and without a camera motion it differs from ByteTrack by its filter, and by
    not weighing overlap by confidence.

        tracker = BotSort()
        for frame_detections in detections:  # with features and camera_motion, or without
            tracks = tracker.update(frame_detections, interval_s=1 / 25)

    The parameters that it has from ByteTrack are explained in `trackers.bytetrack.SureThenUnsure`,
    those that all share in `trackers.table.TableTracker`.

    Attributes:
        max_looks_distance: Appearance counts for pairs whose cosine distance is below
            (theta_emb). Higher trusts appearance in other light, at the price of mistaking people
            in similar clothes for each other; 0 leaves appearance out. The paper's is 0.25.
        min_looks_overlap: Appearance counts for pairs that overlap by more (1 - theta_iou).
            Higher asks the looks of near people only, at the price of losing those whose
            prediction is off. The paper's is 0.5.
        looks_memory: Share of what is known of a person's looks that a new sighting keeps.
            Higher forgets slower what people look like, at the price of knowing new sides of them
            later.

    Raises:
        ValueError: A parameter is out of its range.
    """

    max_looks_distance: float = 0.15
    min_looks_overlap: float = 0.3
    looks_memory: float = 0.9

    _coordinates = XYWH

    def __post_init__(self) -> None:
        check_fractions(
            max_looks_distance=self.max_looks_distance,
            min_looks_overlap=self.min_looks_overlap,
            looks_memory=self.looks_memory,
        )
        super().__post_init__()

    def _alike(self, pairs: Pairs, known: LookingTable, scene: Scene) -> Floats:
        """Return 1 - C of each pair."""
        if scene.features is None:
            return pairs.overlap
        near = np.flatnonzero(pairs.overlap > self.min_looks_overlap)
        looks = known.features[pairs.rows[near]], _unit(scene.features)[pairs.columns[near]]
        distance = 1 - np.einsum("kd,kd->k", *looks).astype(np.float64)
        is_alike = distance < self.max_looks_distance
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
        keep = np.where(is_first, 0.0, self.looks_memory).astype(np.float32)
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
