"""`trackletgait run` and `top` in processes of their own; clips stand for cameras."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline import cli
from tests.pipeline.live.program import NASTY_SPELLINGS, PROGRAM, Program
from tests.pipeline.live.walkers import IN_TIME_S, write_clip, write_config, write_walker


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


@pytest.fixture(scope="module")
def walker(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return write_walker(tmp_path_factory.mktemp("walker"))


Start = Callable[..., Program]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    programs: list[Program] = []

    def start(*arguments: object) -> Program:
        programs.append(Program(tmp_path, "run", *arguments))
        return programs[-1]

    yield start
    for program in programs:
        program.kill()


Say = Callable[..., tuple[int, str]]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run the command line in this process; return its exit code and what it said of errors."""

    def say(*arguments: str) -> tuple[int, str]:
        monkeypatch.setenv("COLUMNS", "500")
        monkeypatch.setattr("sys.argv", ["trackletgait", *arguments])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return int(exit_.value.code or 0), capsys.readouterr().err

    return say


def ended_well(program: Program) -> bool:
    left = {path.name for path in program.out.iterdir()}
    return left == {".trackletgait", "run.json", "sightings.jsonl", "events.jsonl"}


def test_two_cameras_are_run_changed_by_sighup_watched_and_ended_in_time(
    start: Start, clip: Path, walker: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "live.yaml"
    dead = "rtsp://guard:${GATE_PASSWORD}@127.0.0.1:1/s"
    write_config(path, {"a": str(clip), "dead": dead}, walker)
    program = start(path)
    program.wait_for(program.sightings)
    write_config(path, {"a": str(clip), "dead": dead, "b": str(clip)}, walker)
    program.send(signal.SIGHUP)
    program.wait_for(lambda: {s["camera"] for s in program.sightings()} == {"a", "b"})
    shown = subprocess.run(
        [*PROGRAM, "top", str(program.out), "--once", "--json"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    cameras = {camera["name"]: camera for camera in json.loads(shown)["cameras"]}
    assert {name: camera["people"] for name, camera in cameras.items()} == {
        "a": 1, "dead": 0, "b": 1,
    }  # fmt: skip
    assert cameras["dead"]["state"] in ("backing-off", "connecting")
    assert cameras["dead"]["address"] == "rtsp://guard:***@127.0.0.1:1/s"
    code, seconds = program.end(signal.SIGTERM)
    assert (code, seconds < IN_TIME_S) == (0, True), program.printed
    assert {s["id"] for s in program.sightings("ended")} == {s["id"] for s in program.sightings()}
    assert ended_well(program)
    assert json.loads((program.out / "run.json").read_text())["status"] == "finished"
    assert "Traceback" not in program.printed
    assert "person-001" in program.printed
    for secret in NASTY_SPELLINGS:
        assert secret not in program.everything + shown


def test_ctrl_c_ends_cleanly_too(start: Start, clip: Path, walker: dict[str, object]) -> None:
    config = write_config(clip.parent / "one.yaml", {"a": str(clip)}, walker)
    program = start(config)
    program.wait_for(program.sightings)
    code, seconds = program.end(signal.SIGINT)
    assert (code, seconds < IN_TIME_S) == (0, True), program.printed
    assert len(program.sightings("ended")) == 1
    assert ended_well(program)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_at_once_and_leaves_no_socket(
    start: Start, clip: Path, walker: dict[str, object], number: int, code: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # who waits for it takes a while to end
        hanging = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/s"
        config = write_config(clip.parent / "two.yaml", {"a": str(clip), "b": hanging}, walker)
        program = start(config)
        program.wait_for(program.sightings)
        program.send(number)
        program.wait_for(lambda: "ending: writing" in program.printed)
        assert program.end(number)[0] == code
    assert not (program.out / "control.sock").exists()


def test_a_killed_run_leaves_whole_lines_and_the_next_one_goes_on(
    start: Start, clip: Path, walker: dict[str, object]
) -> None:
    config = write_config(clip.parent / "one.yaml", {"a": str(clip)}, walker)
    first = start(config)
    first.wait_for(first.sightings)
    first.kill()
    text = (first.out / "sightings.jsonl").read_text()
    assert text.endswith("\n")
    second = start(config)
    second.wait_for(lambda: len(second.sightings()) == 2)
    assert second.end()[0] == 0
    assert ended_well(second)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.yaml"], "cannot read the configuration"),
        (["a.yaml", "rtsp://h/s"], "expected one configuration or addresses"),
        (["rtsp://guard:${NOT_SET}@h/s"], "NOT_SET"),
        (["rtsp://"], "expected a host"),
        (["x.mp4", "--set", "pipeline.detector.confidnce=1"], "did you mean confidence"),
        (["rtsp://h/s", "--set", "control=" + "x" * 200], "at most 107 bytes"),
        (["gaet.mp4"], "no such file (did you mean gate.mp4?)"),
        (["rtsp:/h/s"], "expected an address such as rtsp://host/stream"),
        (["."], "got .: a folder"),
    ],
)
def test_what_is_wrong_is_said_with_exit_code_2(
    say: Say, arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gate.mp4").touch()
    code, error = say("run", *arguments)
    assert (code, says in error) == (2, True), error
    assert "Traceback" not in error


def test_top_without_a_run_says_where_it_looked(say: Say, tmp_path: Path) -> None:
    code, error = say("top", str(tmp_path), "--once")
    assert code == 1
    assert "no run answers there" in error


def test_a_password_on_the_command_line_is_warned_of_and_never_printed(start: Start) -> None:
    program = start("rtsp://guard:hunter22@127.0.0.1:1/s", "--set", "pipeline.segmenter=detector")
    program.wait_for(lambda: "next attempt" in program.printed)
    assert program.end()[0] == 0
    assert "can read a command line" in program.printed
    assert "hunter22" not in program.everything
