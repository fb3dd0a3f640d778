"""Cameras that are not RTSP over TCP, and their options."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline.sources import hardware
from pipeline.sources.address import Address
from pipeline.sources.camera import Camera, CameraConfig
from pipeline.sources.camera_state import CameraState, Change
from pipeline.sources.hardware import accelerator
from pipeline.values import Frame
from tests.pipeline.conftest import write_video
from tests.pipeline.sources.conftest import MakeServer
from tests.servers.http_camera import (
    http_camera,
    write_hls,
    write_sound_that_outlasts_the_picture,
)
from tests.servers.watch import Diary, wait_for

CLIP_FPS = 25
NUM_EPOCHS = 3
LONG_S = 30.0  # for what comes within a second where nobody else wants the processor


@contextmanager
def opened(config: CameraConfig, diary: Diary | None = None) -> Iterator[Camera]:
    with Camera("cam", Address.parse(config.url), config, diary or Diary()) as camera:
        yield camera


def frames_until(
    camera: Camera, is_enough: Callable[[list[Frame]], bool], within_s: float = LONG_S
) -> list[Frame]:
    """Take what comes until it is enough, however long a busy machine needs for that."""
    frames: list[Frame] = []
    until_s = time.monotonic() + within_s
    while not is_enough(frames):
        assert time.monotonic() < until_s, f"not within {within_s} s: {len(frames)} frames"
        if (frame := camera.take()) is not None:
            frames.append(frame)
        time.sleep(0.005)
    return frames


def has_frame(camera: Camera) -> bool:
    return wait_for(lambda: camera.take() is not None, LONG_S)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", num_frames=40)


def test_a_file_is_played_at_its_pace_and_begins_anew_at_its_end_as_another_epoch(
    clip: Path,
) -> None:
    diary = Diary()
    began_s = time.monotonic()
    with opened(CameraConfig(url=str(clip)), diary) as camera:
        frames = frames_until(
            camera, lambda frames: bool(frames) and frames[-1].epoch == NUM_EPOCHS - 1
        )
        passed_s, num_decoded = time.monotonic() - began_s, camera.counts.decoded
    assert all(a.index < b.index and a.time_s < b.time_s for a, b in pairwise(frames))
    assert diary.count(CameraState.BACKING_OFF) == 0
    # Never ahead of its pace, and with the file's own steps. It may lag: who knows what else runs.
    assert (
        num_decoded <= CLIP_FPS * passed_s + 2 * NUM_EPOCHS
    )  # whose first frames wait for nothing
    steps = [(b.time_s - a.time_s, b.index - a.index) for a, b in pairwise(first_epoch(frames))]
    assert np.median([seconds / frames for seconds, frames in steps]) == pytest.approx(1 / CLIP_FPS)


def first_epoch(frames: list[Frame]) -> list[Frame]:
    return [frame for frame in frames if frame.epoch == 0]


def test_motion_jpeg_is_stamped_as_it_comes(tmp_path: Path) -> None:
    with (
        http_camera(tmp_path) as url,
        opened(CameraConfig(url=f"{url}/mjpeg")) as camera,
    ):
        frames = frames_until(camera, lambda frames: len(frames) >= 20)
    # FFmpeg would make up 25 frames a second, and count only frames that were not spoilt.
    arrived_s = [frame.captured_s or 0.0 for frame in (frames[0], frames[-1])]
    assert frames[-1].time_s - frames[0].time_s == pytest.approx(
        arrived_s[1] - arrived_s[0], abs=0.01
    )
    assert (frames[-1].time_s - frames[0].time_s) / (frames[-1].index - frames[0].index) >= 0.09


def test_hls_is_played_at_its_own_pace(tmp_path: Path) -> None:
    name = write_hls(write_video(tmp_path / "long.mp4", num_frames=200), tmp_path)
    began_s = time.monotonic()
    with http_camera(tmp_path) as url, opened(CameraConfig(url=f"{url}/{name}")) as camera:
        frames = frames_until(camera, lambda frames: bool(frames) and frames[-1].index >= 40)
        passed_s, num_decoded = time.monotonic() - began_s, camera.counts.decoded
    assert num_decoded <= CLIP_FPS * passed_s + 2  # as fast as it can be read, it takes a moment
    assert frames[-1].time_s - frames[0].time_s == pytest.approx(
        (frames[-1].index - frames[0].index) / CLIP_FPS, abs=0.3
    )


def test_sound_that_goes_on_does_not_hide_that_the_picture_has_stopped(tmp_path: Path) -> None:
    diary = Diary()
    write_sound_that_outlasts_the_picture(tmp_path / "sound.slow")
    with http_camera(tmp_path) as url:
        config = CameraConfig(url=f"{url}/sound.slow", stall_s=1.5, open_timeout_s=5)
        with opened(config, diary):
            assert wait_for(lambda: diary.count(CameraState.LIVE) > 0, LONG_S)
            assert wait_for(lambda: diary.count(CameraState.STALLED) > 0, LONG_S)


class Unwilling(Diary):
    def changed(self, change: Change) -> None:
        super().changed(change)
        raise RuntimeError("the metrics are full")


def test_who_cannot_be_told_does_not_end_the_camera(clip: Path) -> None:
    diary = Unwilling()
    with opened(CameraConfig(url=str(clip)), diary) as camera:
        assert has_frame(camera)
        assert wait_for(lambda: diary.count(CameraState.LIVE) > 1, LONG_S)


def test_a_mistake_of_ours_is_told_without_the_password_and_the_camera_tried_again(
    clip: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def mistaken(url: str, **_: object) -> None:
        raise RuntimeError(f"no plan for {url}")

    diary = Diary()
    config = CameraConfig(url="rtsp://guard:hunter2@127.0.0.1:1/cam", retry_first_s=0.1)
    monkeypatch.setattr("pipeline.sources.camera.opened", mistaken)
    with opened(config, diary):
        assert wait_for(lambda: diary.count(CameraState.CONNECTING) > 2, LONG_S)
    assert "RuntimeError" in diary.reason(CameraState.BACKING_OFF)
    assert "no plan for rtsp://guard:***@" in caplog.text
    assert "hunter2" not in caplog.text


def test_pixels_that_cannot_be_converted_are_damage_and_nothing_else(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*_: object) -> None:
        raise ValueError("no such pixels")

    monkeypatch.setattr("pipeline.sources.camera.upright_bgr", unable)
    with opened(CameraConfig(url=str(clip))) as camera:
        assert wait_for(lambda: camera.take() is None and camera.counts.damaged > 2, LONG_S)


def test_a_device_that_is_not_there_is_replaced_by_software_and_said_once(
    clip: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    hardware._say_once.cache_clear()
    monkeypatch.setattr(hardware, "decodes", lambda kind: False)  # also where there is one
    with caplog.at_level(logging.WARNING):
        assert accelerator("auto") is None
        assert accelerator("auto") is None
        with opened(CameraConfig(url=str(clip), hardware="cuda")) as camera:
            assert has_frame(camera)
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if "(auto)" in line]) == 1
    assert any("(cuda)" in line and "software" in line for line in said)


def test_a_kind_of_device_that_nobody_has_does_not_decode() -> None:
    assert not hardware.decodes("videotoolbox")
    assert not hardware.decodes("nonsense")


def test_a_password_file_that_is_missing_is_a_matter_of_configuration(tmp_path: Path) -> None:
    diary = Diary()
    missing = tmp_path / "secret"
    config = CameraConfig(url="rtsp://guard@127.0.0.1:1/cam", password_file=missing)
    with opened(config, diary) as camera:
        assert wait_for(lambda: camera.state is CameraState.FAILED_CONFIG, LONG_S)
    assert str(missing) in diary.reason(CameraState.FAILED_CONFIG)


@pytest.mark.rtsp
def test_a_password_in_a_file_is_found_when_it_is_changed(rtsp: MakeServer, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("hunter2\n", encoding="utf-8")
    file.chmod(0o600)
    diary = Diary()
    url = rtsp(login="guard:p@s:s/w#o?r%d").url("cam", "guard@")
    config = CameraConfig(url=url, password_file=file, retry_longest_s=0.5)
    with opened(config, diary) as camera:
        assert wait_for(lambda: camera.state is CameraState.FAILED_CONFIG, LONG_S)
        file.write_text("p@s:s/w#o?r%d\n", encoding="utf-8")
        assert has_frame(camera)
        shown = f"{camera.address} {camera.address!r} {diary.entries}"
    assert "guard:***@" in shown
    assert "hunter2" not in shown
    assert not any(secret in shown for secret in camera.address.secrets)


@pytest.mark.rtsp
def test_udp_brings_frames_too(rtsp: MakeServer) -> None:
    with opened(CameraConfig(url=rtsp().url("cam"), transport="udp")) as camera:
        assert frames_until(camera, lambda frames: len(frames) >= 7)


@pytest.mark.rtsp
def test_rtsps_brings_frames_too(rtsp: MakeServer, tmp_path: Path) -> None:
    server = rtsp(certificate=certificate(tmp_path / "server.pem"))
    with opened(CameraConfig(url=server.url("cam"))) as camera:
        assert has_frame(camera)


@pytest.mark.rtsp
def test_the_camera_says_when_it_saw_a_frame_once_it_has_told_its_time(rtsp: MakeServer) -> None:
    ages_s: list[float] = []

    def has_told(frames: list[Frame]) -> bool:
        if len(frames) > len(ages_s):
            ages_s.append(time.time() - (frames[-1].captured_s or 0.0))
        told = [(frame.captured_s or 0.0) - frame.time_s for frame in frames[-10:]]
        # By the camera's clock alone ten frames are as far apart as they are by their timestamps;
        # before its first report, whenever that comes, arrivals stand for captures.
        return len(told) == 10 and np.ptp(told) < 1e-5 and min(ages_s[-10:]) < 0.14

    with opened(CameraConfig(url=rtsp().url("cam"))) as camera:
        frames_until(camera, has_told)
    # FFmpeg keeps every picture back until the next begins, which only the camera's own time can
    # show. How much longer a busy machine keeps it does not matter here.
    assert np.mean(ages_s[-10:]) > 0.06


def certificate(path: Path) -> Path:
    """Make a key and a certificate it has signed itself, in one PEM."""
    key, cert = path.with_suffix(".key"), path.with_suffix(".crt")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes(cert.read_bytes() + key.read_bytes())
    return path
