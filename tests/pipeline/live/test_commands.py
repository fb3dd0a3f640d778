"""What a live run is told while it runs: by its file, its socket and over HTTP."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import yaml

from pipeline.errors import PipelineError
from pipeline.live.config import load_live_config
from pipeline.live.control import ask
from tests.pipeline.live.conftest import Start
from tests.pipeline.live.walkers import DEAD, IN_TIME_S, write_config


def test_reading_the_file_again_adds_changes_and_removes_cameras_and_touches_no_other(
    start: Start, clip: Path, walker: dict[str, object], tmp_path: Path
) -> None:
    def write(cameras: dict[str, object]) -> Path:
        return write_config(tmp_path / "live.yaml", cameras, walker)

    path = write({"stays": str(clip), "goes": DEAD, "changes": DEAD})
    running = start(
        yaml.safe_load(path.read_text())["cameras"], reread=lambda: load_live_config(path)
    )
    running.wait_for(lambda: running.notebook.sightings("seen"))
    running.run.desk.add("by command", str(clip))
    write({"stays": str(clip), "changes": {"url": DEAD, "stall_s": 2.0}, "new": str(clip)})
    running.run.reload()
    names = {"stays", "changes", "new", "by command"}
    running.wait_for(lambda: {c.name for c in running.run.status().cameras} == names)
    running.wait_for(lambda: "live" in running.notebook.states("new"))
    assert running.notebook.states("stays") == ["live"]
    assert running.notebook.states("by command") == ["live"]


@pytest.mark.parametrize(
    "broken",
    [
        *("cameras: [", "cameras: {a: {url: x, stal_s: 1}}", "cameras: {a: 'rtsp://'}", ""),
        "cameras: {a: nothing-there.mp4}",
    ],
)
def test_a_broken_file_changes_nothing_and_is_logged(
    start: Start, clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    path = tmp_path / "live.yaml"
    running = start({"a": str(clip)}, reread=lambda: load_live_config(path))
    running.wait_for(lambda: "live" in running.notebook.states("a"))
    if broken:
        path.write_text(broken)
    running.run.reload()
    running.wait_for(lambda: "nothing has changed" in caplog.text)
    assert [camera.name for camera in running.run.status().cameras] == ["a"]


def test_the_control_socket_obeys_whoever_may_open_it(
    start: Start, clip: Path, tmp_path: Path
) -> None:
    running = start({"a": str(clip)}, tmp_path)
    path = tmp_path / "control.sock"
    assert path.stat().st_mode & 0o777 == 0o600

    def states() -> list[str]:
        return [camera["state"] for camera in ask(path, {"do": "status"})["cameras"]]

    running.wait_for(lambda: states() == ["live"])
    assert ask(path, {"do": "pause", "name": "a"}) == {"ok": True}
    running.wait_for(lambda: states() == ["paused"])
    ask(path, {"do": "add", "name": "b", "camera": {"url": str(clip), "stall_s": 2.0}})
    running.wait_for(lambda: running.notebook.sightings("seen"))
    ask(path, {"do": "change", "name": "b", "camera": str(clip)})
    ask(path, {"do": "remove", "name": "a"})
    assert [camera["name"] for camera in ask(path, {"do": "status"})["cameras"]] == ["b"]
    ask(path, {"do": "stop"})
    running.wait_for(lambda: not path.exists() or running.notebook.sightings("ended"))


def test_the_same_is_obeyed_over_http_from_whoever_has_the_token(
    start: Start, clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("a-token-of-many-letters\n")
    (tmp_path / "token").chmod(0o600)
    control = {"token_file": str(tmp_path / "token")}
    running = start({"a": str(clip)}, metrics={"port": 0}, control_http=control)
    assert running.run.instruments.server is not None
    with httpx.Client(
        base_url=f"http://127.0.0.1:{running.run.instruments.server.port}",
        headers={"Authorization": "Bearer a-token-of-many-letters"},
        trust_env=False,
    ) as client:

        def states() -> dict[str, str]:
            cameras = client.get("/status").raise_for_status().json()["cameras"]
            return {camera["name"]: camera["state"] for camera in cameras}

        def do(**request: object) -> None:
            assert client.post("/control", json=request).json() == {"ok": True}

        running.wait_for(lambda: states() == {"a": "live"})
        do(do="pause", name="a")
        do(do="add", name="b", camera={"url": str(clip), "process": True})
        running.wait_for(lambda: states() == {"a": "paused", "b": "live"})
        do(do="remove", name="b")
        assert states() == {"a": "paused"}
        assert client.post("/control", json={"do": "dance"}).status_code == 422
        assert client.get("/status", headers={"Authorization": "x"}).status_code == 401
        do(do="stop")
    assert running.end() < IN_TIME_S


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"do": "dance"}, "expected one of status, add"),
        ({"do": "remove", "name": "nobody"}, "expected one of a"),
        ({"do": "add", "name": "a", "camera": "rtsp://h/s"}, "one of that name already"),
        ({"do": "add", "name": "b", "camera": {"url": "x", "stal_s": 1}}, "did you mean stall_s"),
        ({"do": "add", "name": "../b", "camera": "x"}, "camera's name"),
        ({"do": "add", "name": "b", "camera": "rtsp://u:hunter22@"}, "expected a host"),
        ({"do": "add", "name": "b", "camera": ["rtsp://u:hunter22@h/"]}, "camera"),
        ({"do": "pause"}, "name: expected the name"),
        ({"do": "reload"}, "no file to read"),
    ],
)
def test_a_wrong_request_is_answered_in_words_and_changes_nothing(
    start: Start, tmp_path: Path, request_: dict[str, object], says: str
) -> None:
    running = start({"a": DEAD}, tmp_path)
    running.wait_for(lambda: "backing-off" in running.notebook.states("a"))
    with pytest.raises(PipelineError, match=says) as error:
        ask(tmp_path / "control.sock", request_)
    assert "hunter22" not in str(error.value)
    assert [c["name"] for c in ask(tmp_path / "control.sock", {"do": "status"})["cameras"]] == ["a"]
