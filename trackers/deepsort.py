"""DeepSORT (Wojke et al., ICIP 2017) by the library deep-sort-realtime: motion and appearance.

The only file that knows the library. Appearance vectors come from `Detections.features`; the
library's own embedder stays switched off, because a tracker never sees an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackers.boxes import Detections, Tracks, check_seconds, pick_masks
from trackers.saved import Column, checked, demand, saved

_ROUNDING_S = 1e-6
_COUNTS = ("hits", "age", "time_since_update", "state")  # of the library's tracks
_COLUMNS: dict[str, Column] = {
    "next_ids": (np.int64, (2,)),
    "ids": (np.int64, ("N", 2)),
    "counts": (np.int64, ("N", len(_COUNTS))),
    "unseen_s": (np.float64, ("N",)),
    "mean": (np.float64, ("N", 8)),
    "covariance": (np.float64, ("N", 8, 8)),
    "features": (np.float32, ("K", "D")),
    "features_each": (np.int64, ("N",)),
}


class DeepSort:
    """Follows people by appearance first and by overlap second.

    Stronger than `trackers.bytetrack.ByteTrack` where people cross or hide for long and the
    appearance vectors tell them apart; slower, and no better with poor vectors.

    The library counts frames and knows no time. Here `interval_s` is honoured as far as it
    allows: a gap moves everybody by as many of the library's motion steps as frames are missing,
    and `lost_s` is measured in seconds. Frames that come faster than `frame_interval_s` still
    count as one step each, and end a lost track after lost_s / frame_interval_s frames.

    Args:
        min_confidence: Detections below are ignored. Higher begins fewer false tracks, at the
            price of losing people the detector is unsure of.
        max_cosine_distance: How unlike (1 - cosine) the nearest remembered vector of a person may
            be. Higher finds people again in other light, at the price of mistaking people in
            similar clothes for each other.
        min_overlap: Overlap (IoU) that matches those whom appearance did not. Higher mixes up
            fewer neighbours, at the price of broken tracks when people move fast.
        lost_s: Seconds a person may be out of sight and keep their id. Higher bridges longer
            occlusions, at the price of giving the id to somebody similar.
        confirm_frames: Frames in a row a new track must be seen before it is reported, 2 or
            more. Higher keeps out short false tracks, at the price of a late start.
        features_per_track: Vectors remembered of each person. Higher knows people from more sides,
            at the price of memory and time.
        frame_interval_s: Seconds between two frames of the stream when none is lost. Higher means
            fewer motion steps in a gap; it should be the stream's own.

    Raises:
        ValueError: A parameter is out of its range.
        ImportError: The library is not installed.
    """

    def __init__(
        self,
        *,
        min_confidence: float = 0.5,
        max_cosine_distance: float = 0.2,
        min_overlap: float = 0.3,
        lost_s: float = 1.5,
        confirm_frames: int = 3,
        features_per_track: int = 50,
        frame_interval_s: float = 0.04,
    ) -> None:
        for name, value, top in (
            ("min_confidence", min_confidence, 1.0),
            ("max_cosine_distance", max_cosine_distance, 2.0),
            ("min_overlap", min_overlap, 1.0),
        ):
            if not 0 <= value <= top:
                raise ValueError(f"{name}: expected a number in 0..{top:g}, got {value}")
        for name, count, least in (
            ("confirm_frames", confirm_frames, 2),
            ("features_per_track", features_per_track, 1),
        ):
            if count < least:
                raise ValueError(f"{name}: expected at least {least}, got {count}")
        check_seconds("lost_s", lost_s)
        check_seconds("frame_interval_s", frame_interval_s)
        if frame_interval_s == 0:
            raise ValueError("frame_interval_s: expected more than 0 seconds, got 0")
        self._min_confidence = min_confidence
        self._lost_s = lost_s
        self._frame_interval_s = frame_interval_s
        self._max_age = max(1, int(np.ceil(lost_s / frame_interval_s)))
        self._library = _load()(
            max_iou_distance=1 - min_overlap,
            max_age=self._max_age,
            n_init=confirm_frames,
            max_cosine_distance=max_cosine_distance,
            nn_budget=features_per_track,
            embedder=None,
        )
        self._feature_size: int | None = None
        self._ids: dict[str, int] = {}  # the library's id of a confirmed track: ours
        self._unseen_s: dict[str, float] = {}  # of every track of the library
        self._next_id = 1

    def update(self, detections: Detections, *, interval_s: float) -> Tracks:
        """Return who is where in this frame.

        Args:
            detections: The people found in this frame, with `features`.
            interval_s: Seconds since the previous frame; more than usual when frames were lost.

        Raises:
            ValueError: Features are missing or unusable, boxes are bad, or the interval is negative
                or no number. The tracker is unchanged.
        """
        check_seconds("interval_s", interval_s)
        detections.check()
        features = self._checked_features(detections)
        # The library drops empty boxes but not their features, which then belong to others.
        width, height = (detections.xyxy[:, 2:] - detections.xyxy[:, :2]).T
        usable = (detections.confidence >= self._min_confidence) & (width > 0) & (height > 0)
        rows = np.flatnonzero(usable)
        self._end_the_lost(interval_s)
        self._skip_lost_frames(interval_s)
        self._library.update_tracks(
            _to_library(detections, rows), embeds=features[rows], others=rows.tolist()
        )
        return self._report(detections)

    def finish(self) -> tuple[int, ...]:
        """End every track still open and return their ids; the stream is over."""
        self._library.tracker.tracks = []
        self._unseen_s.clear()
        return self._forget_gone()

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything it knows as plain arrays, such as `numpy.savez(file, **state)` takes.

        Parameters are not part of it.
        """
        tracker, tracks = self._library.tracker, self._library.tracker.tracks
        # A confirmed track's vectors lie with the metric, those of others with the track.
        looks = [[*tracker.metric.samples.get(t.track_id, ()), *t.features] for t in tracks]
        return saved(
            self,
            {
                "next_ids": np.array([self._next_id, tracker._next_id]),
                "ids": _numbers(
                    [[int(t.track_id), self._ids.get(t.track_id, 0)] for t in tracks], 2
                ),
                "counts": _numbers(
                    [[getattr(t, n) for n in _COUNTS] for t in tracks], len(_COUNTS)
                ),
                "unseen_s": np.array([self._unseen_s[t.track_id] for t in tracks], dtype=float),
                "mean": np.array([t.mean for t in tracks], dtype=float).reshape(-1, 8),
                "covariance": np.array([t.covariance for t in tracks], float).reshape(-1, 8, 8),
                "features": np.array([f for of in looks for f in of], dtype=np.float32).reshape(
                    sum(map(len, looks)), self._feature_size or 0
                ),
                "features_each": np.array([len(of) for of in looks], dtype=np.int64),
            },
        )

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from where `state` was taken.

        Raises:
            ValueError: It is not the state of such a tracker. This one is unchanged.
        """
        columns = checked(self, state, _COLUMNS)
        ids, counts, features = columns["ids"], columns["counts"], columns["features"]
        known = ids[ids[:, 1] > 0, 1]
        each = columns["features_each"]
        demand(
            {
                "ids: expected different ids of at least 0": (ids >= 0).all()
                and len(np.unique(ids[:, 0])) == len(ids)
                and len(np.unique(known)) == len(known),
                "next_ids: expected every id to be below": (known < columns["next_ids"][0]).all()
                and (ids[:, 0] < columns["next_ids"][1]).all(),
                "counts: expected none below 0, and a state of 1 or 2": (counts >= 0).all()
                and np.isin(counts[:, -1], (1, 2)).all(),
                "unseen_s: expected at least 0": (columns["unseen_s"] >= 0).all(),
                "features_each: expected as many as there are": (each >= 0).all()
                and each.sum() == len(features),
            }
        )
        self._take_up(columns)

    def _take_up(self, columns: Mapping[str, Any]) -> None:
        tracker = self._library.tracker
        self._next_id, tracker._next_id = columns["next_ids"].tolist()
        self._feature_size = columns["features"].shape[1] or None
        looks = np.split(columns["features"], np.cumsum(columns["features_each"])[:-1])
        tracker.tracks, tracker.metric.samples, self._ids, self._unseen_s = [], {}, {}, {}
        for row, (library_id, our_id) in enumerate(columns["ids"].tolist()):
            track = _new_track(
                tracker, columns["mean"][row], columns["covariance"][row], library_id
            )
            for name, count in zip(_COUNTS, columns["counts"][row].tolist(), strict=True):
                setattr(track, name, count)
            if track.is_confirmed():
                tracker.metric.samples[track.track_id] = list(looks[row])
            else:
                track.features = list(looks[row])
            if our_id:
                self._ids[track.track_id] = our_id
            self._unseen_s[track.track_id] = float(columns["unseen_s"][row])
            tracker.tracks.append(track)

    def _checked_features(self, detections: Detections) -> NDArray[np.float32]:
        if detections.features is None:
            if len(detections):
                raise ValueError(
                    "Detections.features: expected an appearance vector for each person, got None; "
                    "run an appearance stage before DeepSORT or track with ByteTrack"
                )
            return np.empty((0, self._feature_size or 1), dtype=np.float32)
        if not len(detections):
            return detections.features
        size = detections.features.shape[1]
        if self._feature_size not in (None, size):
            raise ValueError(
                f"Detections.features: expected {self._feature_size} numbers a person as in the "
                f"frames before, got {size}"
            )
        lengths = np.linalg.norm(detections.features, axis=1)
        if not (np.isfinite(lengths) & (lengths > 0)).all():
            raise ValueError("Detections.features: expected finite vectors of length 1")
        self._feature_size = size
        return detections.features

    def _skip_lost_frames(self, interval_s: float) -> None:
        """Move everybody by the motion steps of frames that never came, without ageing them."""
        steps = min(round(interval_s / self._frame_interval_s), self._max_age)
        tracker = self._library.tracker
        for track in tracker.tracks:
            for _ in range(steps - 1):  # the library takes the last step itself
                track.mean, track.covariance = tracker.kf.predict(track.mean, track.covariance)

    def _end_the_lost(self, interval_s: float) -> None:
        self._unseen_s = {k: seconds + interval_s for k, seconds in self._unseen_s.items()}
        self._library.tracker.tracks = [
            t
            for t in self._library.tracker.tracks
            if self._unseen_s[t.track_id] <= self._lost_s + _ROUNDING_S
        ]

    def _report(self, detections: Detections) -> Tracks:
        tracks = self._library.tracker.tracks
        self._unseen_s = {
            t.track_id: self._unseen_s[t.track_id] if t.time_since_update else 0.0 for t in tracks
        }
        seen = [t for t in tracks if t.is_confirmed() and not t.time_since_update]
        indices = np.array([t.get_det_supplementary() for t in seen], dtype=np.int64)
        return Tracks(
            track_ids=np.array([self._our_id(t.track_id) for t in seen], dtype=np.int64),
            xyxy=detections.xyxy[indices],
            confidence=detections.confidence[indices],
            detection_indices=indices,
            ended=self._forget_gone(),
            masks=pick_masks(detections.masks, indices.tolist()),
        )

    def _our_id(self, library_id: str) -> int:
        if library_id not in self._ids:
            self._ids[library_id] = self._next_id
            self._next_id += 1
        return self._ids[library_id]

    def _forget_gone(self) -> tuple[int, ...]:
        """Return our ids of the tracks the library no longer has."""
        gone = [library_id for library_id in self._ids if library_id not in self._unseen_s]
        return tuple(self._ids.pop(library_id) for library_id in gone)


def _new_track(tracker: Any, mean: Any, covariance: Any, library_id: int) -> Any:
    from deep_sort_realtime.deep_sort.track import Track

    return Track(mean, covariance, str(library_id), tracker.n_init, tracker.max_age)


def _numbers(rows: list[list[int]], each: int) -> NDArray[np.int64]:
    return np.array(rows, dtype=np.int64).reshape(-1, each)


def _load() -> Any:
    """Return the library's class.

    Raises:
        ImportError: It is not installed.
    """
    try:
        from deep_sort_realtime.deepsort_tracker import DeepSort as Library
    except ImportError as error:
        raise ImportError(
            "DeepSORT needs the library deep-sort-realtime. Install it with\n"
            "    pip install --no-deps deep-sort-realtime==1.3.2\n"
            "(--no-deps, because it asks for opencv-python, which would overwrite the headless "
            "OpenCV that is installed), or track with ByteTrack, which needs nothing"
        ) from error
    return Library


def _to_library(
    detections: Detections, rows: NDArray[np.int64]
) -> list[tuple[list[float], float, str]]:
    """Return left, top, width, height, the confidence and a class of each row."""
    ltwh = detections.xyxy[rows].astype(np.float64)
    ltwh[:, 2:] -= ltwh[:, :2]
    confidence = detections.confidence[rows].tolist()
    return [(b, c, "person") for b, c in zip(ltwh.tolist(), confidence, strict=True)]
