"""What perception made of a scene, in memory and on disk."""

from __future__ import annotations

import io
import itertools
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from gait.data.atomic import write_atomically
from gait.tracklet import SILHOUETTE_HW, Box, Tracklet
from pipeline.evaluation.boxes import Boxes

_PER_SILHOUETTE = ("silhouettes", "frame_indices", "times_s")
_PER_TRACKLET = (
    "stream", "track_id", "seen_s", "quality", "reasons", "companions", "is_last",
    "offset",
)  # fmt: skip
_PER_BOX = ("frames", "who", "xyxy")
_NOTHING = Tracklet(
    stream="",
    track_id=0,
    silhouettes=np.empty((0, *SILHOUETTE_HW), np.uint8),
    frame_indices=np.empty(0, np.int64),
    times_s=np.empty(0),
    seen_s=(0.0, 0.0),
)


@dataclass(frozen=True, slots=True, eq=False)
class Perceived:
    """What perception made of a scene.

    Attributes:
        tracklets: In the order in which they come to be identified; some without silhouettes.
        tracks: Camera to the boxes of its tracks; `who` is the track id as text.
        mask_iou: Mean intersection over union of the masks with the true ones, over all boxes that
            are on somebody; a box without a mask counts 0.
    """

    tracklets: Sequence[Tracklet]
    tracks: dict[str, Boxes]
    mask_iou: float

    def save(self, path: Path) -> None:
        """Write all of it as an npz without pickles.

        Raises:
            DataError: It cannot be written.
        """
        write_atomically(path, _pack(self))

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Return what `save` wrote; None when there is nothing, or nothing whole."""
        try:
            with np.load(path, allow_pickle=False) as npz:
                return _unpack(cls, {name: npz[name] for name in npz.files})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None


def _pack(perceived: Perceived) -> bytes:
    """Return arrays end to end, and the rest as JSON."""
    tracklets = perceived.tracklets
    text = {
        "mask_iou": perceived.mask_iou,
        "cameras": list(perceived.tracks),
        "tracklets": [
            {"length": len(each)} | {name: getattr(each, name) for name in _PER_TRACKLET}
            for each in tracklets
        ],
    }
    arrays: dict[str, NDArray[Any]] = {"text": np.array(json.dumps(text))}
    for name in _PER_SILHOUETTE:
        arrays[name] = np.concatenate([getattr(each, name) for each in [*tracklets, _NOTHING]])
    for number, boxes in enumerate(perceived.tracks.values()):
        arrays |= {f"{part}{number}": getattr(boxes, part) for part in _PER_BOX}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


_Class = TypeVar("_Class", bound=Perceived)


def _unpack(cls: type[_Class], arrays: dict[str, NDArray[Any]]) -> _Class:
    text = json.loads(str(arrays["text"]))
    described = text["tracklets"]
    ends = np.cumsum([0, *(each["length"] for each in described)])
    tracks = {
        name: Boxes(*(arrays[f"{part}{number}"] for part in _PER_BOX))
        for number, name in enumerate(text["cameras"])
    }
    tracklets = [
        _tracklet(each, tracks, *(arrays[name][a:b] for name in _PER_SILHOUETTE))
        for each, (a, b) in zip(described, itertools.pairwise(ends.tolist()), strict=True)
    ]
    return cls(tracklets, tracks, text["mask_iou"])


def _tracklet(
    text: dict[str, Any],
    tracks: dict[str, Boxes],
    silhouettes: NDArray[np.uint8],
    frame_indices: NDArray[np.int64],
    times_s: NDArray[np.float64],
) -> Tracklet:
    first, last = text["seen_s"]
    return Tracklet(
        stream=text["stream"],
        track_id=text["track_id"],
        silhouettes=silhouettes,
        frame_indices=frame_indices,
        times_s=times_s,
        seen_s=(first, last),
        quality=text["quality"],
        reasons=tuple((code, count) for code, count in text["reasons"]),
        companions=tuple(text["companions"]),
        is_last=text["is_last"],
        offset=text["offset"],
        boxes=_first_and_last(tracks[text["stream"]], str(text["track_id"]), frame_indices),
    )


def _first_and_last(
    boxes: Boxes, track: str, frame_indices: NDArray[np.int64]
) -> tuple[Box, Box] | None:
    """Return a track's boxes in the first and the last of some frames."""
    if not len(frame_indices):
        return None
    rows = boxes[boxes.who == track]
    at = dict(zip(rows.frames.tolist(), rows.xyxy.tolist(), strict=True))
    return tuple(at[int(frame_indices[0])]), tuple(at[int(frame_indices[-1])])
