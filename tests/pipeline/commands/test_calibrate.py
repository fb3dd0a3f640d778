from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.gallery.calibration import read_calibration

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
