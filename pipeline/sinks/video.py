"""The annotated video: a second pass over the recording that draws what the first one recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import av

from gait.strict import StrictModel
from pipeline.sinks.drawing import Canvas, annotate_image
from pipeline.sinks.encoder import Encoding, PictureEncoder
from pipeline.sinks.folder import PART, ResultsFolder
from pipeline.sinks.recorder import RecordedFrame, RecordedTrack, read_record
from pipeline.sinks.sightings import clock_text
from pipeline.values import Frame


class VideoConfig(StrictModel):
    """How the annotated video is encoded.

    Attributes:
        max_width: Pixels; wider frames are scaled down. Higher shows more detail, at the price of
            time and disk.
        crf: H.264 constant rate factor, 0..51. Higher makes smaller files, at the price of detail.
        preset: x264 preset. Slower ones make smaller files, at the price of time.
    """

    max_width: int = 1920
    crf: int = 25
    preset: str = "veryfast"


@dataclass(frozen=True, slots=True)
class AnnotatedVideo:
    """A video that was written.

    Attributes:
        path: The file.
        num_frames: Frames in it.
        start_s: The stream's clock at its first frame: second t of the stream is second
            t - start_s of the video.
    """

    path: Path
    num_frames: int
    start_s: float


def annotate(
    source_frames: Iterable[Frame],
    folder: ResultsFolder,
    stream: str,
    identities: Mapping[int, str | None],
    *,
    config: VideoConfig | None = None,
    on_progress: Callable[[int], None] = lambda frames: None,
) -> AnnotatedVideo | None:
    """Write the stream's annotated.mp4 from its frames, decoded again, and its masks.jsonl.

    Every frame keeps its time, also at a variable frame rate. Frames that are not in the record
    (skipped by a stride) are not shown. The first frame gives the picture's size; later frames of
    another size are fitted into it with black bars. The file appears under its name when whole.

    Args:
        source_frames: The same frames in the same order as the first pass read, or more of them.
        folder: The results folder.
        stream: The stream's name.
        identities: Who each track is; tracks that are missing or None are drawn as unknown, grey.
        config: How to encode.
        on_progress: Called after each frame shown with the number of frames shown so far.

    Returns:
        What was written, or None when no frame of the record came.

    Raises:
        OutputError: The video cannot be written; everything else in the folder is safe.
    """
    files = folder.stream(stream)
    part = files.video.with_name(files.video.name + PART)
    shown = _recorded(source_frames, read_record(files.masks))
    first = next(shown, None)
    if first is None:
        return None
    canvas = Canvas.of(first[0].hw, (config or VideoConfig()).max_width)
    num_frames = 0
    try:
        with (
            folder.writing(files.video),
            _encoder(part, canvas, config or VideoConfig()) as encoder,
        ):
            for num_frames, (frame, tracks) in enumerate(chain([first], shown), start=1):
                placed = canvas.place(frame.hw)
                image = placed.picture(frame.image)
                annotate_image(image, tracks, identities, placed, clock_text(frame.time_s))
                encoder.add(image, frame.time_s - first[0].time_s)
                on_progress(num_frames)
        with folder.writing(files.video):
            part.replace(files.video)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return AnnotatedVideo(files.video, num_frames, first[0].time_s)


Shown = tuple[Frame, tuple[RecordedTrack, ...]]


def _recorded(frames: Iterable[Frame], record: Iterator[RecordedFrame]) -> Iterator[Shown]:
    """Pair each frame with its line of the record; both run forward only."""
    line = next(record, None)
    for frame in frames:
        while line is not None and line.index < frame.index:
            line = next(record, None)
        if line is None:
            return
        if line.index == frame.index:
            yield frame, line.tracks


def _encoder(path: Path, canvas: Canvas, config: VideoConfig) -> PictureEncoder:
    """Return what writes MP4 with the index in front, so that it plays at once."""
    container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
    return PictureEncoder(container, canvas, Encoding(crf=config.crf, preset=config.preset))
