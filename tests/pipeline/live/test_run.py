"""A whole live run in this process; clips played at their own pace stand for cameras."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from pipeline.errors import OutputError, PipelineError
from pipeline.live.config import LiveConfig, load_live_config
from pipeline.live.control import ask
from pipeline.live.run import LiveRun
from pipeline.sinks.live import Event
from tests.pipeline.live.walkers import IN_TIME_S, write_clip, write_config, write_walker
from tests.threads import no_thread_left

DEAD = "rtsp://127.0.0.1:1/s"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


@pytest.fixture(scope="module")
def walker(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return write_walker(tmp_path_factory.mktemp("walker"))


class Notebook:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def write(self, events: Sequence[Event]) -> None:
        self.events += events

    def close(self) -> None:
        pass

    def sightings(self, what: str) -> list[Mapping[str, Any]]:
        contents = [event.content for event in self.events if event.kind == "sighting"]
        return [content for content in contents if content["event"] == what]

    def states(self, camera: str) -> list[object]:
        own = [e.content for e in self.events if e.kind == "camera"]
        return [content["state"] for content in own if content["camera"] == camera]


class Running:
    """A run in a thread of its own."""

    def __init__(self, run: LiveRun, notebook: Notebook) -> None:
        self.run, self.notebook = run, notebook
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def wait_for(self, what: Callable[[], object], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, f"not within {seconds} s; {self.notebook.events}"
            time.sleep(0.02)

    def end(self) -> float:
        """Stop it and return the seconds that took."""
        began = time.monotonic()
        self.run.stop()
        self._thread.join(60)
        assert not self._thread.is_alive()
        self.run.close()
        return time.monotonic() - began

    def _work(self) -> None:
        try:
            self.run.run()
        except Exception as error:
            self.error = error


Start = Callable[..., Running]


@pytest.fixture
def start(walker: dict[str, object]) -> Iterator[Start]:
    runs: list[Running] = []

    def start(
        cameras: dict[str, object], out: Path | None = None, spoil: object = None, **more: Any
    ) -> Running:
        reread = more.pop("reread", None)
        data = {"cameras": cameras, "pipeline": walker, **more}
        config = LiveConfig.model_validate(data)
        notebook = Notebook()
        run = LiveRun(config, out=out, reread=reread, sinks={"notebook": notebook})
        if callable(spoil):
            spoil(run)
        runs.append(Running(run, notebook))
        return runs[-1]

    yield start
    for running in runs:
        running.end()


def test_somebody_is_told_of_as_soon_as_recognised_and_again_when_gone(
    start: Start, clip: Path, walker: dict[str, Any]
) -> None:
    began = time.time()
    one_place = {"overlapping": [["a", "b"]]}  # so that somebody may be on both at once
    gallery = {**walker.get("gallery", {}), "whereabouts": one_place}
    running = start({"a": str(clip), "b": str(clip)}, pipeline={**walker, "gallery": gallery})
    running.wait_for(lambda: len(running.notebook.sightings("seen")) >= 2)
    assert running.notebook.sightings("ended") == []
    assert running.end() < IN_TIME_S
    seen, ended = running.notebook.sightings("seen"), running.notebook.sightings("ended")
    assert {s["id"] for s in seen} == {s["id"] for s in ended}
    assert {s["camera"] for s in ended} == {"a", "b"}
    assert len({s["identity"] for s in seen}) == 1  # the same walk on both
    for sighting in ended:
        assert began <= sighting["start_unix_s"] <= sighting["end_unix_s"] <= time.time()


def test_a_dead_camera_does_not_matter_and_says_why(start: Start, clip: Path) -> None:
    running = start({"dead": DEAD, "well": str(clip)})
    running.wait_for(lambda: running.notebook.sightings("seen"))
    dead, well = running.run.status().cameras
    assert (dead.state, dead.reason) == ("backing-off", "nothing listens on that port")
    assert dead.people == 0
    assert (well.state, well.people) == ("live", 1)
    assert well.latency_p50_s is not None
    running.wait_for(lambda: (running.run.status().cameras[1].age_s or 60.0) < 1.0)


def test_a_run_without_any_living_camera_lives_and_takes_one_that_comes(
    start: Start, clip: Path
) -> None:
    running = start({"dead": DEAD})
    running.wait_for(lambda: "backing-off" in running.notebook.states("dead"))
    running.run.desk.add("new", str(clip))
    running.wait_for(lambda: running.notebook.sightings("seen"))


def test_people_are_gone_when_their_camera_is(start: Start, clip: Path) -> None:
    running = start({"a": str(clip)}, end_after_s=0.5)
    running.wait_for(lambda: running.notebook.sightings("seen"))
    running.run.desk.pause("a")
    running.wait_for(lambda: running.notebook.sightings("ended"))
    [status] = running.run.status().cameras
    assert (status.state, status.people) == ("paused", 0)
    running.run.desk.resume("a")
    running.wait_for(lambda: len(running.notebook.sightings("seen")) == 2)
    ids = [sighting["track_id"] for sighting in running.notebook.sightings("seen")]
    assert ids[1] > ids[0]


def test_a_removed_camera_ends_its_tracks_and_leaves_the_table(start: Start, clip: Path) -> None:
    running = start({"a": str(clip), "b": str(clip)})
    running.wait_for(lambda: len(running.notebook.sightings("seen")) >= 2)
    running.run.desk.remove("a")
    running.wait_for(lambda: running.notebook.sightings("ended"))
    assert [s["camera"] for s in running.notebook.sightings("ended")] == ["a"]
    assert [camera.name for camera in running.run.status().cameras] == ["b"]


def test_a_camera_removed_and_added_again_never_reuses_a_track_id(start: Start, clip: Path) -> None:
    running = start({"a": str(clip)})
    for turn in range(1, 4):
        running.wait_for(lambda turn=turn: len(running.notebook.sightings("seen")) == turn)
        running.run.desk.remove("a")
        running.wait_for(lambda turn=turn: len(running.notebook.sightings("ended")) == turn)
        running.run.desk.add("a", str(clip))
    ids = [sighting["track_id"] for sighting in running.notebook.sightings("ended")]
    assert ids == sorted(set(ids))
    unix_s = [sighting["start_unix_s"] for sighting in running.notebook.sightings("ended")]
    assert unix_s == sorted(unix_s)


class Sometimes:
    """A stage that fails on some calls."""

    description, model_hash = "sometimes", None

    def __init__(self, stage: Any, fails: Callable[[int], bool]) -> None:
        self._stage, self._fails, self.calls = stage, fails, 0

    def close(self) -> None:
        self._stage.close()

    def detect(self, frames: Any) -> Any:
        self._fail_perhaps()
        return self._stage.detect(frames)

    def segment(self, frames: Any, tracks: Any) -> Any:
        self._fail_perhaps()
        return self._stage.segment(frames, tracks)

    def _fail_perhaps(self) -> None:
        self.calls += 1
        if self._fails(self.calls):
            raise RuntimeError(f"call {self.calls} is bad")


@pytest.mark.parametrize("stage", ["detector", "segmenter"])
def test_a_stage_that_fails_on_one_batch_costs_that_batch_and_no_track_stays_open(
    start: Start, clip: Path, stage: str
) -> None:
    def spoil(run: LiveRun) -> None:
        part = getattr(run.perception, stage)
        setattr(run.perception, stage, Sometimes(part, lambda call: call == 20))

    running = start({"a": str(clip)}, spoil=spoil)
    running.wait_for(lambda: len(running.notebook.sightings("seen")) == 2)
    assert running.run.status().failures == {"perception": 1, "identity": 0}
    running.end()
    assert running.error is None
    ended = running.notebook.sightings("ended")
    assert len(ended) == 2
    assert len({sighting["track_id"] for sighting in ended}) == 2


class FailsOn:
    """A segmenter that cannot bear one camera."""

    description, model_hash = "fails on one", None

    def __init__(self, stage: Any, stream: str) -> None:
        self._stage, self._stream = stage, stream

    def close(self) -> None:
        self._stage.close()

    def segment(self, frames: Any, tracks: Any) -> Any:
        if any(frame.stream == self._stream for frame in frames):
            raise RuntimeError("cannot bear it")
        return self._stage.segment(frames, tracks)


def test_a_camera_whose_every_frame_fails_costs_the_others_nothing(
    start: Start, clip: Path
) -> None:
    def spoil(run: LiveRun) -> None:
        run.perception.segmenter = FailsOn(run.perception.segmenter, "bad")

    running = start({"bad": str(clip), "good": str(clip)}, spoil=spoil)
    running.wait_for(lambda: running.run.status().failures["perception"] > 20)
    running.end()
    assert running.error is None
    good = [s for s in running.notebook.sightings("ended") if s["camera"] == "good"]
    assert 1 <= len(good) <= 2  # the track that the first failure ended, and the one since then
    assert good[-1]["identity"] is not None


class Hangs:
    """A detector that never answers."""

    description, model_hash = "hangs", None

    def __init__(self) -> None:
        self.is_free = threading.Event()

    def close(self) -> None:
        raise AssertionError("closed while it is used")

    def detect(self, frames: Any) -> Any:
        self.is_free.wait(30)
        raise RuntimeError("too late")


def test_a_model_that_hangs_does_not_hold_up_the_end(start: Start, clip: Path) -> None:
    hangs = Hangs()

    def spoil(run: LiveRun) -> None:
        run.perception.detector = hangs

    running = start({"a": str(clip)}, spoil=spoil)
    running.wait_for(lambda: "live" in running.notebook.states("a"))
    time.sleep(0.3)
    try:
        assert running.end() < IN_TIME_S
    finally:
        hangs.is_free.set()


def test_the_same_failure_ten_times_in_a_row_ends_the_run_with_words(
    start: Start, clip: Path, tmp_path: Path
) -> None:
    def spoil(run: LiveRun) -> None:
        run.perception.detector = Sometimes(run.perception.detector, lambda call: call > 3)

    running = start({"a": str(clip)}, tmp_path / "out", spoil=spoil)
    running.wait_for(lambda: running.error)
    assert isinstance(running.error, PipelineError)
    assert "perception failed 10 times in a row at test_run.py" in str(running.error)
    assert "call 13 is bad" in str(running.error)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "failed"


def test_an_encoder_that_fails_once_leaves_the_tracks_to_end(start: Start, clip: Path) -> None:
    def spoil(run: LiveRun) -> None:
        encode, calls = run.identity.encoder.encode, []

        def fail_once(tracklets: Any) -> Any:
            calls.append(tracklets)
            if len(calls) == 1:
                raise RuntimeError("no memory")
            return encode(tracklets)

        run.identity.encoder.encode = fail_once  # type: ignore[method-assign]

    running = start({"a": str(clip)}, spoil=spoil)
    running.wait_for(lambda: running.notebook.sightings("seen"))
    running.end()
    assert running.run.status().failures["identity"] == 1
    [sighting] = running.notebook.sightings("ended")
    assert sighting["identity"] is not None


def test_nothing_is_left_of_a_run_but_its_results(start: Start, clip: Path, tmp_path: Path) -> None:
    process = psutil.Process()
    start({"warm": str(clip)}).end()  # what libraries open once stays open
    files = process.num_fds()
    out = tmp_path / "out"
    with no_thread_left():
        running = start({"a": str(clip), "dead": DEAD}, out, metrics={"port": 0})
        running.wait_for(lambda: running.notebook.sightings("seen"))
        assert running.end() < IN_TIME_S
    assert process.num_fds() <= files
    names = {path.name for path in out.iterdir()}
    assert names == {".trackletgait", "run.json", "sightings.jsonl", "events.jsonl"}
    lines = (out / "sightings.jsonl").read_text().splitlines()
    assert {json.loads(line)["content"]["event"] for line in lines} == {"seen", "ended"}


def test_a_second_run_adds_to_the_sightings_of_the_first(
    start: Start, clip: Path, tmp_path: Path
) -> None:
    def size_after_a_run() -> int:
        running = start({"a": str(clip)}, tmp_path / "out")
        running.wait_for(lambda: running.notebook.sightings("seen"))
        running.end()
        return (tmp_path / "out" / "sightings.jsonl").stat().st_size

    assert 0 < size_after_a_run() < size_after_a_run()


def test_results_of_recorded_files_are_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(OutputError, match="found other results"):
        LiveRun(LiveConfig(), out=tmp_path)


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
