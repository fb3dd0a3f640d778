"""A camera in a process of its own: the same frames, and nothing left behind."""

from __future__ import annotations

import gc
import logging
import operator
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipeline.sources.address import Address
from pipeline.sources.camera import Camera, CameraConfig
from pipeline.sources.camera_memory import (
    MOST_PICTURE_BYTES,
    NUM_SLOTS,
    PictureMemory,
    memory_file,
)
from pipeline.sources.camera_messages import told
from pipeline.sources.camera_process import ProcessCamera
from pipeline.sources.camera_state import CameraState
from pipeline.sources.cameras import Cameras
from pipeline.values import Frame
from tests.pipeline.conftest import write_video
from tests.pipeline.sources.conftest import MakeServer
from tests.servers.rtsp_process import write_units
from tests.servers.watch import Diary, wait_for

LONG_S = 40.0  # for what takes a second where nobody else wants the processor
SECRET = "hunter22"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", num_frames=1000)


@contextmanager
def read(url: object, diary: Diary | None = None, **more: float) -> Iterator[ProcessCamera]:
    config = CameraConfig(url=str(url), process=True, **({"retry_first_s": 0.1} | more))
    with ProcessCamera("cam", Address.parse(config.url), config, diary or Diary()) as camera:
        yield camera


def next_frame(camera: Camera | ProcessCamera) -> Frame:
    found: list[Frame] = []
    assert wait_for(lambda: found.extend(filter(None, [camera.take()])) or bool(found), LONG_S)
    return found[0]


def next_of_another_epoch(camera: ProcessCamera, before: Frame) -> Frame:
    frame = before
    while frame.epoch == before.epoch:
        frame = next_frame(camera)
    return frame


def pid_of(camera: ProcessCamera) -> int:
    assert wait_for(lambda: camera.pid is not None, LONG_S)
    assert camera.pid is not None
    return camera.pid


def is_gone(pid: int) -> bool:
    return wait_for(lambda: not psutil.pid_exists(pid), LONG_S)


def test_its_frames_are_those_of_a_thread(clip: Path) -> None:
    threads: dict[int, Frame] = {}
    config = CameraConfig(url=str(clip))
    with Camera("cam", Address.parse(config.url), config, Diary()) as camera:
        while len(threads) < 60:
            frame = next_frame(camera)
            threads[frame.index] = frame
    num_same = 0
    with read(clip) as process:
        while num_same < 20:
            own = next_frame(process)
            if own.index in threads:
                other = threads[own.index]
                assert np.array_equal(own.image, other.image)
                assert own.time_s == pytest.approx(
                    other.time_s, abs=0.5
                )  # by the arrival of each one's first
                assert (own.stream, own.epoch) == (other.stream, other.epoch)
                num_same += 1
            assert own.index < max(threads)
        counts = process.counts
    assert counts.connections == 1
    assert counts.decoded - counts.taken - counts.dropped <= NUM_SLOTS


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_is_killed_is_a_camera_that_backs_off_and_comes_back(
    clip: Path, number: signal.Signals
) -> None:
    diary = Diary()
    with read(clip, diary) as camera:
        before = next_frame(camera)
        pid = pid_of(camera)
        os.kill(pid, number)
        after = next_of_another_epoch(camera, before)
        counts = camera.counts
    assert f"was ended by {number.name}" in diary.reason(CameraState.BACKING_OFF)
    assert after.epoch == before.epoch + 1
    assert after.index > before.index
    assert after.time_s > before.time_s
    assert counts.decoded > after.index
    assert counts.connections == 2
    assert is_gone(pid)


def test_the_death_of_one_process_costs_the_other_cameras_nothing(clip: Path) -> None:
    config = CameraConfig(url=str(clip), process=True, retry_first_s=0.1)
    with Cameras(Diary()) as cameras:
        for name in "ab":
            cameras.add(name, config)
        cameras.add("thread", CameraConfig(url=str(clip)))
        seen: set[str] = set()
        batches = cameras.batches()
        while len(seen) < 3:
            seen |= {frame.stream for frame in next(batches).frames}
        dying, living = cameras.by_name["a"], cameras.by_name["b"]
        assert isinstance(dying, ProcessCamera)
        os.kill(pid_of(dying), signal.SIGKILL)
        while dying.counts.connections < 2:
            next(batches)
        assert living.counts.connections == 1
        assert cameras.by_name["thread"].counts.connections == 1


def test_pausing_and_resuming_reach_the_process_also_the_next_one(clip: Path) -> None:
    with read(clip) as camera:
        before = next_frame(camera)
        camera.pause()
        assert wait_for(lambda: camera.state is CameraState.PAUSED, LONG_S)
        os.kill(pid_of(camera), signal.SIGKILL)
        assert wait_for(lambda: camera.state is CameraState.BACKING_OFF, LONG_S)
        assert wait_for(lambda: camera.state is CameraState.PAUSED, LONG_S)
        camera.resume()
        assert next_of_another_epoch(camera, before).index > before.index


@pytest.mark.slow
def test_twenty_restarts_leave_nothing_behind(clip: Path) -> None:
    def held() -> tuple[int, int, set[int]]:
        gc.collect()
        children = {child.pid for child in psutil.Process().children()}
        return psutil.Process().num_fds(), threading.active_count(), children

    with read(clip):
        pass  # what libraries open once stays open
    before = held()
    with read(clip, retry_longest_s=0.01) as camera:
        frame = next_frame(camera)
        running = held()
        for _ in range(20):
            os.kill(pid_of(camera), signal.SIGKILL)
            frame = next_of_another_epoch(camera, frame)
        assert wait_for(lambda: all(map(operator.le, held()[:2], running[:2])), LONG_S)
        del frame
    assert wait_for(lambda: all(map(operator.le, held(), before)), LONG_S)


RUN = """
import sys, time
from pipeline.sources.camera import CameraConfig
from pipeline.sources.cameras import Cameras
class Nobody:
    def changed(self, change): pass
with Cameras(Nobody()) as cameras:
    cameras.add("cam", CameraConfig(url=sys.argv[1], process=True))
    batches = cameras.batches()
    while not next(batches).frames: pass
    print(cameras.by_name["cam"].pid, flush=True)
    time.sleep(3600 if sys.argv[2] == "stay" else 0)
"""


def shared_names() -> set[str]:
    return set(os.listdir("/dev/shm"))


def test_a_killed_run_leaves_no_process_and_no_memory(clip: Path) -> None:
    names = shared_names()
    command = [sys.executable, "-c", RUN, str(clip), "stay"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        assert psutil.pid_exists(pid)
        run.kill()
        assert is_gone(pid)
    assert shared_names() <= names


def test_a_run_that_ends_says_nothing_of_what_it_shared(clip: Path) -> None:
    command = [sys.executable, "-c", RUN, str(clip), "leave"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert (done.returncode, done.stderr) == (0, "")
    assert is_gone(int(done.stdout))


def test_no_list_of_processes_shows_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE", SECRET)
    diary = Diary()
    with read("rtsp://guard:${GATE}@127.0.0.1:1/s", diary) as camera:
        assert wait_for(diary.has_reason(CameraState.BACKING_OFF), LONG_S)
        process = psutil.Process(pid_of(camera))
        shown = f"{process.cmdline()} {process.environ()} {process.open_files()}"
    assert "nothing listens" in diary.reason(CameraState.BACKING_OFF)
    assert "camera_child" in shown
    assert SECRET not in shown
    assert SECRET not in repr(diary.entries)


@pytest.mark.rtsp
def test_a_server_that_dies_and_returns_with_another_size_is_lived_through(
    rtsp: MakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATE", "p@s:s/w#o?r%d")
    server, diary = rtsp(login="guard:p@s:s/w#o?r%d"), Diary()
    with read(server.url("cam", "guard:${GATE}@"), diary, retry_longest_s=1.0) as camera:
        before = next_frame(camera)
        pid = pid_of(camera)
        server.kill()
        server.send(write_units(tmp_path / "large.units", (320, 240)))
        assert wait_for(lambda: camera.state is CameraState.BACKING_OFF, LONG_S)
        server.start()
        after = next_of_another_epoch(camera, before)
        assert camera.pid == pid
    assert (before.hw, after.hw) == ((120, 160), (240, 320))
    assert after.captured_s is not None
    assert after.time_s > before.time_s
    assert "process" not in diary.reason(CameraState.BACKING_OFF)


def test_what_the_process_logs_is_in_the_runs_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n", encoding="utf-8")
    file.chmod(0o644)
    config = CameraConfig(url="rtsp://guard@127.0.0.1:1/s", password_file=file, process=True)
    with (
        caplog.at_level(logging.WARNING),
        ProcessCamera("cam", Address.parse(config.url), config, Diary()),
    ):
        assert wait_for(lambda: "can be read by others" in caplog.text, LONG_S)
    assert {record.name for record in caplog.records} == {"pipeline.sources.address"}
    assert SECRET not in caplog.text


def test_a_process_that_says_nothing_is_ended_and_started_anew(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.sources.camera_process._SILENT_S", 4.0)
    diary = Diary()
    with read(clip, diary) as camera:
        before = next_frame(camera)
        os.kill(pid_of(camera), signal.SIGSTOP)
        next_of_another_epoch(camera, before)
    assert "said nothing for 4 s" in diary.reason(CameraState.BACKING_OFF)


def test_a_mistake_of_ours_does_not_end_the_camera(
    clip: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    diary = Diary()
    with read(clip, diary) as camera:
        before = next_frame(camera)
        with monkeypatch.context() as patch:
            patch.setattr(ProcessCamera, "_heed", lambda self, message, memory: [][0])
            assert wait_for(lambda: "IndexError" in caplog.text, LONG_S)
        next_of_another_epoch(camera, before)
    assert "unexpected IndexError" in diary.reason(CameraState.BACKING_OFF)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\x00",
        b"[]",
        b'{"kind": "order"}',
        b'{"kind": "log", "logger": "root", "level": 50, "text": "x"}',
        b'{"kind": "picture", "slot": 0, "height": 100000, "width": 100000, "index": 0, "epoch": 0,'
        b' "time_s": 0, "captured_s": 0, "arrived_s": 0, "counts": {}}',
        b'{"kind": "picture", "slot": 9, "height": 10, "width": 10, "index": 0, "epoch": 0,'
        b' "time_s": 0, "captured_s": 0, "arrived_s": 0, "counts": {}}',
    ],
)
def test_what_no_reader_says_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="validation error"):
        told(data)


def test_pictures_are_lent_until_nobody_has_them_and_whoever_keeps_many_gets_copies() -> None:
    with memory_file() as file:
        writer, reader = PictureMemory(file), PictureMemory(file)
    kept = []
    for number in range(20):
        slot = writer.free_slot()
        assert slot is not None
        writer.put(slot, np.full((4, 6, 3), number, np.uint8))
        kept.append(reader.lend(slot, 4, 6)[1:])
    assert [int(image.max()) for image in kept] == list(range(20))
    free = [writer.free_slot() is not None]
    kept.clear()
    gc.collect()
    assert free == [True]
    assert [writer._map[slot] for slot in range(NUM_SLOTS)] == [0] * NUM_SLOTS


def test_the_process_cannot_take_the_memory_away() -> None:
    with memory_file() as file:
        with pytest.raises(PermissionError):
            os.ftruncate(file, 1)
        assert os.fstat(file).st_size > NUM_SLOTS * MOST_PICTURE_BYTES
