from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gait.tracklet import Tracklet
from pipeline.cli import app
from pipeline.gallery.calibration import read_calibration
from pipeline.sinks.folder import ResultsFolder
from pipeline.sinks.run import ModelFile, RunRecord, write_run
from pipeline.sinks.tracklets import TrackletStore

HASH = "a" * 64


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """Return stored embeddings of 24 people in 4 walks each, as `trackletgait eval` keeps them."""
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(24), 4)
    embeddings = rng.standard_normal((24, 8, 2))[people] + 0.5 * rng.standard_normal((96, 8, 2))
    folder = tmp_path / "features"
    folder.mkdir()
    keys = [[str(person), "nm", str(walk)] for walk, person in enumerate(people)]
    (folder / "features.json").write_text(json.dumps({"model_hash": HASH, "keys": keys}))
    np.save(folder / "embeddings.npy", embeddings.astype(np.float32))
    np.save(folder / "done.npy", np.ones(96, bool))
    return folder


def test_an_evaluation_set_gives_a_file_that_the_gallery_can_read(
    features: Path, tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, ["calibrate", str(features), "-o", str(tmp_path / "c.json")])
    assert done.exit_code == 0, done.output
    assert "144 pairs of one person, 4416 of two; 24 people" in done.output
    assert "tested on the other half" in done.output
    made = read_calibration(tmp_path / "c.json", model_hash=HASH)
    assert made.kind == "evaluation"
    assert made.threshold(0.1, 1).distance > made.threshold(0.01, 1).distance


def test_a_source_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["calibrate", str(tmp_path / "resluts")])
    assert done.exit_code == 2
    assert "no such file or folder" in done.output


def test_two_evaluation_sets_are_wrong_usage(features: Path) -> None:
    done = CliRunner().invoke(app, ["calibrate", str(features), str(features)])
    assert done.exit_code == 2
    assert "one evaluation set" in " ".join(done.output.split())


def results(path: Path, seed: int, model_hash: str = HASH) -> str:
    """Write results of eight people who were in view together, four tracklets of each."""
    rng = np.random.default_rng(seed)
    folder = ResultsFolder.create(path, room_bytes=0)
    models = (ModelFile(role="encoder", name="a network", sha256=model_hash),)
    now = datetime.now(UTC)
    write_run(folder, RunRecord(status="finished", started=now, encoder="a network",
                                encoder_is_trained=True, models=models))  # fmt: skip
    store = TrackletStore(folder)
    for person in range(8):
        own = rng.standard_normal((256, 16))
        for window in range(4):
            indices = np.arange(60 * window, 60 * window + 30)
            tracklet = Tracklet(
                stream="door",
                track_id=person,
                silhouettes=np.zeros((30, 64, 44), np.uint8),
                frame_indices=indices,
                times_s=indices / 10,
                seen_s=(0.0, 6.0 * window + 3),
                companions=tuple({*range(8)} - {person}),
            )
            noisy = own + 0.5 * rng.standard_normal((256, 16))
            store.write(tracklet, embedding=noisy.astype(np.float32))
    return str(path)


def test_what_a_sites_own_results_say_is_tried_on_those_of_another_day(tmp_path: Path) -> None:
    monday, tuesday = (results(tmp_path / str(day), seed=day) for day in (1, 2))
    out = ["-o", str(tmp_path / "c.json")]
    done = CliRunner().invoke(app, ["calibrate", monday, "--test", tuesday, *out])
    assert done.exit_code == 0, done.output
    _, found, tested = done.output.partition("This calibration, tested on the other results:")
    assert found
    rates = [tuple(map(float, pair)) for pair in re.findall(r"([\d.]+)%, ([\d.]+)%", tested)]
    assert len(rates) == 4, "at 1 and 10 %, among one person and five"
    assert all(fnir == 0 for _, fnir in rates), f"they are easy to tell apart: {rates}"
    assert "own, tested" not in tested, "nothing is bundled for this network"


def test_other_results_must_be_of_the_same_encoder(tmp_path: Path, features: Path) -> None:
    monday, tuesday = results(tmp_path / "1", 1), results(tmp_path / "2", 2, model_hash="b" * 64)
    for other in (tuesday, str(features)):
        done = CliRunner().invoke(app, ["calibrate", monday, "--test", other])
        assert done.exit_code == 2
        assert "made by the same encoder" in " ".join(done.output.split())
