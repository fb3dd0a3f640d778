"""Boxes of many streams to tracks: one tracker a stream, a new one at every epoch."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from gait.strict import StrictModel
from pipeline.errors import ConfigError
from pipeline.values import Frame
from trackers.botsort import BotSort
from trackers.boxes import Detections, Tracker, Tracks, pick_masks
from trackers.bytetrack import ByteTrack
from trackers.deepsort import DeepSort
from trackers.ocsort import OCSort
from trackers.recorded import RecordedTracks
from trackers.sort import Sort


def _default(name: str, tracker: Callable[..., Tracker] = ByteTrack) -> Any:
    """Return a parameter's default from the tracker itself, where it is also explained."""
    return inspect.signature(tracker).parameters[name].default


def _built(tracker: Callable[..., Tracker], config: StrictModel) -> Tracker:
    """Return the tracker with the parameters of its configuration.

    Raises:
        ConfigError: A value is out of its range.
    """
    try:
        return tracker(**config.model_dump(exclude={"kind"}))
    except ValueError as error:
        raise ConfigError(f"tracker.{error}") from error


class ByteTrackConfig(StrictModel):
    """Motion and overlap alone; `trackers.bytetrack` explains each key in both directions.

    Attributes:
        high_confidence: From here on a detection is sure.
        low_confidence: Detections below are ignored.
        new_confidence: Confidence a new track needs.
        min_overlap: Overlap of widened boxes times confidence that makes a sure detection a known
            person.
        min_low_overlap: The same for unsure detections, without the confidence.
        min_new_overlap: The same for tracks that are not confirmed yet.
        max_newcomer_overlap: Nobody new begins where a known person's box overlaps by more.
        box_margin: Boxes are widened by this fraction of their size before they are compared.
        lost_s: Seconds a person may be out of sight and keep their id.
        confirm_frames: Frames in a row a new track must be seen before it is reported.
        box_noise: How much the detector's boxes jump, as a fraction of their height.
        position_noise: Motion a constant velocity misses in 1/25 s, as a fraction of the height.
        velocity_noise: Change of velocity in 1/25 s, likewise.
    """

    kind: Literal["bytetrack"] = "bytetrack"
    high_confidence: float = _default("high_confidence")
    low_confidence: float = _default("low_confidence")
    new_confidence: float = _default("new_confidence")
    min_overlap: float = _default("min_overlap")
    min_low_overlap: float = _default("min_low_overlap")
    min_new_overlap: float = _default("min_new_overlap")
    max_newcomer_overlap: float = _default("max_newcomer_overlap")
    box_margin: float = _default("box_margin")
    lost_s: float = _default("lost_s")
    confirm_frames: int = _default("confirm_frames")
    box_noise: float = _default("box_noise")
    position_noise: float = _default("position_noise")
    velocity_noise: float = _default("velocity_noise")

    def build(self) -> Tracker:
        """Return a tracker for one stream.

        Raises:
            ConfigError: A value is out of its range.
        """
        return _built(ByteTrack, self)


class SortConfig(StrictModel):
    """Motion and overlap with as few rules as can be; `trackers.sort` explains each key.

    Attributes:
        min_confidence: Detections below are ignored.
        min_overlap: Overlap of widened boxes that makes a detection a known person.
        max_newcomer_overlap: Nobody new begins where a known person's box overlaps by more.
        box_margin: Boxes are widened by this fraction of their size before they are compared.
        lost_s: Seconds a person may be out of sight and keep their id.
        confirm_frames: Frames in a row a new track must be seen before it is reported.
        box_noise: How much the detector's boxes jump, as a fraction of their height.
        position_noise: Motion a constant velocity misses in 1/25 s, as a fraction of the height.
        velocity_noise: Change of velocity in 1/25 s, likewise.
    """

    kind: Literal["sort"] = "sort"
    min_confidence: float = _default("min_confidence", Sort)
    min_overlap: float = _default("min_overlap", Sort)
    max_newcomer_overlap: float = _default("max_newcomer_overlap", Sort)
    box_margin: float = _default("box_margin", Sort)
    lost_s: float = _default("lost_s", Sort)
    confirm_frames: int = _default("confirm_frames", Sort)
    box_noise: float = _default("box_noise", Sort)
    position_noise: float = _default("position_noise", Sort)
    velocity_noise: float = _default("velocity_noise", Sort)

    def build(self) -> Tracker:
        """Return a tracker for one stream.

        Raises:
            ConfigError: A value is out of its range.
        """
        return _built(Sort, self)


class OCSortConfig(StrictModel):
    """Motion and overlap through crowds and turns; `trackers.ocsort` explains each key.

    Attributes:
        min_confidence: Detections below are ignored.
        min_overlap: Overlap of widened boxes that makes a detection a known person.
        min_recovery_overlap: The same with where a person was last seen; 1 switches it off.
        recovery_s: Seconds for which a person is looked for where they were last seen.
        direction_weight: What half a turn between a person's and a detection's way costs, in
            overlap.
        direction_s: Seconds over which directions are taken.
        max_newcomer_overlap: Nobody new begins where a known person's box overlaps by more.
        box_margin: Boxes are widened by this fraction of their size before they are compared.
        lost_s: Seconds a person may be out of sight and keep their id.
        confirm_frames: Frames in a row a new track must be seen before it is reported.
        box_noise: How much the detector's boxes jump, as a fraction of their height.
        position_noise: Motion a constant velocity misses in 1/25 s, as a fraction of the height.
        velocity_noise: Change of velocity in 1/25 s, likewise.
    """

    kind: Literal["ocsort"] = "ocsort"
    min_confidence: float = _default("min_confidence", OCSort)
    min_overlap: float = _default("min_overlap", OCSort)
    min_recovery_overlap: float = _default("min_recovery_overlap", OCSort)
    recovery_s: float = _default("recovery_s", OCSort)
    direction_weight: float = _default("direction_weight", OCSort)
    direction_s: float = _default("direction_s", OCSort)
    max_newcomer_overlap: float = _default("max_newcomer_overlap", OCSort)
    box_margin: float = _default("box_margin", OCSort)
    lost_s: float = _default("lost_s", OCSort)
    confirm_frames: int = _default("confirm_frames", OCSort)
    box_noise: float = _default("box_noise", OCSort)
    position_noise: float = _default("position_noise", OCSort)
    velocity_noise: float = _default("velocity_noise", OCSort)

    def build(self) -> Tracker:
        """Return a tracker for one stream.

        Raises:
            ConfigError: A value is out of its range.
        """
        return _built(OCSort, self)


class BotSortConfig(StrictModel):
    """Motion, overlap and, with an `appearance` stage, looks; `trackers.botsort` explains each key.

    A `camera_motion` stage takes the camera's own motion out.

    Attributes:
        high_confidence: From here on a detection is sure.
        low_confidence: Detections below are ignored.
        new_confidence: Confidence a new track needs.
        min_overlap: Overlap of widened boxes that makes a sure detection a known person; looks
            count where they say more.
        min_low_overlap: The same for unsure detections, without the looks.
        min_new_overlap: As `min_overlap`, for tracks that are not confirmed yet.
        max_looks_distance: Looks count for pairs whose cosine distance is below.
        min_looks_overlap: Looks count for pairs that overlap by more.
        looks_memory: Share of what is known of a person's looks that a new sighting keeps.
        max_newcomer_overlap: Nobody new begins where a known person's box overlaps by more.
        box_margin: Boxes are widened by this fraction of their size before they are compared.
        lost_s: Seconds a person may be out of sight and keep their id.
        confirm_frames: Frames in a row a new track must be seen before it is reported.
        box_noise: How much the detector's boxes jump, as a fraction of their size.
        position_noise: Motion a constant velocity misses in 1/25 s, as a fraction of the size.
        velocity_noise: Change of velocity in 1/25 s, likewise.
    """

    kind: Literal["botsort"] = "botsort"
    high_confidence: float = _default("high_confidence", BotSort)
    low_confidence: float = _default("low_confidence", BotSort)
    new_confidence: float = _default("new_confidence", BotSort)
    min_overlap: float = _default("min_overlap", BotSort)
    min_low_overlap: float = _default("min_low_overlap", BotSort)
    min_new_overlap: float = _default("min_new_overlap", BotSort)
    max_looks_distance: float = _default("max_looks_distance", BotSort)
    min_looks_overlap: float = _default("min_looks_overlap", BotSort)
    looks_memory: float = _default("looks_memory", BotSort)
    max_newcomer_overlap: float = _default("max_newcomer_overlap", BotSort)
    box_margin: float = _default("box_margin", BotSort)
    lost_s: float = _default("lost_s", BotSort)
    confirm_frames: int = _default("confirm_frames", BotSort)
    box_noise: float = _default("box_noise", BotSort)
    position_noise: float = _default("position_noise", BotSort)
    velocity_noise: float = _default("velocity_noise", BotSort)

    def build(self) -> Tracker:
        """Return a tracker for one stream.

        Raises:
            ConfigError: A value is out of its range.
        """
        return _built(BotSort, self)


class DeepSortConfig(StrictModel):
    """Appearance first, by deep-sort-realtime; `trackers.deepsort` explains each key.

    Needs an `appearance` stage for the vectors it compares.

    Attributes:
        min_confidence: Detections below are ignored.
        max_cosine_distance: How unlike the nearest remembered vector of a person may be.
        min_overlap: Overlap that matches those whom appearance did not.
        lost_s: Seconds a person may be out of sight and keep their id.
        confirm_frames: Frames in a row a new track must be seen before it is reported.
        features_per_track: Vectors remembered of each person.
        frame_interval_s: Seconds between two frames of the stream when none is lost.
    """

    kind: Literal["deepsort"] = "deepsort"
    min_confidence: float = _default("min_confidence", DeepSort)
    max_cosine_distance: float = _default("max_cosine_distance", DeepSort)
    min_overlap: float = _default("min_overlap", DeepSort)
    lost_s: float = _default("lost_s", DeepSort)
    confirm_frames: int = _default("confirm_frames", DeepSort)
    features_per_track: int = _default("features_per_track", DeepSort)
    frame_interval_s: float = _default("frame_interval_s", DeepSort)

    def build(self) -> Tracker:
        """Return a tracker for one stream.

        Raises:
            ConfigError: A value is out of its range, or the library is not installed.
        """
        try:
            return _built(DeepSort, self)
        except ImportError as error:
            raise ConfigError(f"tracker: {error}") from error


class RecordedTracksConfig(StrictModel):
    """The ids that the boxes of `detector: replay` bring; a track ends with its stream."""

    kind: Literal["replay"] = "replay"

    def build(self) -> Tracker:
        """Return a tracker for one stream."""
        return RecordedTracks()


AnyTrackerConfig = (
    SortConfig
    | ByteTrackConfig
    | OCSortConfig
    | BotSortConfig
    | DeepSortConfig
    | RecordedTracksConfig
)

TRACKERS: dict[str, type[AnyTrackerConfig]] = {
    "sort": SortConfig,
    "bytetrack": ByteTrackConfig,
    "ocsort": OCSortConfig,
    "botsort": BotSortConfig,
    "deepsort": DeepSortConfig,
    "replay": RecordedTracksConfig,
}
"""Every tracker by the `kind` that chooses it."""

TrackerConfig = Annotated[AnyTrackerConfig, Field(discriminator="kind")]


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
    reconnects, the old tracker's people end and a new tracker counts on from their ids. So it does
    when a stream ends and another of its name begins: what is still to be told of the old one's
    people must not be taken for the new one's.
    """

    def __init__(self, build: Callable[[], Tracker]) -> None:
        self._build = build
        self._streams: dict[str, _StreamState] = {}
        self._highest: dict[str, int] = {}  # id of each stream that has ended

    def update(self, frames: Sequence[Frame], detections: Sequence[Detections]) -> list[Tracks]:
        """Return the tracks in each frame; frames of one stream come in time order."""
        return [self._update(f, d) for f, d in zip(frames, detections, strict=True)]

    def finish(self, stream: str) -> tuple[int, ...]:
        """End every track of a stream that is over and return their ids."""
        state = self._streams.pop(stream, None)
        if state is None:
            return ()
        self._highest[stream] = state.highest_id
        return _shifted(state.tracker.finish(), state.first_id)

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
        ended = self.finish(frame.stream)
        highest_id = self._highest.get(frame.stream, -1)
        state = _StreamState(self._build(), frame.epoch, frame.time_s, highest_id + 1, highest_id)
        self._streams[frame.stream] = state
        return state, ended


def _shifted(ids: tuple[int, ...], first_id: int) -> tuple[int, ...]:
    return tuple(i + first_id for i in ids)
