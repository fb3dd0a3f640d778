"""`trackletgait export`."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner, Result

from gait.errors import CheckpointError, DataError, GaitError
from gait.model.checkpoint import save_checkpoint
from gait.model.trackletgait import TrackletGait, TrackletGaitConfig
from gait.runtimes.reference import calibration_tracklets
from pipeline.cli import app

TINY = TrackletGaitConfig(
    name="tiny", blocks=(0, 1, 0, 0), channels=(4, 4, 4, 4), stem_channels=2, embedding_channels=8
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_checkpoint(TrackletGait.random(TINY, torch.Generator().manual_seed(0)), path)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def test_a_bundled_network_is_written_with_its_card_and_what_was_checked(tmp_path: Path) -> None:
    out = tmp_path / "made" / "nano.onnx"
    result = run("trackletgait-nano", out)
    assert result.exit_code == 0, result.output
    assert len(metadata(out)["trackletgait.card_sha256"]) == 64
    assert metadata(out)["trackletgait.weights"] == "trackletgait-nano.safetensors"
    for said in ("worst part", "1.000000", "model_hash", "MB)"):
        assert said in result.output


def test_int8_is_calibrated_by_the_data_set_that_is_named(weights: Path, tmp_path: Path) -> None:
    walk = tmp_path / "data" / "0001" / "nm" / "000"
    walk.mkdir(parents=True)
    (walk / "000.pkl").write_bytes(pickle.dumps(np.asarray(calibration_tracklets()[-1])))
    out = tmp_path / "tiny.onnx"
    result = run(weights, out, "--precision", "int8", "--lengths", "--calibrate", tmp_path / "data")
    assert result.exit_code == 0, result.output
    assert metadata(out)["trackletgait.precision"] == "int8"
    assert "trackletgait.card_sha256" not in metadata(out)
    assert [port.name for port in onnx.load(out).graph.input] == ["silhouettes", "lengths"]


def test_a_file_is_replaced_only_if_told(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.onnx"
    out.write_bytes(b"mine")
    refused = run(weights, out)
    assert refused.exit_code == 2
    assert "--force" in refused.output
    assert out.read_bytes() == b"mine"
    assert run(weights, out, "--force").exit_code == 0
    assert onnx.load(out).graph.node


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--precision", "int9"], "int9"),
        (["--calibrate", "data"], "only for int8"),
        (["--symmetric"], "only for int8"),
    ],
)
def test_wrong_usage_is_said_before_any_work(options: list[str], said: str, tmp_path: Path) -> None:
    result = run("trackletgait-nano", tmp_path / "out.onnx", *options)
    assert result.exit_code == 2
    assert said in result.output


def test_a_folder_is_no_file_to_write(tmp_path: Path) -> None:
    assert run("trackletgait-nano", tmp_path).exit_code == 2


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x08\x07\x12\x07onnx", None])
def test_foreign_weights_are_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "foreign.pt"
    if content is not None:
        path.write_bytes(content)
    result = run(path, tmp_path / "out.onnx")
    assert isinstance(result.exception, CheckpointError)
    assert "foreign.pt" in str(result.exception)
    assert not (tmp_path / "out.onnx").exists()


def test_a_data_set_without_sequences_cannot_calibrate(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    result = run(
        weights, tmp_path / "o.onnx", "--precision", "int8", "--calibrate", tmp_path / "data"
    )
    assert isinstance(result.exception, DataError)


def test_a_disk_that_is_full_leaves_nothing_behind(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    result = run(weights, tmp_path / "out.onnx")
    assert isinstance(result.exception, GaitError)
    assert "No space left" in str(result.exception)
    assert not list(tmp_path.iterdir())
