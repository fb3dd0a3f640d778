"""Videos made when a test needs them: tiny, and frame i is recognisable by its brightness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from pipeline.sources.source import Source
from pipeline.values import Frame

# Swscale's default is a few gray levels off on the way to YUV.
_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP

MakeVideo = Callable[..., Path]


def gray_of(index: int) -> int:
    return 40 + 4 * (index % 40)


def picture(index: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.full((size[1], size[0], 3), gray_of(index), np.uint8)


def noisy_picture(index: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture that costs bits, so that a file has a middle to damage."""
    noise = np.random.default_rng(index).integers(-20, 21, (size[1], size[0], 1))
    return (picture(index, size) + noise).astype(np.uint8)


def write_video(
    path: Path,
    *,
    num_frames: int = 30,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    pts_ms: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    draw: Callable[[int, tuple[int, int]], NDArray[np.uint8]] = picture,
    matrix: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    metadata: dict[str, str] | None = None,
    color_range: int | None = None,
) -> Path:
    """Encode frames at 25 fps, or at the given milliseconds."""
    with av.open(str(path), "w", options=muxer or {}) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=25, options=options or {"g": "10"})
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.codec_context.time_base = Fraction(1, 1000)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if color_range is not None:
            stream.codec_context.color_range = color_range
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(draw(index, size), format="bgr24")
            frame = frame.reformat(format=pixels, dst_color_range=color_range, interpolation=_EXACT)
            frame.pts = 40 * index if pts_ms is None else pts_ms[index]
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    def make(name: str = "clip.mp4", **choices: object) -> Path:
        return write_video(tmp_path / name, **choices)  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_noisy_video(make_video: MakeVideo) -> MakeVideo:
    def make(name: str, num_frames: int = 100, **choices: object) -> Path:
        return make_video(
            name, num_frames=num_frames, size=(128, 96), draw=noisy_picture, **choices
        )

    return make


def identified(frames: Sequence[Frame]) -> list[int]:
    """Which frame each picture shows, told by its brightness (modulo 40)."""
    return [round((float(frame.image.mean()) - 40) / 4) % 40 for frame in frames]


@pytest.fixture
def who() -> Callable[[Sequence[Frame]], list[int]]:
    return identified


@pytest.fixture
def read_all() -> Callable[[Source], list[Frame]]:
    def read(source: Source) -> list[Frame]:
        with source:
            return list(source)

    return read
