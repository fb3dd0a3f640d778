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
class Match:
    """The nearest identity to one tracklet.

    Attributes:
        identity: Who, or None when nobody in the gallery is near enough.
        distance: To the nearest exemplar, in the paper's metric (mean over 16 parts of Euclidean
            distances); None when the gallery was empty.
        threshold: The distance beyond which the person is unknown.
        is_new: Whether this tracklet founded the identity.
    """

    identity: str | None
    distance: float | None
    threshold: float
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class Sighting:
    """One identity, on one stream, from `start_s` to `end_s`, with evidence.

    Attributes:
        identity: Who, or None when the track gave no usable tracklet (see `reasons`).
        stream: Name of the camera or file.
        track_id: The track that was followed.
        start_s: First moment the person was seen, in seconds on the stream's clock.
        end_s: Last moment the person was seen.
        distance: Smallest distance of the track's tracklets to the identity before they joined it;
            None for a newcomer or an unknown.
        is_new: Whether the identity was founded by this track.
        quality: Mean quality of the tracklets in 0..1.
        num_silhouettes: Silhouettes the decision rests on.
        tracklets: Uids of the tracklets the decision rests on.
        reasons: How often each reason code spoke against a frame, as sorted (code, count) pairs.
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
