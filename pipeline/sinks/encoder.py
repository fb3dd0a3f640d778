"""Pictures into a video, each at its time: what recorded files, clips and live pictures share.

with PictureEncoder(av.open("out.mp4", "w"), Canvas(640, 360), Encoding()) as encoder:
    encoder.add(image, time_s=0.0)
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.sinks.drawing import Canvas

CODECS = ("libx264", "libopenh264", "h264_nvenc", "mpeg4")
"""Encoders by preference: H.264 wherever there is one, and what every FFmpeg has."""

_H264_CLOCK = Fraction(1, 90_000)
_MPEG4_CLOCK = Fraction(1, 50_000)  # MPEG-4 part 2 has 16 bits for it
_BITS_A_PIXEL = 4  # a second, where an encoder knows no constant quality
_USUAL_INTERVAL_S = 1 / 25
_PROBE = Canvas(256, 256)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How pictures are compressed.

    Attributes:
        codec: One of `CODECS`.
        crf: x264's constant rate factor, 0..51. Higher makes smaller files, at the price of detail.
        preset: x264's preset. Slower ones make smaller files, at the price of time.
        key_s: Seconds after which a picture is encoded that needs no other; None leaves it to the
            encoder. Lower loses less when the end is cut off, at the price of size.
        is_live: Whether each picture leaves the encoder at once, at the price of some size or
            detail.
        threads: Threads of the encoder; 0 lets it choose. More are quicker, at the price of memory.
    """

    codec: str = "libx264"
    crf: int = 25
    preset: str = "veryfast"
    key_s: float | None = None
    is_live: bool = False
    threads: int = 0

    @property
    def clock(self) -> Fraction:
        """Seconds of a tick of the timestamps."""
        return _MPEG4_CLOCK if self.codec == "mpeg4" else _H264_CLOCK

    @property
    def options(self) -> dict[str, str]:
        """What x264 is told."""
        if self.codec != "libx264":
            return {}
        tuned = {"tune": "zerolatency"} if self.is_live else {}
        return {"preset": self.preset, "crf": str(self.crf), **tuned}


class PictureEncoder:
    """Writes pictures at a variable frame rate; leaving the block writes what is left.

    When the block ends with an error, the video is given up and closed without another word.

    Args:
        container: Where the video goes; belongs to the encoder from now on.
        canvas: The size of every picture.
        encoding: How to compress.

    Raises:
        OSError: The encoder cannot be opened; and from every method when nothing can be written.
    """

    def __init__(self, container: OutputContainer, canvas: Canvas, encoding: Encoding) -> None:
        self._container = container
        self._encoding = encoding
        with _translated():
            self._stream = self._open_stream(canvas)
        self._waiting: tuple[av.VideoFrame, int] | None = None
        self._last_pts = -1
        self._duration = round(_USUAL_INTERVAL_S / encoding.clock)
        self._durations: dict[int, int] = {}  # of the frames still inside the encoder
        self._key_pts: int | None = None

    def _open_stream(self, canvas: Canvas) -> VideoStream:
        rate = round(1 / _USUAL_INTERVAL_S)
        stream = self._container.add_stream(self._encoding.codec, rate=rate)
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        context.width, context.height = canvas.width, canvas.height
        context.pix_fmt = "yuv420p"
        context.time_base = self._encoding.clock
        context.thread_count = self._encoding.threads
        # With B-frames MP4's length is counted in decoding times, which at a variable frame rate
        # run seconds behind: players would stop before the last frames.
        context.max_b_frames = 0
        context.options = self._encoding.options
        if not context.options:
            context.bit_rate = _BITS_A_PIXEL * canvas.width * canvas.height
        # OpenCV's conversion is BT.601, studio range: say so, or HD players assume BT.709.
        context.colorspace = Colorspace.SMPTE170M
        context.color_range = ColorRange.MPEG
        return stream

    def add(self, image: NDArray[np.uint8], time_s: float) -> None:
        """Append a BGR picture of the canvas's size; a time that does not rise is moved on."""
        self.add_yuv(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), np.uint8), time_s)

    def add_yuv(self, image: NDArray[np.uint8], time_s: float) -> None:
        """Append the same as OpenCV's I420, shape (H * 3 / 2, W)."""
        frame = av.VideoFrame.from_ndarray(image, format="yuv420p")
        frame.time_base = self._encoding.clock
        # MP4 refuses a time twice; a broken recording may hold one.
        pts = max(round(time_s / self._encoding.clock), self._last_pts + 1)
        if self._last_pts >= 0:
            self._duration = pts - self._last_pts
        self._encode_waiting()
        self._waiting, self._last_pts = (frame, pts), pts
        if self._encoding.is_live:
            self._encode_waiting()

    def finish(self) -> None:
        """Write what is left, and close."""
        self._encode_waiting()
        self._mux(None)
        with _translated():
            self._container.close()

    def give_up(self) -> None:
        """Close, whatever the other side says."""
        with suppress(FFmpegError, OSError):
            self._container.close()

    def _encode_waiting(self) -> None:
        """Encode the picture whose duration has become known."""
        if self._waiting is None:
            return
        (frame, pts), self._waiting = self._waiting, None
        frame.pts = pts
        if self._is_key(pts):
            frame.pict_type, self._key_pts = PictureType.I, pts
        if not self._encoding.is_live:
            self._durations[pts] = self._duration
        self._mux(frame)

    def _is_key(self, pts: int) -> bool:
        key_s = self._encoding.key_s
        if key_s is None:
            return False
        return self._key_pts is None or pts - self._key_pts >= key_s / self._encoding.clock

    def _mux(self, frame: av.VideoFrame | None) -> None:
        with _translated():
            for packet in self._stream.encode(frame):
                # the encoder drops durations, and the last frame's counts in the file's length
                packet.duration = self._durations.pop(packet.pts or 0, self._duration)
                self._container.mux(packet)

    def __enter__(self) -> PictureEncoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            # It is given up: what closing says about the same disk adds nothing.
            self.give_up()
            return
        self.finish()


@functools.cache
def encodes(codec: str) -> bool:
    """Return whether an encoder works on this machine; asked once a process."""
    picture = np.zeros((_PROBE.height, _PROBE.width, 3), dtype=np.uint8)
    try:
        container = av.open(io.BytesIO(), "w", format="matroska")
        with PictureEncoder(container, _PROBE, Encoding(codec)) as encoder:
            encoder.add(picture, 0.0)
            encoder.add(picture, 0.1)
    except (FFmpegError, OSError, ValueError):
        return False
    return True


def best_codec() -> str:
    """Return the first encoder of `CODECS` that works on this machine."""
    return next((codec for codec in CODECS if encodes(codec)), CODECS[-1])


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except FFmpegError as error:
        raise OSError(error.errno, error.strerror) from error
