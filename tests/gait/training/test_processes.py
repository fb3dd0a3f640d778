from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gait.errors import ConfigError
from gait.training.config import TrainingConfig
from gait.training.processes import joined

MakeConfig = Callable[..., TrainingConfig]

SCRIPT = str(Path(__file__).with_name("ddp_step.py"))


def told_by(world_size: int, config: TrainingConfig, folder: Path) -> list[dict[str, Any]]:
    folder.mkdir()
    (folder / "config.json").write_text(config.model_dump_json())
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world_size}"]
    subprocess.run(
        [sys.executable, *(torchrun if world_size > 1 else []), SCRIPT,
         str(folder / "config.json"), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=250, check=True,
    )  # fmt: skip
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world_size)]


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_make_the_step_of_one(
    world_size: int, make_config: MakeConfig, tmp_path: Path
) -> None:
    """Two accumulated batches: global triplets, mean cross entropy, gradients exchanged once."""
    config = make_config(compute={"accumulate": 2})
    (alone,) = told_by(1, config, tmp_path / "one")
    for told in told_by(world_size, config, tmp_path / "many"):
        assert told["figures"] == pytest.approx(alone["figures"], rel=1e-5, abs=1e-6)
        for key, gradient in alone["gradients"].items():
            difference = (told["gradients"][key] - gradient).norm()
            assert difference <= 2e-6 * gradient.norm(), key  # float32 rounding


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="device"), joined("cuda:99"):
        pass


def test_alone_there_is_one_process() -> None:
    with joined("cpu") as processes:
        assert (processes.rank, processes.world_size, processes.is_first) == (0, 1, True)
        assert processes.gather([1, 2]) == [[1, 2]]
