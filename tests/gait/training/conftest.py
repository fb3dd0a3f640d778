"""A tiny data set of moving shapes and a tiny run over it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from gait.training.config import TrainingConfig
from gait.training.observers import Observer
from gait.training.processes import Processes
from gait.training.trainer import Trainer

MakeConfig = Callable[..., TrainingConfig]
MakeTrainer = Callable[..., Trainer]

TINY = {
    "name": "tiny",
    "network": {
        "name": "tiny",
        "blocks": [0, 1, 1, 0],
        "channels": [4, 4, 8, 8],
        "stem_channels": 4,
        "embedding_channels": 8,
    },
    "sampling": {
        "kind": "random_tracklet", "lengths": [2, 4], "probabilities": [0.5, 0.5], "total": 4,
    },
    "batch": {"num_ids": 4, "per_id": 2},
    "optimiser": {"rate": 0.05, "milestones": [4]},
    "iterations": 6,
    "checkpoints": {"every": 3},
    "log_every": 1,
}  # fmt: skip


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        both = isinstance(value, dict) and isinstance(old, dict)
        result[key] = merged(old, value) if both else value
    return result


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set of 6 subjects to train and 4 to test with, 4 sequences each, and its partition."""
    path = Path(__file__).with_name("moving_shapes.py")
    spec = importlib.util.spec_from_file_location("moving_shapes", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data, partition = module.write_tree(tmp_path_factory.mktemp("tree"), 6, 4)
    return data, partition


@pytest.fixture
def make_config(tree: tuple[Path, Path]) -> MakeConfig:
    """Builds a configuration of the tiny run, changed by keyword."""

    def make(**changes: Any) -> TrainingConfig:
        data = {"data": {"path": str(tree[0]), "partition": str(tree[1])}}
        return TrainingConfig.model_validate(merged(merged(TINY, data), changes))

    return make


@pytest.fixture
def make_trainer(tmp_path: Path, make_config: MakeConfig) -> MakeTrainer:
    """Builds the trainer of the tiny run, changed by keyword, in a folder under `tmp_path`."""

    def make(folder: str = "run", observers: Iterable[Observer] = (), **changes: Any) -> Trainer:
        processes = Processes(torch.device("cpu"))
        return Trainer(make_config(**changes), tmp_path / folder, processes, list(observers))

    return make
