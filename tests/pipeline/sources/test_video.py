from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.errors import SourceError
from pipeline.sources.inputs import open_source, sample_path
from pipeline.sources.source import ReadConfig, Source
from pipeline.sources.video import VideoSource
from pipeline.values import Frame

MakeVideo = Callable[..., Path]
ReadAll = Callable[[Source], list[Frame]]
Who = Callable[[Sequence[Frame]], list[int]]

# What a phone writes when held upright (quarter turn clockwise), and the others: a b u c d v x y w.
ONE, W = 1 << 16, 1 << 30
MATRICES = {
    "quarter": [0, ONE, 0, -ONE, 0, 0, 0, 0, W],
    "half": [-ONE, 0, 0, 0, -ONE, 0, 0, 0, W],
    "three quarters": [0, -ONE, 0, ONE, 0, 0, 0, 0, W],
    "mirror": [-ONE, 0, 0, 0, ONE, 0, 0, 0, W],
}


def source(path: Path, **read: object) -> VideoSource:
    return VideoSource(path, "cam", ReadConfig(**read))  # type: ignore[arg-type]


def test_every_frame_comes_once_in_order(make_video: MakeVideo, who: Who) -> None:
    with source(make_video()) as opened:
        frames = list(opened)
        assert who(frames) == list(range(30))
        assert [frame.index for frame in frames] == list(range(30))
        assert {(frame.stream, frame.epoch, frame.hw) for frame in frames} == {("cam", 0, (48, 64))}
        assert opened.problem is None
        assert opened.warnings == []
        assert opened.num_decoded == 30


def test_variable_frame_rate_keeps_the_files_own_times(
    make_video: MakeVideo, read_all: ReadAll
) -> None:
    pts_ms = [0, 33, 100, 101, 900, 940, 2500, 2533]
    path = make_video(num_frames=8, pts_ms=pts_ms)
    assert [f.time_s for f in read_all(source(path))] == [ms / 1000 for ms in pts_ms]


def test_times_start_at_zero_whatever_the_first_timestamp(
    make_video: MakeVideo, read_all: ReadAll
) -> None:
    path = make_video(num_frames=4, pts_ms=[5000, 5040, 5080, 5200], name="late.ts")
    assert [f.time_s for f in read_all(source(path))] == [0.0, 0.04, 0.08, 0.2]


def test_b_frames_arrive_in_order_of_presentation(
    make_video: MakeVideo, read_all: ReadAll, who: Who
) -> None:
    path = make_video(options={"bf": "3", "b-adapt": "0", "g": "30"})
    with av.open(str(path)) as container:
        dts_order = [p.pts for p in container.demux(video=0) if p.pts is not None]
    assert dts_order != sorted(dts_order), "the file must hold B-frames for the test to mean much"
    frames = read_all(source(path))
    assert who(frames) == list(range(30))
    assert [f.time_s for f in frames] == [i / 25 for i in range(30)]


@pytest.mark.parametrize("name", list(MATRICES))
def test_frames_are_turned_as_the_display_matrix_says(
    make_video: MakeVideo, read_all: ReadAll, name: str
) -> None:
    def quadrants(_: int, size: tuple[int, int]) -> np.ndarray:
        image = np.zeros((size[1], size[0], 3), np.uint8)
        image[: size[1] // 2, : size[0] // 2] = 250
        image[: size[1] // 2, size[0] // 2 :] = 170
        image[size[1] // 2 :, : size[0] // 2] = 90
        return image

    matrix = MATRICES[name]
    path = make_video(num_frames=2, draw=quadrants, matrix=matrix)
    opened = source(path)
    image = read_all(opened)[0].image
    stored = quadrants(0, (64, 48))
    # Naive: send every stored pixel centre through ISO 14496-12's x' = ax + cy, y' = bx + dy.
    a, b, _, c, d = (value // ONE for value in matrix[:5])
    y, x = np.mgrid[:48, :64]
    across, down = a * x + c * y, b * x + d * y
    shown = np.zeros_like(image)
    shown[down - down.min(), across - across.min()] = stored
    assert image.shape == shown.shape == (opened.info.height, opened.info.width, 3)
    assert np.abs(image.astype(int) - shown).mean() < 3


def test_pixels_that_are_not_square_are_made_square(
    make_video: MakeVideo, read_all: ReadAll
) -> None:
    opened = source(make_video(num_frames=2, size=(72, 58), aspect=Fraction(16, 11)))
    assert read_all(opened)[0].hw == (58, 105)
    assert (opened.info.width, opened.info.height) == (105, 58)


@pytest.mark.parametrize("size", [(16, 16), (321, 243), (2, 2), (17, 1080)])
def test_odd_and_tiny_sizes_are_read(
    make_video: MakeVideo, read_all: ReadAll, size: tuple[int, int], who: Who
) -> None:
    frames = read_all(source(make_video("clip.mkv", num_frames=3, size=size, pixels="yuv444p")))
    assert [frame.hw for frame in frames] == [(size[1], size[0])] * 3
    assert who(frames) == [0, 1, 2]
    assert frames[0].image.flags.c_contiguous


def test_8k_is_read(make_video: MakeVideo, read_all: ReadAll, who: Who) -> None:
    path = make_video(
        "8k.mkv", num_frames=2, size=(7680, 4320), codec="mjpeg", pixels="yuvj420p", options={}
    )
    frames = read_all(source(path))
    assert [frame.hw for frame in frames] == [(4320, 7680)] * 2
    assert who(frames) == [0, 1]


@pytest.mark.parametrize(
    ("pixels", "color_range"),
    [
        ("yuv420p", None),
        ("yuv420p", 2),
        ("yuvj420p", 2),
        ("gray", 2),
        ("yuv420p10le", 1),
    ],
)
def test_every_depth_and_range_becomes_the_same_bgr(
    make_video: MakeVideo, read_all: ReadAll, pixels: str, color_range: int | None
) -> None:
    path = make_video(num_frames=12, pixels=pixels, color_range=color_range)
    means = [frame.image.mean(axis=(0, 1)) for frame in read_all(source(path))]
    naive = [[40 + 4 * i] * 3 for i in range(12)]
    # Two gray levels: rounding to 8-bit YUV and back, and H.264 at its default quality.
    assert np.abs(np.array(means) - naive).max() <= 2


def test_a_raw_stream_without_timestamps_runs_at_its_frame_rate(
    make_video: MakeVideo, read_all: ReadAll, who: Who
) -> None:
    opened = source(make_video("raw.h264"))
    assert opened.info.duration_s is None
    assert opened.info.num_frames is None
    frames = read_all(opened)
    assert who(frames) == list(range(30))
    np.testing.assert_allclose([f.time_s for f in frames], np.arange(30) / 25, atol=1e-9)
    assert opened.warnings == ["frames without a timestamp, placed by the frame rate: 30"]


def test_a_change_of_size_mid_file_starts_a_new_epoch(
    make_video: MakeVideo, tmp_path: Path, read_all: ReadAll, who: Who
) -> None:
    small = make_video("small.ts")
    large = make_video("large.ts", size=(96, 64))
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    opened = source(both)
    frames = read_all(opened)
    assert [(f.epoch, f.hw) for f in frames] == [(0, (48, 64))] * 30 + [(1, (64, 96))] * 30
    assert who(frames) == [*range(30), *range(30)]
    np.testing.assert_allclose([f.time_s for f in frames], np.arange(60) / 25, atol=1e-9)
    assert [f.index for f in frames] == list(range(60))
    assert opened.warnings == ["changes of picture size or clock, tracks end there: 1"]
    # The joint is a gap in the transport stream's packet counter: reported, but nothing is lost.
    assert opened.problem == "packets with missing data, or a gap before them: 1"


def test_a_range_a_stride_and_a_limit_keep_index_and_time_true(
    make_video: MakeVideo, read_all: ReadAll
) -> None:
    path = make_video()
    naive = [(i, i / 25) for i in range(30) if 0.4 <= i / 25 < 1.0][::3]
    frames = read_all(source(path, start_s=0.4, end_s=1.0, stride=3))
    assert [(f.index, f.time_s) for f in frames] == naive
    limited = read_all(source(path, start_s=0.4, end_s=1.0, stride=3, max_frames=2))
    assert [f.index for f in limited] == [10, 13]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi", "a.h264", "joined.ts"])
@pytest.mark.parametrize("start_s", [0.01, 0.4, 0.41, 1.0])
def test_reading_from_the_middle_is_the_tail_of_reading_everything(
    make_noisy_video: MakeVideo, read_all: ReadAll, name: str, start_s: float
) -> None:
    path = make_noisy_video(name, num_frames=40, options={"g": "12", "bf": "2"})
    if name == "joined.ts":
        path.write_bytes(path.read_bytes() * 2)
    tail = [f for f in read_all(source(path)) if f.time_s >= start_s]
    part = read_all(source(path, start_s=start_s))
    assert [(f.index, f.time_s) for f in part] == [(f.index, f.time_s) for f in tail]
    assert all(np.array_equal(p.image, t.image) for p, t in zip(part, tail, strict=True))


def test_a_late_start_does_not_decode_what_comes_before(make_video: MakeVideo) -> None:
    with source(make_video(num_frames=100, options={"g": "10"}), start_s=3.6) as opened:
        assert [f.index for f in opened] == list(range(90, 100))
        assert opened.num_decoded < 25


def test_a_range_past_the_end_says_how_long_the_file_is(make_video: MakeVideo) -> None:
    with (
        source(make_video(), start_s=99.0) as opened,
        pytest.raises(SourceError, match=r"no frame from 99 s to the end; it lasts 1\.20 s"),
    ):
        list(opened)


def test_the_info_describes_the_file(make_video: MakeVideo) -> None:
    path = make_video(metadata={"creation_time": "2026-03-01T08:30:00.000000Z"})
    with open_source(path, "door", ReadConfig()) as opened:
        info = opened.info
    assert (info.name, info.path, info.codec) == ("door", str(path), "h264")
    assert (info.fps, info.num_frames, info.duration_s) == (25.0, 30, 1.2)
    assert info.started_at == "2026-03-01T08:30:00.000000Z"


def test_expected_frames_match_what_is_read(make_video: MakeVideo, read_all: ReadAll) -> None:
    for read in (
        {},
        {"stride": 4},
        {"start_s": 0.4},
        {"start_s": 0.4, "end_s": 0.8, "stride": 3},
        {"end_s": 99.0, "max_frames": 7},
    ):
        opened = source(make_video(), **read)
        assert opened.read.expected_frames(opened.info) == len(read_all(opened))


@pytest.mark.parametrize(
    "read",
    [
        {"start_s": 2.0, "end_s": 2.0},
        {"stride": 0},
        {"start_s": -1.0},
        {"max_frames": 0},
        {"start_s": float("nan")},
        {"image_fps": 0.0},
        {"strid": 2},
    ],
)
def test_an_impossible_range_is_refused(read: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        ReadConfig(**read)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["Hof Süd 北 1.mp4", "cam:1 %03d.mp4", "a'b\"c#?.mp4"])
def test_any_file_name_is_read(make_video: MakeVideo, read_all: ReadAll, name: str) -> None:
    path = make_video("plain.mp4", num_frames=3)
    assert len(read_all(source(path.rename(path.with_name(name))))) == 3


def test_threads_change_nothing_but_the_speed(
    make_noisy_video: MakeVideo, read_all: ReadAll
) -> None:
    path = make_noisy_video("a.mp4", num_frames=30)
    one, many = (read_all(source(path, decode_threads=n)) for n in (1, 4))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(one, many, strict=True))


def test_the_sample_clip_is_what_its_notice_says() -> None:
    with open_source(sample_path(), "vtest", ReadConfig(stride=50)) as opened:
        info = opened.info
        assert (info.width, info.height, info.fps, info.num_frames) == (768, 576, 10.0, 200)
        assert [f.index for f in opened] == [0, 50, 100, 150]
        assert opened.num_decoded == 200
