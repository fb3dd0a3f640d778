"""A tracker that follows nobody: it takes over the ids of a recording."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackers.boxes import Detections, Tracks, pick_masks
from trackers.saved import checked, saved


class RecordedTracks:
    """Gives each box the id it was recorded with (`Detections.ids`).

    It cannot know whether somebody comes back, so no track ends before the stream does.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def update(self, detections: Detections, *, interval_s: float) -> Tracks:
        """Return the boxes of this frame as tracks.

        Args:
            detections: The people of this frame, with `ids`.
            interval_s: Seconds since the previous frame; of no account here.

        Raises:
            ValueError: The boxes were recorded without ids.
        """
        if detections.ids is None:
            if not len(detections):
                return Tracks()
            raise ValueError(
                "Detections.ids: expected an id for each box, got none; replay a recording of "
                "tracks (ids from 0), not one of detections (id -1)"
            )
        self._seen.update(detections.ids.tolist())
        rows = np.arange(len(detections), dtype=np.int64)
        return Tracks(
            track_ids=detections.ids,
            xyxy=detections.xyxy,
            confidence=detections.confidence,
            detection_indices=rows,
            masks=pick_masks(detections.masks, rows.tolist()),
        )

    def finish(self) -> tuple[int, ...]:
        """Return every id there was; the stream is over."""
        ended = tuple(sorted(self._seen))
        self._seen.clear()
        return ended

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the ids seen so far as plain arrays."""
        return saved(self, {"ids": np.array(sorted(self._seen), dtype=np.int64)})

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from where `state` was taken.

        Raises:
            ValueError: It is not the state of such a tracker. This one is unchanged.
        """
        self._seen = set(checked(self, state, {"ids": (np.int64, ("N",))})["ids"].tolist())
