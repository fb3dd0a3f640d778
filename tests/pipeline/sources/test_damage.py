from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.errors import SourceError
from pipeline.sources.inputs import open_source
from pipeline.sources.source import ReadConfig
from pipeline.sources.video import VideoSource

MakeVideo = Callable[..., Path]
FASTSTART = {"movflags": "faststart"}


def source(path: Path) -> VideoSource:
    return VideoSource(path, "cam", ReadConfig())


def cut(path: Path, fraction: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    return path


def test_a_truncated_mp4_yields_what_decodes_and_says_so(make_noisy_video: MakeVideo) -> None:
    with source(cut(make_noisy_video("a.mp4", muxer=FASTSTART), 0.6)) as opened:
        frames = list(opened)
    assert 50 < len(frames) < 75
    assert [f.index for f in frames] == list(range(len(frames)))
    assert opened.num_decoded == len(frames)
    assert opened.problem is not None
    assert opened.problem.startswith("the file ends early: ")
    assert " of 100 frames" in opened.problem


def test_a_truncated_mkv_says_how_many_seconds_are_there(make_noisy_video: MakeVideo) -> None:
    with source(cut(make_noisy_video("a.mkv"), 0.5)) as opened:
        frames = list(opened)
    assert len(frames) > 30
    assert opened.problem == f"the file ends early: {len(frames) / 25:.1f} of 4.0 s"


def test_a_file_read_only_in_part_is_not_called_truncated(make_noisy_video: MakeVideo) -> None:
    path = make_noisy_video("a.mkv")
    for read in (ReadConfig(end_s=1.0), ReadConfig(max_frames=3), ReadConfig(start_s=2.0)):
        with VideoSource(path, "cam", read) as opened:
            list(opened)
        assert opened.problem is None


def test_a_sound_file_with_longer_audio_is_not_called_truncated(tmp_path: Path) -> None:
    path = tmp_path / "long-audio.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=16000, layout="mono")
        for i in range(10):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="bgr24")
            frame.pts = i
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        _mux_silence(container, audio, seconds=5)
    with source(path) as opened:
        assert len(list(opened)) == 10
    assert opened.problem is None


def test_garbage_in_the_middle_is_survived_and_counted(make_noisy_video: MakeVideo) -> None:
    for name in ("a.mp4", "a.mkv", "a.ts"):
        path = make_noisy_video(name, options={"g": "10", "crf": "18"})
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        garbage = np.random.default_rng(1).integers(0, 256, 6000, dtype=np.uint8).tobytes()
        data[middle : middle + 6000] = garbage
        path.write_bytes(data)
        with source(path) as opened:
            frames = list(opened)
        assert len(frames) >= 90, name
        assert opened.problem is not None, name
        assert frames[-1].time_s == pytest.approx(3.96), name
        assert np.all(np.diff([f.time_s for f in frames]) > 0)


def test_reading_again_reports_only_the_last_reading(make_noisy_video: MakeVideo) -> None:
    with source(cut(make_noisy_video("a.mp4", muxer=FASTSTART), 0.6)) as opened:
        first = len(list(opened)), opened.problem, opened.num_decoded
        assert (len(list(opened)), opened.problem, opened.num_decoded) == first


def test_an_mp4_whose_index_was_cut_off_says_so(make_noisy_video: MakeVideo) -> None:
    with pytest.raises(SourceError, match=r"a\.mp4: an MP4 without its index .*cut off"):
        source(cut(make_noisy_video("a.mp4"), 0.6))


def test_an_mp4_whose_every_frame_is_gone_says_so(make_noisy_video: MakeVideo) -> None:
    path = make_noisy_video("a.mp4", muxer=FASTSTART)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 4])
    with pytest.raises(SourceError, match=r"a\.mp4: no frame could be decoded"):
        source(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("notes.mp4", b"this is a text file\n" * 40, "not a video that FFmpeg can read"),
        ("notes.txt", b"this is a text file\n" * 40, "a text file, not a video"),
        ("empty.mp4", b"", r"empty \(0 bytes\)"),
        ("stub.avi", b"RIFF", "not a video that FFmpeg can read"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n", "list.m3u8: "),
    ],
)
def test_what_is_no_video_is_refused_in_words(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError, match=words):
        source(path)


def test_audio_only_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "speech.mp4"
    with av.open(str(path), "w") as container:
        _mux_silence(container, container.add_stream("aac", rate=16000, layout="mono"), seconds=1)
    with pytest.raises(SourceError, match="no video in it; its streams are: audio"):
        source(path)


def test_a_missing_file_and_a_pipe_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        source(tmp_path / "gone.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(SourceError, match="expected a regular file"):
        source(tmp_path / "pipe.mp4")


def test_a_file_without_permission_is_refused_in_words(make_video: MakeVideo) -> None:
    path = make_video()
    path.chmod(0)
    with _as_nobody(), pytest.raises(SourceError, match="no permission"):
        source(path)


def test_nothing_is_said_on_the_console(make_noisy_video: MakeVideo, tmp_path: Path) -> None:
    damaged = cut(make_noisy_video("a.mp4", muxer=FASTSTART), 0.6)
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("1.jpg", "2.png", "3.tif", "4.bmp"):
        (folder / name).write_bytes(_encoded(name)[: 400 if name == "1.jpg" else 60])
    (folder / "5.png").write_bytes(_encoded("5.png"))
    code = (
        "import sys; from pathlib import Path\n"
        "from pipeline.sources.inputs import open_source\n"
        "from pipeline.sources.source import ReadConfig\n"
        "for path in sys.argv[1:]: list(open_source(Path(path), 'cam', ReadConfig()))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(damaged), str(folder)], capture_output=True, check=True
    )
    assert ran.stdout + ran.stderr == b""


@pytest.mark.parametrize("threads", [1, 4])
def test_ten_readings_leave_no_file_or_thread_open(make_video: MakeVideo, threads: int) -> None:
    path = make_video(num_frames=60)
    gc.collect()
    num_open, threads_before = _num_open(), _threads()
    for turn in range(10):
        with open_source(path, "cam", ReadConfig(decode_threads=threads)) as opened:
            for frame in opened:
                if turn % 2 and frame.index == 3:
                    break
        assert _num_open() <= num_open
        assert _threads() <= threads_before


def test_frames_are_freed_without_waiting_for_the_collector(make_video: MakeVideo) -> None:
    gc.collect()
    gc.disable()
    try:
        with source(make_video(num_frames=60)) as opened:
            for _ in opened:
                pass
        alive = sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
    finally:
        gc.enable()
    assert alive <= 1, "the decoder may keep its last one"


def test_close_frees_the_file_at_once_and_twice_is_harmless(make_video: MakeVideo) -> None:
    before = _num_open()
    opened = source(make_video())
    assert _num_open() == before, "between opening and reading no file needs to be held"
    frames = iter(opened)
    next(frames)
    assert _num_open() == before + 1
    opened.close()
    opened.close()
    assert _num_open() == before
    assert list(frames) == []
    with pytest.raises(ValueError, match="closed"):
        iter(opened)


def test_a_file_that_vanishes_before_reading_is_a_source_error(make_video: MakeVideo) -> None:
    path = make_video()
    with source(path) as opened:
        path.unlink()
        with pytest.raises(SourceError, match="no such file"):
            list(opened)


def _mux_silence(
    container: av.container.OutputContainer, stream: av.AudioStream, seconds: int
) -> None:
    for i in range(16 * seconds):
        samples = np.zeros((1, 1000), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, 1000 * i
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _encoded(name: str) -> bytes:
    import cv2

    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    return bytes(cv2.imencode(Path(name).suffix, image)[1])


def _num_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _threads() -> set[str]:
    return {path.name for path in Path("/proc/self/task").iterdir()}


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Root may read everything, so step down while the test looks."""
    uid = os.geteuid()
    if uid == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(uid)
