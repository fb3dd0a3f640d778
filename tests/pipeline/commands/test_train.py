"""Training through the command line, in processes of its own, on generated moving shapes."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from gait.encoder import Encoder
from gait.model.checkpoint import save_checkpoint
from gait.model.trackletgait import TrackletGait, TrackletGaitConfig

# What a person types is `trackletgait ...`; this is the same program.
PROGRAM = [sys.executable, "-m", "pipeline.cli"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

TINY = """
name: tiny
data: {{path: {data}, partition: {partition}}}
network:
  name: tiny
  blocks: [0, 1, 1, 0]
  channels: [8, 8, 16, 8]
  stem_channels: 8
  embedding_channels: 32
sampling: {{kind: random_tracklet, lengths: [2, 4], probabilities: [0.5, 0.5], total: 4}}
batch: {{num_ids: 8, per_id: 3}}
optimiser: {{milestones: [50]}}
iterations: 60
log_every: 1
checkpoints: {{every: 10}}
evaluation: {{protocol: each-against-all, every: 30}}
"""


@pytest.fixture(scope="module")
def shapes() -> ModuleType:
    path = Path(__file__).parents[2] / "gait" / "training" / "moving_shapes.py"
    spec = importlib.util.spec_from_file_location("moving_shapes", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def config(shapes: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 subjects to train and 12 others to test with, 4 sequences each."""
    folder = tmp_path_factory.mktemp("shapes")
    data, partition = shapes.write_tree(folder, 16, 12)
    path = folder / "tiny.yaml"
    path.write_text(TINY.format(data=data, partition=partition))
    return path


def run(*arguments: object, ok: bool = True) -> str:
    done = subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done.stdout + done.stderr


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[tuple[int, float]]:
    return [(line["iteration"], line["loss"]) for line in log(folder) if "loss" in line]


def rank_1(result: Path) -> float:
    return float(json.loads(result.read_text())["metrics"]["rank-1"])


@pytest.mark.slow
def test_training_lifts_rank_1_from_chance_and_the_weights_serve(
    config: Path, shapes: ModuleType, tmp_path: Path
) -> None:
    """Train, evaluate and load through the program a person uses; 12 unseen subjects."""
    out = tmp_path / "run"
    told = run("train", config, "--out", out)
    assert "16 subjects" in told
    weights = out / "checkpoints/00000060/model.safetensors"
    network = json.loads((weights.parent / "card.json").read_text())["config"]["network"]
    untrained = TrackletGait.random(
        TrackletGaitConfig.model_validate(network), torch.Generator().manual_seed(0)
    )
    save_checkpoint(untrained, tmp_path / "untrained.safetensors")

    def evaluated(path: Path, name: str) -> float:
        run("eval", config, "--weights", path, "--no-plots", "--out", tmp_path / name)
        return rank_1(tmp_path / name / "evaluation.json")

    chance = 3 / 47
    assert evaluated(tmp_path / "untrained.safetensors", "before") < 3 * chance
    after = evaluated(weights, "after")
    assert after > 0.9
    assert after == pytest.approx(rank_1(out / "evaluations/00000060.json"))

    encoder = Encoder.from_weights(weights)
    same_a, same_b, other = encoder.embed([
        shapes.draw_walk(20, 7, 9), shapes.draw_walk(20, 8, 11), shapes.draw_walk(21, 7, 10),
    ])  # fmt: skip

    def distance(x: Any, y: Any) -> float:
        return float(np.linalg.norm(x - y, axis=0).mean())

    assert distance(same_a, same_b) < distance(same_a, other)


def test_ctrl_c_says_from_where_the_same_command_goes_on(config: Path, tmp_path: Path) -> None:
    out, changes = tmp_path / "stopped", ["iterations=100000", "evaluation.protocol=null"]
    process = subprocess.Popen(
        [*PROGRAM, "train", str(config), *changes, "--out", str(out)],
        env=ENVIRONMENT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        ends_s = time.monotonic() + 250
        while not (out / "checkpoints/00000010").exists():
            assert time.monotonic() < ends_s
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 130
    assert re.search(r"The same command goes on from .*stopped/checkpoints/0+\d+", said), said


@pytest.mark.slow
def test_a_run_killed_at_any_moment_goes_on_bit_for_bit(config: Path, tmp_path: Path) -> None:
    changes = ("iterations=24", "checkpoints.every=4", "evaluation.protocol=null")
    run("train", config, *changes, "--out", tmp_path / "whole")
    killed = tmp_path / "killed"
    rng, kills = np.random.default_rng(5), 0
    while not (killed / "checkpoints/00000024").exists():
        with subprocess.Popen(
            [*PROGRAM, "train", str(config), *changes, "--out", str(killed)],
            env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            lines = len(losses_or_none(killed))
            grown = int(rng.integers(5, 9))
            while process.poll() is None and len(losses_or_none(killed)) < lines + grown:
                time.sleep(0.005)
            time.sleep(float(rng.uniform(0, 0.1)))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
    assert kills >= 2
    run("train", config, *changes, "--out", killed)  # nothing is left to do, and that is fine
    assert losses(killed) == losses(tmp_path / "whole")
    one, other = (Encoder.from_weights(each / "checkpoints/00000024/model.safetensors")
                  for each in (killed, tmp_path / "whole"))  # fmt: skip
    assert one.model_hash == other.model_hash
    assert not list((killed / "checkpoints").glob(".*"))


def losses_or_none(folder: Path) -> list[str]:
    try:
        return (folder / "log.jsonl").read_text().splitlines()
    except OSError:
        return []


@pytest.mark.slow
def test_many_processes_train_one_network(config: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            "-m", "pipeline.cli", "train", str(config), "--device", "cpu", "--out",
            str(tmp_path / "run"), "iterations=40", "checkpoints.every=20", "evaluation.every=40",
        ],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 x cpu" in done.stderr
    assert [iteration for iteration, _ in losses(tmp_path / "run")] == list(range(1, 41))
    assert (tmp_path / "run/checkpoints/00000040/card.json").exists()
    # Both evaluate a share of the test set; together they give what one process gives.
    run("eval", config, "--weights", tmp_path / "run/checkpoints/00000040/model.safetensors",
        "--no-plots", "--out", tmp_path / "alone")  # fmt: skip
    shared = json.loads((tmp_path / "run/evaluations/00000040.json").read_text())["metrics"]
    alone = json.loads((tmp_path / "alone/evaluation.json").read_text())["metrics"]
    # float32 rounds otherwise when sequences share a forward pass: a near tie may fall otherwise
    assert shared["rank-1"] > 0.7
    assert {key: alone[key] for key in shared} == pytest.approx(shared, abs=0.03)


@pytest.mark.slow
def test_an_export_loads_in_the_encoder(config: Path, tmp_path: Path) -> None:
    small = "network={name: small, blocks: [0, 1, 1, 0], channels: [64, 256, 512, 512]}"
    out = tmp_path / "run"
    run("train", config, small, "batch={num_ids: 2, per_id: 2}", "iterations=1",
        "evaluation.protocol=null", "--out", out)  # fmt: skip
    path = tmp_path / "small-00001.pt"
    told = run("export-authors", out / "checkpoints/00000001", "--out", path)
    assert "small-00001.md" in told
    assert "# tiny, 1 iterations" in path.with_suffix(".md").read_text()
    ours = Encoder.from_weights(out / "checkpoints/00000001/model.safetensors")
    assert Encoder.from_weights(path).model_hash == ours.model_hash


def test_subjects_left_out_are_told_and_a_missing_file_ends_with_code_1(
    config: Path, tmp_path: Path
) -> None:
    partition = tmp_path / "partition.json"
    partition.write_text(json.dumps({"TRAIN_SET": ["000", "001", "900"], "TEST_SET": []}))
    told = run(
        "train", config, f"data.partition={partition}", "iterations=1", "batch.num_ids=2",
        "evaluation.protocol=null", "--out", tmp_path / "run",
    )  # fmt: skip
    assert "1 subjects of the partition are not there: 900" in told
    assert "26 subjects are in no side of the partition" in told
    told = run("train", config, "data.partition=none.json", "--out", tmp_path / "b", ok=False)
    assert "none.json: cannot read the partition" in told
    assert "Traceback" not in told


def test_a_wrong_setting_ends_with_code_2_and_names_it(config: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, "train", str(config), "optimiser.lr=1"],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert re.search(r"optimiser\.lr: unknown key", done.stderr)
    assert "Traceback" not in done.stderr
