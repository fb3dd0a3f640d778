"""What perception would show: frames, people in them, and events about them."""

from __future__ import annotations

import time
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from pipeline.recording.clip import ClipRecord
from pipeline.recording.recording import Recording
from pipeline.recording.shelf import record_of
from pipeline.sinks.live import Event
from pipeline.values import Frame
from trackers.boxes import Mask, Tracks

BEGAN_S = 1_790_000_000.0  # unix time of frame 0
FPS = 10
GREY = 90
BOX = (40, 30, 60, 80)  # left, top, right, bottom

Pictures = list[tuple[float, NDArray[np.uint8]]]


def frame(
    index: int, camera: str = "gate", hw: tuple[int, int] = (120, 160), at_s: float | None = None
) -> Frame:
    """Return a grey picture; its upper left corner says which of a hundred."""
    image = np.full((*hw, 3), GREY, np.uint8)
    image[:16, :16], image[:16, 16:32] = (30 + 20 * digit for digit in divmod(index % 100, 10))
    time_s = index / FPS if at_s is None else at_s
    return Frame(image, camera, index, time_s, captured_s=BEGAN_S + time_s)


def people(*track_ids: int) -> tuple[Tracks, tuple[Mask | None, ...]]:
    """Return tracks in one place each, with masks that fill their boxes."""
    n = len(track_ids)
    left, top, right, bottom = BOX
    tracks = Tracks(
        track_ids=np.array(track_ids, np.int64),
        xyxy=np.array([(left + 40 * i, top, right + 40 * i, bottom) for i in range(n)], np.float32)
        if n
        else np.empty((0, 4), np.float32),
        confidence=np.full(n, 0.9, np.float32),
        detection_indices=np.arange(n),
    )
    pixels = np.ones((bottom - top, right - left), bool)
    return tracks, tuple(Mask(pixels, left + 40 * i, top) for i in range(n))


def sighting(
    track_id: int, identity: str | None, what: str = "seen", camera: str = "gate"
) -> Event:
    """Return what identity says of a track."""
    content: dict[str, JsonValue] = {
        "event": what,
        "id": f"{camera}/{track_id}/1",
        "camera": camera,
        "track_id": track_id,
        "identity": identity,
    }
    return Event("sighting", time.time(), content)


def show(
    recording: Recording, somebody: range, num_frames: int, camera: str = "gate", track_id: int = 7
) -> None:
    """Show frames, in some of which somebody is."""
    for index in range(num_frames):
        found = people(track_id) if index in somebody else people()
        recording.saw(frame(index, camera), *found)


def clips_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.mp4"))


def record(clip: Path) -> ClipRecord:
    return ClipRecord.model_validate_json(record_of(clip).read_text())


def decode(path: Path) -> Pictures:
    with av.open(str(path)) as container:
        return [(f.time or 0.0, _bgr(f)) for f in container.decode(video=0)]


def _bgr(frame: av.VideoFrame) -> NDArray[np.uint8]:
    return np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)


def index_of(image: NDArray[np.uint8]) -> int:
    """Return which frame a picture is."""
    tens, ones = (round((image[4:12, x : x + 8].mean() - 30) / 20) for x in (4, 20))
    return int(10 * tens + ones)
