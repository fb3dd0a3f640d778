"""The annotated video: a second pass over the recording that draws what the first one recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from numpy.typing import NDArray

from gait.strict import StrictModel
from pipeline.sinks.drawing import Canvas, annotate_image
from pipeline.sinks.folder import PART, ResultsFolder
from pipeline.sinks.recorder import RecordedFrame, RecordedTrack, read_record
from pipeline.values import Frame

_CLOCK = Fraction(1, 90_000)
_USUAL_INTERVAL_S = 1 / 25


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
        with _Encoder(folder, files.video, canvas, config or VideoConfig()) as encoder:
            for num_frames, (frame, tracks) in enumerate(chain([first], shown), start=1):
                placed = canvas.place(frame.hw)
                image = placed.picture(frame.image)
                annotate_image(image, tracks, identities, placed, time_s=frame.time_s)
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


class _Encoder:
    """H.264 in MP4 with the times it is given, and the index in front so that it plays at once."""

    def __init__(
        self, folder: ResultsFolder, path: Path, canvas: Canvas, config: VideoConfig
    ) -> None:
        self._folder, self._path = folder, path
        with self._translated():
            self._container = av.open(
                str(path.with_name(path.name + PART)),
                "w",
                format="mp4",
                options={"movflags": "+faststart"},
            )
            self._stream = self._open_stream(canvas, config)
        self._waiting: tuple[av.VideoFrame, int] | None = None
        self._duration = round(_USUAL_INTERVAL_S / _CLOCK)
        self._durations: dict[int, int] = {}  # of the frames still inside the encoder

    def _open_stream(self, canvas: Canvas, config: VideoConfig) -> VideoStream:
        stream = self._container.add_stream("libx264", rate=round(1 / _USUAL_INTERVAL_S))
        context = stream.codec_context
        context.width, context.height = canvas.width, canvas.height
        context.pix_fmt = "yuv420p"
        context.time_base = _CLOCK
        # With B-frames MP4's length is counted in decoding times, which at a variable frame rate
        # run seconds behind: players would stop before the last frames.
        context.max_b_frames = 0
        context.options = {"preset": config.preset, "crf": str(config.crf)}
        # OpenCV's conversion is BT.601, studio range: say so, or HD players assume BT.709.
        context.colorspace = Colorspace.SMPTE170M
        context.color_range = ColorRange.MPEG
        return stream

    def add(self, image: NDArray[np.uint8], time_s: float) -> None:
        """Append a picture of the canvas's size; its duration is known when the next one comes."""
        yuv = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)
        frame = av.VideoFrame.from_ndarray(np.asarray(yuv, dtype=np.uint8), format="yuv420p")
        frame.time_base = _CLOCK
        pts = round(time_s / _CLOCK)
        if self._waiting is not None:
            # MP4 refuses a time twice; a broken recording may hold one.
            pts = max(pts, self._waiting[1] + 1)
            self._duration = pts - self._waiting[1]
            self._encode_waiting()
        self._waiting = frame, pts

    def _encode_waiting(self) -> None:
        if self._waiting is not None:
            frame, pts = self._waiting
            frame.pts = pts
            self._durations[pts] = self._duration
            self._mux(frame)

    def _mux(self, frame: av.VideoFrame | None) -> None:
        with self._translated():
            for packet in self._stream.encode(frame):
                # the encoder drops durations, and the last frame's counts in the file's length
                packet.duration = self._durations.pop(packet.pts or 0, self._duration)
                self._container.mux(packet)

    def _finish(self) -> None:
        self._encode_waiting()
        self._mux(None)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with self._folder.writing(self._path):
            try:
                yield
            except FFmpegError as error:
                raise OSError(error.errno, error.strerror) from error

    def __enter__(self) -> _Encoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            # The file is given up: what closing it says about the same disk adds nothing.
            with suppress(FFmpegError, OSError):
                self._container.close()
            return
        self._finish()
        with self._translated():
            self._container.close()
