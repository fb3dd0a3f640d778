"""What goes into a tracker and what comes out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

_FLATTEST = 1e-6  # a camera motion that squeezes the picture to less than this of its area


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """Person pixels of one box. Trackers carry masks along and never read them.

    Attributes:
        pixels: Shape (h, w), bool: which pixels of the patch are the person.
        x: Column of the frame where the patch begins.
        y: Row of the frame where the patch begins.
    """

    pixels: NDArray[np.bool_]
    x: int
    y: int

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.dtype != np.bool_:
            raise ValueError(
                f"Mask.pixels: expected bool of shape (h, w), "
                f"got {self.pixels.dtype} of shape {self.pixels.shape}"
            )


def _no_boxes() -> NDArray[np.float32]:
    return np.empty((0, 4), dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The people found in one frame.

    Attributes:
        xyxy: Shape (N, 4), float32 pixels: left, top, right, bottom.
        confidence: Shape (N,), float32 in 0..1.
        masks: One mask a person when the detector yields them, else None.
        features: Shape (N, D), float32 appearance vectors of unit length when a stage made them.
        ids: Shape (N,), int64: whose box it is, when they come from a recording of tracks.
        camera_motion: Shape (2, 3) or (3, 3), when a stage measured how the camera moved: the
            matrix that takes a point of the tracker's previous frame to where it lies in this one.
    """

    xyxy: NDArray[np.float32] = field(default_factory=_no_boxes)
    confidence: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, dtype=np.float32))
    masks: tuple[Mask | None, ...] | None = None
    features: NDArray[np.float32] | None = None
    ids: NDArray[np.int64] | None = None
    camera_motion: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Refuse arrays that cannot be; once more, for they may have been written to since.

        Raises:
            ValueError: Naming the attribute, what was expected and what came.
        """
        check_boxes("Detections", self.xyxy)
        n = len(self.xyxy)
        if self.confidence.shape != (n,):
            raise ValueError(
                f"Detections.confidence: expected shape ({n},), got {self.confidence.shape}"
            )
        if n and not (np.min(self.confidence) >= 0 and np.max(self.confidence) <= 1):
            raise ValueError("Detections.confidence: expected values in 0..1")
        if self.masks is not None and len(self.masks) != n:
            raise ValueError(f"Detections.masks: expected {n} masks, got {len(self.masks)}")
        if self.features is not None and (self.features.ndim != 2 or len(self.features) != n):
            raise ValueError(
                f"Detections.features: expected shape ({n}, D), got {self.features.shape}"
            )
        if self.features is not None and not np.isfinite(self.features).all():
            raise ValueError("Detections.features: expected finite vectors of length 1")
        if self.ids is not None and (self.ids.shape != (n,) or len(set(self.ids.tolist())) < n):
            raise ValueError(f"Detections.ids: expected {n} different ids, got {self.ids.tolist()}")
        if self.camera_motion is not None:
            check_motion(self.camera_motion)

    def __len__(self) -> int:
        return len(self.xyxy)


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """The people followed in one frame.

    Attributes:
        track_ids: Shape (N,), int64: unique in the stream, never reused.
        xyxy: Shape (N, 4), float32 pixels.
        confidence: Shape (N,), float32: the detection's.
        detection_indices: Shape (N,), int64: the row of `Detections` each track was seen as.
        ended: Ids that will not come back.
        masks: The detections' masks in the tracks' order, when the detector yielded them.
    """

    track_ids: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    xyxy: NDArray[np.float32] = field(default_factory=_no_boxes)
    confidence: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, dtype=np.float32))
    detection_indices: NDArray[np.int64] = field(
        default_factory=lambda: np.empty(0, dtype=np.int64)
    )
    ended: tuple[int, ...] = ()
    masks: tuple[Mask | None, ...] | None = None

    def __post_init__(self) -> None:
        check_boxes("Tracks", self.xyxy)
        n = len(self.xyxy)
        for name in ("track_ids", "confidence", "detection_indices"):
            if getattr(self, name).shape != (n,):
                raise ValueError(
                    f"Tracks.{name}: expected shape ({n},), got {getattr(self, name).shape}"
                )

    def __len__(self) -> int:
        return len(self.track_ids)


class Tracker(Protocol):
    """Gives the people of one stream their ids, frame after frame.

    Whatever is refused with a ValueError leaves the tracker as it was.
    """

    def update(self, detections: Detections, *, interval_s: float) -> Tracks:
        """Return who is where in this frame.

        Args:
            detections: The people found in this frame, in any order.
            interval_s: Seconds since the previous frame; more than usual when frames were lost.
        """
        ...

    def finish(self) -> tuple[int, ...]:
        """End every track still open and return their ids; the stream is over."""
        ...


class SavedTracker(Tracker, Protocol):
    """A tracker whose state can be put away and taken up again, here or in another process."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything it knows as plain arrays, such as `numpy.savez(file, **state)` takes.

        Parameters are not part of it.
        """
        ...

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from where `state` was taken.

        Raises:
            ValueError: It is not the state of such a tracker. This one is unchanged.
        """
        ...


def check_boxes(owner: str, xyxy: NDArray[np.float32]) -> None:
    """Refuse boxes that are not (N, 4), hold NaN or infinities, or have a negative side.

    Raises:
        ValueError: With the first bad row in the message.
    """
    if xyxy.ndim != 2 or xyxy.shape[1] != 4:
        raise ValueError(f"{owner}.xyxy: expected shape (N, 4), got {xyxy.shape}")
    bad = ~np.isfinite(xyxy).all(axis=1)
    bad |= (xyxy[:, 2] < xyxy[:, 0]) | (xyxy[:, 3] < xyxy[:, 1])
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"{owner}.xyxy[{row}]: expected finite left <= right and top <= bottom, "
            f"got {xyxy[row].tolist()}"
        )


def check_motion(motion: NDArray[np.float64]) -> None:
    """Refuse a camera motion that is no finite, invertible (2, 3) or (3, 3) matrix.

    Raises:
        ValueError: With the matrix in the message.
    """
    if motion.shape not in ((2, 3), (3, 3)):
        raise ValueError(
            f"Detections.camera_motion: expected shape (2, 3) or (3, 3), got {motion.shape}"
        )
    if not np.isfinite(motion).all() or abs(np.linalg.det(motion[:2, :2])) < _FLATTEST:
        raise ValueError(
            f"Detections.camera_motion: expected a finite matrix that can be undone, "
            f"got {motion.tolist()}"
        )


def check_fractions(**values: float) -> None:
    """Refuse parameters that are not in 0..1.

    Raises:
        ValueError: Beginning with the name of the first.
    """
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}: expected a number in 0..1, got {value}")


def check_rising(**fractions: float) -> None:
    """Refuse parameters that are not in 0..1, or lower than one named before.

    Raises:
        ValueError: Beginning with the name of the first.
    """
    least = 0.0
    for name, value in fractions.items():
        if not least <= value <= 1:
            raise ValueError(f"{name}: expected a number in {least}..1, got {value}")
        least = value


def check_numbers(**values: float) -> None:
    """Refuse parameters that are negative or no number.

    Raises:
        ValueError: Beginning with the name of the first.
    """
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name}: expected a number of at least 0, got {value}")


def check_seconds(name: str, value: float) -> None:
    """Refuse a negative time, or one that is no number.

    Raises:
        ValueError: Beginning with the name.
    """
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}: expected seconds of at least 0, got {value}")


def pick_masks(
    masks: tuple[Mask | None, ...] | None, indices: Sequence[int]
) -> tuple[Mask | None, ...] | None:
    """Return the masks at `indices`, or None when there are none to pick from."""
    return None if masks is None else tuple(masks[i] for i in indices)
