"""The value types of the machine: one per step, as DESIGN's story names them.

`Detections`, `Mask` and `Tracks` live in `trackers.boxes`, `Tracklet` in `gait.tracklet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Embedding = NDArray[np.float32]
"""Shape (256, 16): what the encoder says of one tracklet, 16 horizontal parts of 256 numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded image.

    Attributes:
        image: Shape (H, W, 3), uint8, BGR, upright and with square pixels.
        stream: Name of the camera or file.
        index: Place in the stream, counted from 0 over every decoded frame; gaps are lost frames.
        time_s: Seconds since the stream's first frame, from the container's timestamps.
        epoch: Rises by one whenever the size of the picture changes or the camera reconnects:
            nothing may be tracked across.
        captured_s: When a live camera's frame came to be, in seconds since 1970 (Unix time); None
            for recordings.
    """

    image: NDArray[np.uint8]
    stream: str
    index: int
    time_s: float
    epoch: int = 0
    captured_s: float | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(
                f"Frame.image: expected uint8 of shape (H, W, 3), "
                f"got {self.image.dtype} of shape {self.image.shape}"
            )

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames that go through the models together.

    Attributes:
        frames: Frames of any streams; those of one stream in time order.
        ended: Streams that are over after these frames.
    """

    frames: Sequence[Frame]
    ended: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """One tracklet that had a say in a decision.

    Attributes:
        uid: Of the tracklet.
        distance: Between it and the person's nearest exemplar.
        weight: How much it counted: its quality, in 0..1.
    """

    uid: str
    distance: float
    weight: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a track is taken for a person.

    Attributes:
        parts: 16 distances of horizontal strips of the body, from head to feet, between the
            window that is nearest and the exemplar it is nearest to. Their mean is that window's
            distance.
        exemplar: Uid of that exemplar's tracklet.
        stream: Camera or file it was seen on.
        times_s: When, in seconds on that stream's clock.
        windows: Those that had a say, in the order in which they were seen.
    """

    parts: tuple[float, ...]
    exemplar: str
    stream: str
    times_s: tuple[float, float]
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """Who a track is, as far as its tracklets up to this one tell.

    Attributes:
        identity: Who, or None when nobody in the gallery is near enough.
        distance: To that person, or to the nearest one for a newcomer or an unknown, in the
            paper's metric (mean over 16 parts of Euclidean distances), of all windows of the track
            together (`pipeline.gallery.decision`); None when there was nobody to compare with.
        threshold: The distance beyond which the person is unknown.
        is_new: Whether this tracklet founded the identity.
        probability: That this answer is right, in 0..1; None without a calibration, or when
            nobody else is known.
        threshold_name: Where the threshold comes from: "config", "encoder", or the rate of false
            alarms it keeps, such as "FPIR 1% of 40".
        runner_up: The nearest person who is not `identity`; None when there is nobody.
        runner_up_distance: To that person.
        explanation: Only when asked for, and when there is somebody to compare with.
        switched_at_s: When the track was found to have gone over to another person: since when it
            is this one, in seconds on the stream's clock; what was before is somebody else's. None
            where nothing speaks for it.
    """

    identity: str | None
    distance: float | None
    threshold: float
    is_new: bool = False
    probability: float | None = None
    threshold_name: str = ""
    runner_up: str | None = None
    runner_up_distance: float | None = None
    explanation: Explanation | None = None
    switched_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """One identity, on one stream, from `start_s` to `end_s`, with evidence.

    Attributes:
        identity: Who, or None when the track gave no usable tracklet (see `reasons`).
        stream: Name of the camera or file.
        track_id: The track that was followed.
        start_s: First moment the person was seen, in seconds on the stream's clock.
        end_s: Last moment the person was seen.
        distance: Of the track to the identity, when it was last matched; None for a newcomer or an
            unknown.
        is_new: Whether the identity was founded by this track.
        quality: Mean quality of the tracklets in 0..1.
        num_silhouettes: Silhouettes the decision rests on.
        tracklets: Uids of the tracklets the decision rests on.
        reasons: How often each reason code spoke against a frame, as sorted (code, count) pairs.
        probability: That the identity is right, when it was last matched; None when nobody can say.
        explanation: Why, when that was asked for.
        is_revision: Whether it takes the place of one of the same stream, track and start.
        was: Who that one said it was.
    """

    identity: str | None
    stream: str
    track_id: int
    start_s: float
    end_s: float
    distance: float | None
    is_new: bool
    quality: float
    num_silhouettes: int
    tracklets: tuple[str, ...]
    reasons: tuple[tuple[str, int], ...]
    probability: float | None = None
    explanation: Explanation | None = None
    is_revision: bool = False
    was: str | None = None
