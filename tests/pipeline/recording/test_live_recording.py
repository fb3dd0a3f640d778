"""A whole live run that records, and how it is configured."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from gait.errors import ConfigError
from pipeline.live.config import LiveConfig, load_live_config
from pipeline.live.run import LiveRun
from tests.pipeline.live.walkers import write_clip, write_walker
from tests.pipeline.recording.scenes import clips_in, decode, record


def test_a_live_run_records_who_was_there(tmp_path: Path) -> None:
    data = {
        "cameras": {"gate": str(write_clip(tmp_path / "clip.mp4"))},
        "pipeline": write_walker(tmp_path / "walker"),
        "recording": {"height": None},
    }
    with LiveRun(LiveConfig.model_validate(data), out=tmp_path / "out") as run:
        thread = threading.Thread(target=run.run)
        thread.start()
        deadline_s = time.monotonic() + 60
        while not _is_named(tmp_path / "out"):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        [status] = [sink for sink in run.status().sinks if sink.name == "recording"]
        assert (status.written > 0, status.error) == (True, None)
        run.stop()
        thread.join(30)
        assert not thread.is_alive()
    [clip] = clips_in(tmp_path / "out" / "clips")
    found = record(clip)
    assert (found.camera, found.complete, found.frames) == ("gate", True, len(decode(clip)))
    lines = (tmp_path / "out" / "sightings.jsonl").read_text().splitlines()
    sightings = [json.loads(line)["content"] for line in lines]
    assert {(t.sighting, t.identity) for t in found.tracks} == {
        (each["id"], each["identity"]) for each in sightings if each["event"] == "ended"
    }


def _is_named(out: Path) -> bool:
    records = [json.loads(p.read_text()) for p in (out / "clips").glob("*/*.json")]
    return any(track["identity"] for each in records for track in each["tracks"])


def test_nothing_is_recorded_or_published_unless_asked_for() -> None:
    config = LiveConfig()
    assert (config.recording, config.publish) == (None, None)


def test_a_relative_folder_needs_a_folder_of_results(tmp_path: Path) -> None:
    data = {"cameras": {}, "pipeline": write_walker(tmp_path), "recording": {}}
    with pytest.raises(ConfigError, match=r"recording\.folder: expected an absolute path"):
        LiveRun(LiveConfig.model_validate(data))


def test_the_password_of_an_rtsp_server_may_hold_any_character_and_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUSH_PASSWORD", "se/cr:e@t#1?")
    path = tmp_path / "cameras.yaml"
    path.write_text("publish: 'rtsp://guard:${PUSH_PASSWORD}@host:8554/{camera}'\n")
    config = load_live_config(path)
    assert config.publish is not None
    assert config.publish.annotate
    assert "se/cr:e@t#1?" in config.secrets()
    assert "cr:e@t" not in json.dumps(config.shown())
    assert "guard:***@host:8554/{camera}" in json.dumps(config.shown())


def test_a_typo_is_answered_with_what_is_known(tmp_path: Path) -> None:
    path = tmp_path / "cameras.yaml"
    path.write_text("recording: {keep_day: 3}\npublish: rtsp://guard:secret-one@host/live\n")
    with pytest.raises(ConfigError) as error:
        load_live_config(path)
    assert "keep_days" in str(error.value)
    assert "secret-one" not in str(error.value)
