"""The camera against a real RTSP server that fails in every way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from pipeline.sources.address import Address
from pipeline.sources.camera import Camera, CameraConfig
from pipeline.sources.camera_state import CameraState, Change
from pipeline.values import Frame
from tests.pipeline.sources.conftest import MakeServer
from tests.servers.rtsp_process import FPS, write_units

pytestmark = pytest.mark.rtsp

# Quick to try again, but as patient as by default: a busy machine sends nothing for a second.
QUICK = {"stall_s": 4.0, "open_timeout_s": 5.0, "retry_first_s": 0.3, "retry_longest_s": 1.0}
HARD_PASSWORD = "p@s:s/w#o?r%d"


class Diary:
    def __init__(self) -> None:
        self.changes: list[Change] = []

    def changed(self, change: Change) -> None:
        self.changes.append(change)

    @property
    def states(self) -> list[CameraState]:
        return [change.state for change in self.changes]

    def reason(self, state: CameraState) -> str:
        return next(c.reason or "" for c in self.changes if c.state is state)


def camera(url: str, diary: Diary, **config: float) -> Camera:
    return Camera("cam", Address.parse(url), CameraConfig(url=url, **(QUICK | config)), diary)


def wait_for(what: Callable[[], object], seconds: float = 30.0) -> object:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds} s: {what}")


def next_frame(cam: Camera) -> Frame:
    frame = wait_for(cam.take)
    assert isinstance(frame, Frame)
    return frame


def frame_after(cam: Camera, before: Frame) -> Frame:
    """Return the first frame of another epoch."""
    frame = before
    while frame.epoch == before.epoch:
        frame = next_frame(cam)
    return frame


def test_frames_come_at_the_cameras_pace_and_every_one_is_counted(rtsp: MakeServer) -> None:
    with camera(rtsp().url("cam"), Diary()) as cam:
        frames = [next_frame(cam) for _ in range(15)]
        counts = cam.counts
    # Who looks too late misses one, which is counted: the frames so far are those seen and those.
    gaps = sum(b.index - a.index - 1 for a, b in pairwise(frames))
    assert all(a.index < b.index for a, b in pairwise(frames))
    assert frames[0].index + gaps in (counts.dropped, counts.dropped - 1)
    assert counts.taken == 15
    seconds = frames[-1].time_s - frames[0].time_s
    assert seconds == pytest.approx((frames[-1].index - frames[0].index) / FPS, abs=0.5)
    assert {frame.hw for frame in frames} == {(120, 160)}


def test_who_looks_seldom_sees_the_newest_frame_and_the_gap_says_what_was_missed(
    rtsp: MakeServer,
) -> None:
    with camera(rtsp().url("cam"), Diary()) as cam:
        first = next_frame(cam)
        wait_for(lambda: cam.counts.decoded >= first.index + 12)
        newest = cam.counts.decoded - 1
        later = next_frame(cam)
        counts = cam.counts
    assert later.index >= newest
    assert counts.dropped >= 9
    assert counts.decoded - counts.taken - counts.dropped <= 1


def test_a_password_of_any_characters_opens_and_a_wrong_one_is_told_apart(
    rtsp: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = rtsp(login=f"guard:{HARD_PASSWORD}")
    monkeypatch.setenv("GATE_PASSWORD", HARD_PASSWORD)
    with camera(server.url("cam", "guard:${GATE_PASSWORD}@"), Diary()) as cam:
        next_frame(cam)
    diary = Diary()
    with camera(server.url("cam", "guard:hunter2@"), diary) as cam:
        wait_for(lambda: cam.state is CameraState.FAILED_CONFIG)
    assert "password" in diary.reason(CameraState.FAILED_CONFIG)
    assert "hunter2" not in repr(diary.changes)


def test_a_path_that_is_not_there_is_told_apart(rtsp: MakeServer) -> None:
    diary = Diary()
    with camera(rtsp().url("nope"), diary) as cam:
        wait_for(lambda: cam.state is CameraState.FAILED_CONFIG)
    assert "path" in diary.reason(CameraState.FAILED_CONFIG)


def test_a_server_that_is_killed_and_comes_back_is_a_new_epoch(rtsp: MakeServer) -> None:
    server, diary = rtsp(), Diary()
    with camera(server.url("cam"), diary) as cam:
        before = next_frame(cam)
        server.kill()
        wait_for(lambda: cam.state is CameraState.BACKING_OFF)
        server.start()
        after = frame_after(cam, before)
        assert after.epoch == cam.counts.connections - 1
    assert after.index > before.index
    assert after.time_s > before.time_s


def test_a_camera_that_stops_sending_with_its_socket_open_is_seen_to_stall(
    rtsp: MakeServer,
) -> None:
    server, diary = rtsp(), Diary()
    with camera(server.url("cam"), diary, stall_s=1.0) as cam:
        next_frame(cam)
        server.freeze()
        # By itself FFmpeg would wait for longer than this does.
        wait_for(lambda: CameraState.STALLED in diary.states, 15)
        server.thaw()
        wait_for(lambda: cam.state is CameraState.LIVE)
        next_frame(cam)


def test_another_picture_size_after_a_reconnect_is_another_epoch(
    rtsp: MakeServer, tmp_path: Path
) -> None:
    server = rtsp()
    with camera(server.url("cam"), Diary()) as cam:
        before = next_frame(cam)
        server.kill()
        server.send(write_units(tmp_path / "large.units", (320, 240)))
        server.start()
        after = frame_after(cam, before)
    assert after.hw == (240, 320)
    assert after.epoch > before.epoch


def test_garbage_costs_frames_and_nothing_else(rtsp: MakeServer) -> None:
    server, diary = rtsp(), Diary()
    with camera(server.url("cam"), diary) as cam:
        next_frame(cam)
        server.tell("garbage cam 15")
        wait_for(lambda: cam.counts.damaged > 0)
        time.sleep(1.6)
        server_is_well = cam.counts.decoded
        wait_for(lambda: cam.counts.decoded > server_is_well + 5)
        next_frame(cam)


def test_without_key_frames_a_new_connection_waits_for_the_next_one(rtsp: MakeServer) -> None:
    server = rtsp()
    with camera(server.url("cam"), Diary()) as keeper:
        next_frame(keeper)
        server.tell("no-key cam 3")
        with camera(server.url("cam"), Diary(), open_timeout_s=20.0, stall_s=20.0) as cam:
            frame = next_frame(cam)
    assert frame.image[45:75].max() > 150  # the square, not the grey of a picture without a key


def test_a_paused_camera_disconnects_and_comes_back_when_asked(rtsp: MakeServer) -> None:
    with camera(rtsp().url("cam"), Diary()) as cam:
        next_frame(cam)
        cam.pause()
        wait_for(lambda: cam.state is CameraState.PAUSED)
        wait_for(lambda: cam.take() is None)
        time.sleep(0.5)
        assert cam.take() is None
        cam.resume()
        next_frame(cam)


def test_many_failed_attempts_leave_nothing_behind() -> None:
    process = psutil.Process()
    diary = Diary()
    url = "rtsp://127.0.0.1:1/cam"
    with camera(url, diary, retry_first_s=0.001, retry_longest_s=0.001):
        wait_for(lambda: len(diary.changes) > 100)
        files, threads = process.num_fds(), set(threading.enumerate())
        wait_for(lambda: len(diary.changes) > 600)
        assert process.num_fds() <= files + 2
        assert set(threading.enumerate()) <= threads
