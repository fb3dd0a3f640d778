"""A whole live run in this process; clips played at their own pace stand for cameras."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.errors import OutputError
from pipeline.live.config import LiveConfig
from pipeline.live.run import LiveRun
from tests.pipeline.live.conftest import Start
from tests.pipeline.live.walkers import DEAD, IN_TIME_S
from tests.threads import no_thread_left


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
