"""Every frame's boxes and outlines, streamed to disk, and read back."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gait.closing import Closing
from pipeline.sinks.folder import LineFile, ResultsFolder
from pipeline.values import Frame
from trackers.boxes import Mask, Tracks

logger = logging.getLogger(__name__)

_MIN_TOLERANCE_PX = 0.7
_TOLERANCE_OF_HEIGHT = 0.004
_MOST_OUTLINES = 8
_MOST_POINTS = 120


@dataclass(frozen=True, slots=True, eq=False)
class RecordedTrack:
    """One person in one recorded frame.

    Attributes:
        track_id: Unique in the stream.
        xyxy: Shape (4,), float64 pixels of the original frame: left, top, right, bottom.
        outlines: Closed polygons, each shape (K, 2), int32 x and y; a point is inside the person
            when an odd number of polygons hold it. Empty when there was no mask.
    """

    track_id: int
    xyxy: NDArray[np.float64]
    outlines: tuple[NDArray[np.int32], ...]


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """What was known of one frame.

    Attributes:
        index: The frame's place in the stream, from 0.
        time_s: Seconds on the stream's clock.
        epoch: The frame's epoch.
        tracks: The people in it.
    """

    index: int
    time_s: float
    epoch: int
    tracks: tuple[RecordedTrack, ...]


class Recorder(Closing):
    """Writes tracks.mot.txt and masks.jsonl of one stream, frame by frame, in constant memory.

    Args:
        folder: The results folder.
        stream: The stream's name.

    Raises:
        OutputError: The files cannot be made.
    """

    def __init__(self, folder: ResultsFolder, stream: str) -> None:
        files = folder.make_stream(stream)
        with ExitStack() as stack:
            self._tracks = stack.enter_context(LineFile(folder, files.tracks))
            self._masks = stack.enter_context(LineFile(folder, files.masks))
            self._stack = stack.pop_all()

    def write(self, frame: Frame, tracks: Tracks, masks: Sequence[Mask | None]) -> None:
        """Append one frame; a frame without people is recorded too.

        Args:
            frame: The frame, later than every one before.
            tracks: The N people in it.
            masks: N masks in the tracks' order, None where there is none.

        Raises:
            OutputError: There is no room; whole frames before are safe.
        """
        if len(masks) != len(tracks):
            raise ValueError(f"Recorder.write: expected {len(tracks)} masks, got {len(masks)}")
        self._tracks.write(_mot_lines(frame.index, tracks))
        self._masks.write(_record_line(frame, tracks, masks))

    def close(self) -> None:
        """Close both files."""
        self._stack.close()


def outline(mask: Mask) -> list[NDArray[np.int32]]:
    """Return the mask's outline as at most 8 polygons of at most 120 points, in frame pixels.

    The tolerance grows with the person's height (0.4 %, at least 0.7 px), so a person costs about
    the same number of bytes near and far. Outer outlines and holes are all in the list.

    Returns:
        Polygons of shape (K, 2), largest first.
    """
    found, _ = cv2.findContours(
        mask.pixels.astype(np.uint8),
        cv2.RETR_CCOMP,
        cv2.CHAIN_APPROX_SIMPLE,
        offset=(mask.x, mask.y),
    )
    # A speck of one or two pixels is noise of the segmenter, and a line cannot be filled.
    contours = sorted((c for c in found if len(c) >= 3), key=cv2.contourArea, reverse=True)
    tolerance = max(_MIN_TOLERANCE_PX, _TOLERANCE_OF_HEIGHT * mask.pixels.shape[0])
    return [_simplified(np.asarray(c), tolerance) for c in contours[:_MOST_OUTLINES]]


def read_record(path: Path) -> Iterator[RecordedFrame]:
    """Yield the frames of a masks.jsonl; what follows a damaged line is left out.

    Raises:
        OSError: The file is missing or unreadable.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield _parse_record(line)
            except (ValueError, KeyError, TypeError) as error:
                logger.warning("%s: line %d is damaged, stopping there: %s", path, number, error)
                return


def _simplified(contour: NDArray[np.int32], tolerance: float) -> NDArray[np.int32]:
    points = cv2.approxPolyDP(contour, tolerance, closed=True)
    while len(points) > _MOST_POINTS:
        tolerance *= 1.5
        points = cv2.approxPolyDP(contour, tolerance, closed=True)
    return np.asarray(points, dtype=np.int32).reshape(-1, 2)


def _mot_lines(index: int, tracks: Tracks) -> str:
    """MOTChallenge counts frames from 1; x, y, z of the world are unknown, hence -1."""
    return "".join(
        f"{index + 1},{track_id},{x0:.2f},{y0:.2f},{x1 - x0:.2f},{y1 - y0:.2f},{conf:.4f}"
        ",-1,-1,-1\n"
        for track_id, (x0, y0, x1, y1), conf in zip(
            tracks.track_ids.tolist(), tracks.xyxy.tolist(), tracks.confidence.tolist(), strict=True
        )
    )


def _record_line(frame: Frame, tracks: Tracks, masks: Sequence[Mask | None]) -> str:
    people = [
        {
            "id": track_id,
            "box": [round(side, 1) for side in box],
            "outline": []
            if mask is None
            else [points.ravel().tolist() for points in outline(mask)],
        }
        for track_id, box, mask in zip(
            tracks.track_ids.tolist(), tracks.xyxy.tolist(), masks, strict=True
        )
    ]
    height, width = frame.hw
    line = {
        "frame": frame.index,
        "time_s": round(frame.time_s, 6),
        "epoch": frame.epoch,
        "size": [width, height],
        "tracks": people,
    }
    return json.dumps(line, separators=(",", ":")) + "\n"


def _parse_record(line: str) -> RecordedFrame:
    data = json.loads(line)
    tracks = tuple(
        RecordedTrack(
            track_id=int(person["id"]),
            xyxy=np.array(person["box"], dtype=np.float64).reshape(4),
            outlines=tuple(
                np.array(flat, dtype=np.int32).reshape(-1, 2) for flat in person["outline"]
            ),
        )
        for person in data["tracks"]
    )
    return RecordedFrame(int(data["frame"]), float(data["time_s"]), int(data["epoch"]), tracks)
