"""From a decoder's frame to the pixels the pipeline works on: BGR, upright, square."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

# Beyond these a sample aspect ratio is a broken header, not a lens.
_PLAUSIBLE_ASPECT = (Fraction(1, 5), Fraction(5))

_TURNS = ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))


@dataclass(frozen=True, slots=True)
class View:
    """How stored pixels are meant to be seen.

    Attributes:
        aspect: Width of a pixel over its height; None is square.
        matrix: a, b, c, d of x' = a x + c y, y' = b x + d y, to a scale (ISO 14496-12, 6.2.2).
    """

    aspect: Fraction | None = None
    matrix: tuple[int, int, int, int] = _TURNS[0]


class PictureShape:
    """Follows the size of the decoded pictures and how they are meant to be seen.

    Attributes:
        num_changes: How often the size or the turn has changed.
    """

    def __init__(self, stream: VideoStream) -> None:
        self.num_changes = 0
        self._stream = stream
        self._view = View()
        self._last: tuple[int, int, int] | None = None

    def view(self, frame: VideoFrame) -> View:
        """Return how the next frame wants to be seen."""
        now = frame.width, frame.height, frame.rotation
        if self._last is None:
            self._view = view_of(frame, self._stream.sample_aspect_ratio)
        elif now != self._last:
            # The container spoke of the first size only; now the codec knows better.
            self._view = view_of(frame, self._stream.codec_context.sample_aspect_ratio)
            self.num_changes += 1
        self._last = now
        return self._view


def view_of(frame: VideoFrame, aspect: Fraction | None = None) -> View:
    """Return how a frame wants to be seen. Ask once for frames that are alike.

    PyAV ties a frame whose side data were looked at into a reference cycle, so asking for every
    frame would keep hundreds of them alive until Python's collector comes by.
    """
    return View(aspect, _display_matrix(frame))


def upright_bgr(frame: VideoFrame, reformatter: VideoReformatter, view: View) -> NDArray[np.uint8]:
    """Return a frame as its maker meant it to be seen.

    Args:
        frame: Decoded frame of any pixel format, depth and range.
        reformatter: Kept by the caller from frame to frame, so that tables are built once.
        view: Shape of the pixels and turn of the picture. The width is stretched to make pixels
            square, as players do: a walker's proportions depend on it.

    Returns:
        Shape (H, W, 3), uint8, BGR, contiguous; turned and mirrored.

    Raises:
        av.FFmpegError: If the pixel format cannot be converted.
    """
    width = frame.width
    if view.aspect is not None and _PLAUSIBLE_ASPECT[0] <= view.aspect <= _PLAUSIBLE_ASPECT[1]:
        width = max(1, round(width * view.aspect))
    # One thread: the models beside us want the other cores.
    bgr = reformatter.reformat(frame, width=width, format="bgr24", threads=1)
    image = np.asarray(bgr.to_ndarray(), dtype=np.uint8)
    return np.ascontiguousarray(_displayed(image, view))


def _displayed(image: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    a, b, c, d = view.matrix
    if abs(b) > abs(a):
        image, a, d = image.transpose(1, 0, 2), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    # A mirrored picture counts as turned by 180 degrees here, so 0 means there is nothing to do.
    if frame.rotation == 0:
        return _TURNS[0]
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV 18 fails on the whole list if one entry is of a kind it has no name for (EXIF); the
        # rotation it still tells, counterclockwise, but not whether the picture is mirrored.
        return _TURNS[round(frame.rotation / 90) % 4]
    # Stored a b u c d v tx ty w.
    a, b, _, c, d = np.frombuffer(cast(bytes, matrix), dtype=np.int32)[:5].tolist()
    return a, b, c, d
