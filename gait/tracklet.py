"""The tracklet: the only thing that crosses from perception to identity."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

SILHOUETTE_HW = (64, 44)

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge in the picture, in pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Tracklet:
    """Consecutive silhouettes of one track.

    A tracklet of no silhouettes is ordinary: it says that a track has ended (`is_last`) or that
    nothing of it could be used so far, and why (`reasons`).

    Attributes:
        stream: Name of the camera or file.
        track_id: Track the silhouettes were cut from; unique within the stream.
        silhouettes: Shape (T, 64, 44), uint8 in 0..255.
        frame_indices: Shape (T,), int64, strictly increasing.
        times_s: Shape (T,), float64, strictly increasing seconds on the stream's clock.
        seen_s: When the track was first and last seen so far, in seconds on the stream's clock.
        quality: Mean silhouette quality in 0..1; 0 when there are no silhouettes.
        reasons: How often each reason code spoke against a frame of the track since its previous
            tracklet, as sorted (code, count) pairs; see `gait.silhouette.Reason`.
        companions: Ids of the tracks seen in one frame with this one since its previous tracklet,
            sorted: these are other people, whatever they look like.
        is_last: Whether the track ended with this tracklet.
        offset: Silhouettes of this walk in earlier tracklets, which this one continues; 0 begins a
            walk. Only an assembler that streams gives anything else: what is said of such a
            tracklet (its embedding) is said of the walk from its beginning.
        origin_unix_s: When the stream's clock read 0, in seconds since 1970; the same for all
            tracklets of a track. None for recordings.
        boxes: Where in the picture its person was at its first silhouette and at its last one; None
            where nobody knows.
    """

    stream: str
    track_id: int
    silhouettes: NDArray[np.uint8]
    frame_indices: NDArray[np.int64]
    times_s: NDArray[np.float64]
    seen_s: tuple[float, float]
    quality: float = 1.0
    reasons: tuple[tuple[str, int], ...] = ()
    companions: tuple[int, ...] = ()
    is_last: bool = False
    offset: int = 0
    origin_unix_s: float | None = None
    boxes: tuple[Box, Box] | None = None

    def __post_init__(self) -> None:
        shape = self.silhouettes.shape
        if self.silhouettes.dtype != np.uint8 or shape[1:] != SILHOUETTE_HW:
            raise ValueError(
                f"Tracklet.silhouettes: expected uint8 of shape (T, 64, 44), "
                f"got {self.silhouettes.dtype} of shape {shape}"
            )
        for name in ("frame_indices", "times_s"):
            values = getattr(self, name)
            if values.shape != shape[:1]:
                raise ValueError(
                    f"Tracklet.{name}: expected one per silhouette, shape {shape[:1]}, "
                    f"got {values.shape}"
                )
            if np.any(np.diff(values) <= 0):
                raise ValueError(f"Tracklet.{name}: expected strictly increasing values")
        if self.offset < 0:
            raise ValueError(f"Tracklet.offset: expected 0 or more, got {self.offset}")
        if not 0.0 <= self.quality <= 1.0:
            raise ValueError(f"Tracklet.quality: expected 0..1, got {self.quality}")
        for left, top, right, bottom in self.boxes or ():
            if not (-math.inf < left <= right < math.inf and -math.inf < top <= bottom < math.inf):
                raise ValueError(
                    "Tracklet.boxes: expected finite left <= right and top <= bottom, "
                    f"got {(left, top, right, bottom)}"
                )

    def __len__(self) -> int:
        return len(self.silhouettes)

    @property
    def track(self) -> tuple[str, int]:
        """Name of its track: the stream, and the id in it."""
        return self.stream, self.track_id

    @property
    def last_seen_unix_s(self) -> float | None:
        """When its person was last seen, in seconds since 1970; None where nobody knows."""
        return None if self.origin_unix_s is None else self.origin_unix_s + self.seen_s[1]

    def emptied(self) -> Tracklet:
        """Return it without its silhouettes."""
        # copies, since a slice would keep the whole array alive
        return replace(
            self,
            silhouettes=self.silhouettes[:0].copy(),
            frame_indices=self.frame_indices[:0].copy(),
            times_s=self.times_s[:0].copy(),
            quality=0.0,
            boxes=None,
        )

    def ending(self) -> Tracklet:
        """Return the tracklet that says no more than that its track was last seen with it."""
        return replace(self.emptied(), reasons=(), companions=(), is_last=True)

    @property
    def uid(self) -> str:
        """Name of this tracklet, unique within a run: stream, track and first frame."""
        first = int(self.frame_indices[0]) if len(self) else "end"
        return f"{self.stream}/{self.track_id}/{first}"
