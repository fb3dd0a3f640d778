"""Boxes of many streams to tracks: one tracker a stream, a new one at every epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.values import Frame
from trackers.boxes import Detections, Tracker, Tracks, pick_masks


@dataclass(slots=True)
class _StreamState:
    tracker: Tracker
    epoch: int
    time_s: float
    first_id: int = 0  # added to the tracker's own ids, so that an epoch never reuses one
    highest_id: int = -1
    frame_interval_s: float = 0.04


class StreamTrackers:
    """Follows the people of every stream, each stream by a tracker of its own.

    Ids stay unique in a stream across epochs: when the picture's size changes or a camera
    reconnects, the old tracker's people end and a new tracker counts on from their ids.
    """

    def __init__(self, build: Callable[[], Tracker]) -> None:
        self._build = build
        self._streams: dict[str, _StreamState] = {}

    def update(self, frames: Sequence[Frame], detections: Sequence[Detections]) -> list[Tracks]:
        """Return the tracks in each frame; frames of one stream come in time order."""
        return [self._update(f, d) for f, d in zip(frames, detections, strict=True)]

    def finish(self, stream: str) -> tuple[int, ...]:
        """End every track of a stream that is over and return their ids."""
        state = self._streams.pop(stream, None)
        return () if state is None else _shifted(state.tracker.finish(), state.first_id)

    def _update(self, frame: Frame, detections: Detections) -> Tracks:
        state, ended_before = self._state(frame)
        interval_s = frame.time_s - state.time_s
        if interval_s <= 0:  # the first frame of an epoch: nothing to predict yet
            interval_s = state.frame_interval_s
        tracks = state.tracker.update(detections, interval_s=interval_s)
        state.time_s, state.frame_interval_s = frame.time_s, interval_s
        ids = tracks.track_ids + state.first_id
        state.highest_id = max([state.highest_id, *ids.tolist()])
        return dataclasses.replace(
            tracks,
            track_ids=ids.astype(np.int64),
            ended=ended_before + _shifted(tracks.ended, state.first_id),
            masks=pick_masks(detections.masks, tracks.detection_indices.tolist()),
        )

    def _state(self, frame: Frame) -> tuple[_StreamState, tuple[int, ...]]:
        state = self._streams.get(frame.stream)
        if state is not None and state.epoch == frame.epoch:
            return state, ()
        ended: tuple[int, ...] = ()
        first_id, highest_id = 0, -1
        if state is not None:
            ended = self.finish(frame.stream)
            first_id = highest_id = state.highest_id + 1
        state = _StreamState(self._build(), frame.epoch, frame.time_s, first_id, highest_id)
        self._streams[frame.stream] = state
        return state, ended


def _shifted(ids: tuple[int, ...], first_id: int) -> tuple[int, ...]:
    return tuple(i + first_id for i in ids)
