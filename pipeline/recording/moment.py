"""One picture of a camera, scaled, with the people in it; and the same with them drawn."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from pipeline.sinks.drawing import Canvas, Placement, annotate_image
from pipeline.sinks.live import Event
from pipeline.sinks.recorder import RecordedTrack, outline
from pipeline.values import Frame
from trackers.boxes import Mask, Tracks

_MOST_TRACKS = 2000
_BELIEVED_S = 1.0  # a camera's clock may be so far from the last frame's time of day


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What perception found in a frame, as it passes it on.

    Attributes:
        frame: The frame.
        tracks: The N people in it.
        masks: Their masks, None where there is none.
    """

    frame: Frame
    tracks: Tracks
    masks: Sequence[Mask | None]


class CaptureTimes:
    """When frames came to be: as far apart as their camera's clock says, at our time of day.

    Where cameras do not tell the time of day, frames are stamped as they arrive, in bursts.

    Args:
        clock: Unix time in seconds, for those cameras.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._origins: dict[str, float] = {}

    def unix_s(self, frame: Frame) -> float:
        """Return when a frame came to be, in seconds since 1970."""
        captured_s = self._clock() if frame.captured_s is None else frame.captured_s
        origin_s = self._origins.get(frame.stream)
        if origin_s is None or abs(origin_s + frame.time_s - captured_s) > _BELIEVED_S:
            origin_s = self._origins[frame.stream] = captured_s - frame.time_s
        return origin_s + frame.time_s

    def forget(self, camera: str) -> None:
        """Forget a camera."""
        self._origins.pop(camera, None)


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """A picture as it will be shown.

    Attributes:
        camera: Whose it is.
        at_unix_s: When it came to be, in seconds since 1970.
        picture: Shape (H, W, 3), uint8, BGR, of the canvas's size, with nothing drawn on it.
        placement: How frame coordinates lie on it.
        tracks: The people, in frame coordinates.
    """

    camera: str
    at_unix_s: float
    picture: NDArray[np.uint8]
    placement: Placement
    tracks: tuple[RecordedTrack, ...]

    @classmethod
    def of(cls, seen: Seen, at_unix_s: float, *, height: int | None, outlined: bool) -> Moment:
        """Return what was seen, at most `height` pixels high; outlines cost time."""
        frame = seen.frame
        scale = min(1.0, (height or frame.hw[0]) / frame.hw[0])
        placement = Canvas.of(frame.hw, max(1, round(frame.hw[1] * scale))).place(frame.hw)
        masks = seen.masks if outlined else repeat(None, len(seen.tracks))
        people = zip(seen.tracks.track_ids.tolist(), seen.tracks.xyxy, masks, strict=True)
        tracks = tuple(
            RecordedTrack(
                track_id,
                np.asarray(xyxy, dtype=np.float64),
                () if mask is None else tuple(outline(mask)),
            )
            for track_id, xyxy, mask in people
        )
        picture = placement.picture(frame.image)
        return cls(frame.stream, at_unix_s, picture, placement, tracks)

    def drawn(self, identities: Identities) -> NDArray[np.uint8]:
        """Return the picture with its people, the camera's name and the local time drawn on it."""
        names = {
            track.track_id: told.identity
            for track in self.tracks
            if (told := identities.of(self.camera, track.track_id)) is not None
        }
        when = datetime.fromtimestamp(self.at_unix_s).astimezone()
        caption = f"{self.camera} {when:%Y-%m-%d %H:%M:%S}.{when.microsecond // 100_000}"
        annotate_image(self.picture, self.tracks, names, self.placement, caption)
        return self.picture


@dataclass(frozen=True, slots=True)
class Told:
    """What an event says of a track.

    Attributes:
        camera: Whose track it is.
        track_id: Which one.
        identity: Who; None when nobody near enough is known.
        sighting: Id of the sighting's events.
        is_over: Whether this is final.
        gallery: Uid of the gallery that calls them so.
    """

    camera: str
    track_id: int
    identity: str | None
    sighting: str
    is_over: bool
    gallery: str | None = None

    @classmethod
    def by(cls, event: Event) -> Told | None:
        """Return what an event says of a track; None when it is about something else."""
        if event.kind != "sighting":
            return None
        content = event.content
        camera, track_id, identity = (content.get(k) for k in ("camera", "track_id", "identity"))
        gallery = content.get("gallery")
        if not isinstance(camera, str) or not isinstance(track_id, int):
            return None
        return cls(
            camera,
            track_id,
            identity if isinstance(identity, str) else None,
            str(content.get("id", "")),
            content.get("event") == "ended",
            gallery if isinstance(gallery, str) else None,
        )


class Identities:
    """Who the tracks in view are, as events have told; told and asked from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: OrderedDict[tuple[str, int], Told] = OrderedDict()

    def learn(self, told: Told) -> None:
        """Remember it, or forget a track that is over: its id may come again one day."""
        key = told.camera, told.track_id
        with self._lock:
            self._told.pop(key, None)
            if not told.is_over:
                self._told[key] = told
            if len(self._told) > _MOST_TRACKS:
                self._told.popitem(last=False)

    def of(self, camera: str, track_id: int) -> Told | None:
        """Return what was told of a track."""
        with self._lock:
            return self._told.get((camera, track_id))
