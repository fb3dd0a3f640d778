"""Boxes of many streams to tracks: one tracker a stream, a new one at every epoch."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, create_model

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

_CLASSES: dict[str, type[Any]] = {
    "sort": Sort,
    "bytetrack": ByteTrack,
    "ocsort": OCSort,
    "botsort": BotSort,
    "deepsort": DeepSort,
    "replay": RecordedTracks,
}


class AnyTrackerConfig(StrictModel):
    """A tracker's configuration: which one, and its parameters.

    Attributes:
        kind: Which one.
    """

    kind: str

    def build(self) -> Tracker:
        """Return a tracker for one stream.

        Raises:
            ConfigError: A value is out of its range, or a library is not installed.
        """
        try:
            tracker: Tracker = _CLASSES[self.kind](**self.model_dump(exclude={"kind"}))
        except ValueError as error:
            raise ConfigError(f"tracker.{error}") from error
        except ImportError as error:
            raise ConfigError(f"tracker: {error}") from error
        return tracker


def _config(kind: str, tracker: type[Any]) -> type[AnyTrackerConfig]:
    """Return the configuration whose keys, defaults and meanings are the tracker's parameters.

    So each is written once, where those read it too who use the trackers without the pipeline.
    """
    literal: Any = Literal
    keys: dict[str, Any] = {"kind": (literal[kind], kind)}
    for name, parameter in inspect.signature(tracker).parameters.items():
        keys[name] = (type(parameter.default), parameter.default)
    doc, name = _doc(tracker), f"{tracker.__name__}Config"
    return create_model(name, __base__=AnyTrackerConfig, __doc__=doc, __module__=__name__, **keys)


def _doc(tracker: type[Any]) -> str:
    """Return a tracker's summary, and what its parameters mean, also those it has from others."""
    meanings = [
        found[1]
        for each in tracker.__mro__
        if (found := _PARAMETERS.search(inspect.cleandoc(each.__doc__ or "")))
    ]
    summary = (inspect.getdoc(tracker) or "").partition("\n\n")[0]
    return "\n".join([summary, "", "Attributes:", *meanings])


_PARAMETERS = re.compile(r"(?:Args|Attributes):\n(.*?)(?=\n\n|\Z)", re.DOTALL)


TRACKERS = {kind: _config(kind, tracker) for kind, tracker in _CLASSES.items()}
"""Every tracker's configuration by the `kind` that chooses it."""

if TYPE_CHECKING:
    TrackerConfig = AnyTrackerConfig
else:
    TrackerConfig = Annotated[reduce(or_, TRACKERS.values()), Field(discriminator="kind")]


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
