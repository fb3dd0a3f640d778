import json
import time

import pytest

import pipeline
from pipeline.config import PipelineConfig
from pipeline.errors import SourceError
from pipeline.file_run import FileRun
from pipeline.sources.inputs import sample_path
from pipeline.values import Match
from tests.pipeline.sinks.conftest import make_tracklet
from tests.threads import no_thread_left
from trackers.boxes import Detections

QUICK = {"output": {"video": False}, "runtime": {"batch_frames": 1}}


def config(**changes):
    return PipelineConfig.model_validate({**QUICK, **changes})


class FailingDetector:
    """Finds nobody, and fails on frame 3."""

    description, model_hash = "fails on frame 3", None

    def close(self):
        pass

    def detect(self, frames):
        if any(frame.index == 3 for frame in frames):
            raise RuntimeError("detector failed on frame 3")
        return [Detections() for _ in frames]


class FailingSegmenter:
    """Fails at once."""

    description, model_hash = "fails", None

    def close(self):
        pass

    def segment(self, frames, tracks):
        raise RuntimeError("segmenter failed")


@pytest.mark.parametrize(
    ("stage", "failing"), [("detector", FailingDetector()), ("segmenter", FailingSegmenter())]
)
def test_a_stage_that_fails_ends_the_run_and_leaves_no_thread(tmp_path, stage, failing):
    run = FileRun(sample_path(), out=tmp_path / "out", config=config())
    setattr(run.pipeline.perception, stage, failing)
    start = time.monotonic()
    with no_thread_left(), pytest.raises(RuntimeError, match="failed"):
        list(run.sightings())
    assert time.monotonic() - start < 20  # within a second where nobody else wants the processor
    assert '"failed"' in (tmp_path / "out" / "run.json").read_text()


def test_leaving_the_sightings_early_ends_every_thread(tmp_path, make_video):
    run = FileRun(sample_path(), config=config(assembler={"window": 5, "min_length": 1}))
    with no_thread_left():
        sightings = run.sightings()
        next(sightings)
        sightings.close()


def test_process_yields_sightings_and_keeps_nothing_when_no_folder_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    some = config(read={"max_frames": 40}, assembler={"window": 20, "min_length": 10})
    sightings = list(pipeline.process(sample_path(), config=some))
    assert {s.identity for s in sightings if s.identity}
    assert all(s.stream == "vtest-20s" for s in sightings)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_to_read_anything_at_all_is_an_error(tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    with pytest.raises(SourceError, match=r"text\.mp4"):
        list(pipeline.process(text, config=config()))
    with pytest.raises(SourceError, match="no such file"):
        FileRun(tmp_path / "missing.mp4")


def test_several_files_share_one_gallery_and_keep_their_own_tracks(tmp_path):
    import shutil

    copy = tmp_path / "copy.mp4"
    shutil.copy(sample_path(), copy)
    some = config(read={"max_frames": 40}, assembler={"window": 20, "min_length": 10})
    sightings = list(pipeline.process([sample_path(), copy], config=some))
    who = {
        stream: sorted(
            (s.track_id, s.identity) for s in sightings if s.stream == stream and s.identity
        )
        for stream in ("vtest-20s", "copy")
    }
    # The second file shows the same people at the same places: the same walk is the same identity.
    assert who["vtest-20s"]
    assert who["vtest-20s"] == who["copy"]


def test_people_are_counted_as_whom_they_turned_out_to_be(tmp_path):
    output = {"video": False, "tracklets": False}
    some = config(read={"max_frames": 40}, assembler={"window": 20}, output=output)
    run = FileRun(sample_path(), out=tmp_path, config=some)
    said_once = Match(identity="person-999", distance=None, threshold=1.0)
    run.recognised(make_tracklet(1, stream="vtest-20s"), None, said_once)
    people = {sighting.identity for sighting in run.sightings()} - {None}
    [stream] = json.loads((tmp_path / "run.json").read_text())["streams"]
    assert stream["people"] == len(people) > 0
