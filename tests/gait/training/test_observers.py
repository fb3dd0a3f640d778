from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from gait.errors import TrainingError
from gait.evaluation import Evaluation
from gait.training.observers import JsonLog, Report, TensorBoard


def report(iteration: int) -> Report:
    return Report(iteration, 2 * iteration, {"loss": 1 / iteration}, 0.1, 12.34567)


def evaluation() -> Evaluation:
    metrics = {"rank-1": 0.5, "mINP": float("nan")}
    return Evaluation(
        "each-against-all", "title", "euclidean", "float32", False, metrics, (), ()
    )  # fmt: skip


def test_every_nth_step_and_every_evaluation_is_one_line_of_json(tmp_path: Path) -> None:
    log = JsonLog(tmp_path / "run/log.jsonl", every=2)
    log.started(0, 4)
    for iteration in range(1, 5):
        log.stepped(report(iteration))
    log.evaluated(4, evaluation())
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert lines == [
        {"iteration": 2, "loss": 0.5, "rate": 0.1, "next_batch": 4, "samples_per_s": 12.346},
        {"iteration": 4, "loss": 0.25, "rate": 0.1, "next_batch": 8, "samples_per_s": 12.346},
        {
            "iteration": 4,
            "protocol": "each-against-all",
            "metrics": {"rank-1": 0.5, "mINP": None},
        },
    ]


def test_numbers_in_the_log_are_exact(tmp_path: Path) -> None:
    log = JsonLog(tmp_path / "log.jsonl", every=1)
    log.started(0, 3)
    log.stepped(report(3))
    assert json.loads((tmp_path / "log.jsonl").read_text())["loss"] == 1 / 3


def test_a_log_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    if os.access("/dev/full", os.W_OK):
        with pytest.raises(TrainingError, match=r"/dev/full: cannot write the log"):
            JsonLog(Path("/dev/full"), every=1).stepped(report(1))
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="file"):
        JsonLog(tmp_path / "file" / "log.jsonl", every=1).started(0, 1)
    with pytest.raises(TrainingError, match="choose another folder"):
        JsonLog(tmp_path, every=1).started(0, 1)


def test_without_tensorboard_its_absence_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
    with pytest.raises(TrainingError, match="pip install"):
        TensorBoard(tmp_path, every=1)


def test_tensorboard_gets_curves(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoard(tmp_path, every=2)
    board.started(0, 4)
    for iteration in range(1, 5):
        board.stepped(report(iteration))
    board.evaluated(4, evaluation())
    board.close()
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    points = [(p.step, p.value) for p in read.Scalars("training/loss")]
    assert points == [(2, 0.5), (4, 0.25)]
    assert read.Scalars("each-against-all/rank-1")[0].value == 0.5
