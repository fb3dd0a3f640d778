from __future__ import annotations

import json
import logging
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest

from pipeline.errors import ConfigError
from pipeline.recording.config import PublishConfig
from pipeline.recording.publishing import Publishing
from pipeline.sinks.drawing import UNKNOWN_RGB, identity_colour
from tests.pipeline.recording.scenes import BOX, GREY, decode, frame, people, sighting
from tests.servers.rtsp_process import SYSTEM_PYTHON

SERVER = Path(__file__).parents[2] / "servers" / "rtsp_record.py"


class Taker:
    """The server that takes what is pushed, as a process."""

    def __init__(self, folder: Path, port: int = 0, login: str | None = None) -> None:
        command = [SYSTEM_PYTHON, str(SERVER), "--path", "gate", "--folder", str(folder)]
        command += ["--port", str(port), *(["--login", login] if login else [])]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port: int = self.next_line()["port"]

    def next_line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line: dict[str, Any] = json.loads(self._process.stdout.readline())
        return line

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def taker(tmp_path: Path) -> Iterator[Callable[..., Taker]]:
    takers: list[Taker] = []

    def start(port: int = 0, login: str | None = None) -> Taker:
        takers.append(Taker(tmp_path, port, login))
        return takers[-1]

    yield start
    for each in takers:
        each.kill()


def publishing(port: int, login: str = "") -> Publishing:
    return Publishing(PublishConfig(url=f"rtsp://{login}127.0.0.1:{port}/{{camera}}"))


def push_until(what: Callable[[], object], publisher: Publishing, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    index = 0
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds} s; {publisher.counts}"
        shown = frame(index, at_s=time.monotonic())
        publisher.saw(shown, *people(7))
        index += 1
        time.sleep(0.05)


@pytest.mark.rtsp
def test_the_live_picture_arrives_with_people_drawn_and_named(
    taker: Callable[..., Taker], tmp_path: Path
) -> None:
    server, taken = taker(login="guard:p@ss:w/rd"), tmp_path / "gate-1.mkv"
    with publishing(server.port, "guard:p%40ss%3Aw%2Frd@") as publisher:
        push_until(lambda: is_shown(taken, UNKNOWN_RGB), publisher)
        publisher.put(sighting(7, "person-3"))
        push_until(lambda: is_shown(taken, identity_colour("person-3")), publisher)
        assert publisher.counts.error is None
    assert server.next_line() == {"ended": "gate-1.mkv"}
    times_s = [time_s for time_s, _ in decode(taken)]
    assert times_s == sorted(times_s)


def is_shown(video: Path, rgb: tuple[int, int, int]) -> bool:
    """Return whether the person in the newest picture of a growing file is of that colour."""
    try:
        image = decode(video)[-1][1]
    except (av.FFmpegError, IndexError):  # nothing that can be read yet
        return False
    left, top, right, bottom = BOX
    inside = image[top + 15 : bottom - 5, left + 5 : right - 5].mean(axis=(0, 1))
    return bool(np.allclose(inside, 0.65 * GREY + 0.35 * np.array(rgb[::-1]), atol=10))


@pytest.mark.rtsp
def test_a_server_that_was_away_gets_the_picture_again(
    taker: Callable[..., Taker], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO, "pipeline.recording")
    server = taker()
    with publishing(server.port) as publisher:
        push_until(lambda: publisher.counts.written > 3, publisher)
        server.kill()
        push_until(lambda: publisher.counts.error, publisher)
        (tmp_path / "gate-1.mkv").unlink()
        taker(server.port)
        written = publisher.counts.written
        push_until(lambda: publisher.counts.written > written + 3, publisher)
        assert publisher.counts.error is None
    assert "publish gate: works again" in caplog.text


@pytest.mark.rtsp
def test_a_wrong_password_is_said_and_never_shown(
    taker: Callable[..., Taker], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with publishing(taker(login="guard:right").port, "guard:wr%40ng-one@") as publisher:
        push_until(lambda: publisher.counts.failures, publisher)
        assert "401 Unauthorized" in str(publisher.counts.error)
    assert "guard:***@127.0.0.1" in caplog.text
    assert "ng-one" not in caplog.text + str(publisher.counts)


def test_a_server_that_never_answers_blocks_nothing_and_leaves_no_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        publisher = publishing(silent.getsockname()[1])
        push_until(lambda: publisher.counts.dropped > 5, publisher)
        with silent.accept()[0]:  # it has connected, and waits
            publisher.close(within_s=1.0)
    own = psutil.Process().children()
    assert not [p for p in own if "pipeline.recording.pushing" in " ".join(p.cmdline())]
    publisher.saw(frame(1), *people(1))  # too late: ignored


def test_a_port_where_nothing_listens_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with publishing(port) as publisher:
        push_until(lambda: publisher.counts.failures >= 2, publisher)
        assert publisher.counts.error == "gate: Connection refused"
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host/{camera}", "expected rtsp:// or rtsps://"),
        ("rtsp://host/live", "expected {camera} in its path"),
        ("rtsp://{camera}:secret-one@host/live", "expected {camera} in its path"),
    ],
)
def test_an_address_that_cannot_be_right_is_refused(url: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as error:
        PublishConfig(url=url)
    assert expected in str(error.value.errors()[0]["msg"])  # type: ignore[attr-defined]
    assert "secret-one" not in str(error.value.errors()[0]["msg"])  # type: ignore[attr-defined]


def test_a_variable_that_is_not_set_is_refused_before_the_run() -> None:
    with pytest.raises(ConfigError, match=r"publish\.url: .*NO_SUCH_VARIABLE"):
        Publishing(PublishConfig(url="rtsp://u:${NO_SUCH_VARIABLE}@host/{camera}"))
