"""A stream that needs no file: rectangles of known place walk across a plain ground."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.sources.source import Picture, ReadConfig, RecordedSource, StreamInfo


@dataclass(frozen=True, slots=True)
class Walker:
    """A rectangle in uniform motion.

    Attributes:
        xyxy: Its box in frame 0, in pixels.
        velocity_xy: Pixels it moves in each frame.
        colour: BGR, 0..255.
    """

    xyxy: tuple[float, float, float, float]
    velocity_xy: tuple[float, float] = (3.0, 0.0)
    colour: tuple[int, int, int] = (40, 80, 220)


class SyntheticSource(RecordedSource):
    """Walkers before a gray ground; the same arguments draw the same pixels on every machine."""

    def __init__(
        self,
        name: str = "synthetic",
        *,
        walkers: Sequence[Walker] = (Walker((10, 60, 50, 180)),),
        num_frames: int = 50,
        fps: float = 25.0,
        hw: tuple[int, int] = (240, 320),
        read: ReadConfig | None = None,
    ) -> None:
        self.walkers = tuple(walkers)
        duration_s = num_frames / fps
        info = StreamInfo(name, name, hw[1], hw[0], fps, num_frames, duration_s, None, "synthetic")
        super().__init__(info, read or ReadConfig())

    def boxes(self, index: int) -> NDArray[np.float32]:
        """Return where the walkers are in frame `index`: (N, 4) xyxy in pixels, clipped."""
        moved = [np.add(w.xyxy, index * np.tile(w.velocity_xy, 2)) for w in self.walkers]
        limits = np.tile((self.info.width, self.info.height), 2)
        return np.clip(np.reshape(moved, (-1, 4)), 0, limits).round().astype(np.float32)

    def _pictures(self) -> Generator[Picture]:
        for index in range(self.info.num_frames or 0):
            self.num_decoded += 1
            yield Picture(index, index / (self.info.fps or 1.0), 0, partial(self._draw, index))

    def _draw(self, index: int) -> NDArray[np.uint8]:
        image = np.full((self.info.height, self.info.width, 3), 128, np.uint8)
        for walker, (x0, y0, x1, y1) in zip(
            self.walkers, self.boxes(index).astype(int), strict=True
        ):
            image[y0:y1, x0:x1] = walker.colour
        return image
