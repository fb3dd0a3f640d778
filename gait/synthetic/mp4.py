"""Frames to H.264 in MP4."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

_MOST_TICKS = 1001


class Mp4:
    """A video file that takes frames, its index in front so that it plays at once.

    The file is finished when the block ends well, and removed when it does not.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float, crf: int) -> None:
        """Open the file.

        Args:
            path: Of the file.
            size: Width and height in pixels, both even.
            fps: Frames a second.
            crf: Constant rate factor, 0..51. Higher makes smaller files, at the price of detail.

        Raises:
            OSError: It cannot be written.
        """
        self._path = path
        try:
            options = {"movflags": "+faststart"}
            self._container = av.open(str(path), "w", format="mp4", options=options)
            rate = Fraction(fps).limit_denominator(_MOST_TICKS)
            self._stream = self._container.add_stream("libx264", rate=rate)
            self._configure(size, crf)
        except FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error

    def _configure(self, size: tuple[int, int], crf: int) -> None:
        context = self._stream.codec_context
        context.width, context.height = size
        context.pix_fmt = "yuv420p"
        # More threads would share the picture out and change the bytes.
        context.thread_count = 1
        context.options = {"preset": "medium", "crf": str(crf)}
        # OpenCV's conversion is BT.601, studio range: say so, or players of HD assume BT.709.
        context.colorspace = Colorspace.SMPTE170M
        context.color_range = ColorRange.MPEG

    def add(self, image: NDArray[np.uint8]) -> None:
        """Append a frame, shape (H, W, 3), uint8, BGR.

        Raises:
            OSError: It cannot be written.
        """
        yuv = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)
        self._mux(av.VideoFrame.from_ndarray(np.asarray(yuv, dtype=np.uint8), format="yuv420p"))

    def _mux(self, frame: av.VideoFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error

    def __enter__(self) -> Mp4:
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
            self._path.unlink(missing_ok=True)
            return
        self._mux(None)
        try:
            self._container.close()
        except FFmpegError as closing:
            raise OSError(closing.errno, closing.strerror) from closing
