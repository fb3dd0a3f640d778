"""What fails within a live run, and what that costs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.live.run import LiveRun
from tests.pipeline.live.conftest import Start
from tests.pipeline.live.walkers import IN_TIME_S


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
    assert "perception failed 10 times in a row at test_failures.py" in str(running.error)
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
