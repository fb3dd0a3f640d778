from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from gait.losses.gathered import Gathered, gather
from gait.losses.triplet import TripletConfig

WORKER = Path(__file__).with_name("gloo_worker.py")


@pytest.fixture(scope="module")
def worker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gloo_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _run(world_size: int, folder: Path) -> list[dict[str, Any]]:
    """Return what each of `world_size` real processes wrote down."""
    subprocess.run(
        [sys.executable, WORKER, str(world_size), folder],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=250,
        check=True,
    )
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(world_size)]


@pytest.mark.parametrize("world_size", [2, 4])
def test_many_processes_give_the_batch_loss_and_gradient_of_one(
    world_size: int, tmp_path: Path, worker: ModuleType
) -> None:
    told = _run(world_size, tmp_path)
    for name, case in worker.cases().items():
        alone = worker.step(0, 1, *case)
        ranks = [{key: rank[f"{name}_{key}"] for key in alone} for rank in told]
        dealt = np.stack([rank["batches"] for rank in ranks], axis=2).reshape(3, -1)
        np.testing.assert_array_equal(dealt, alone["batches"])
        assert alone["triplet"].min() > 0
        for rank in ranks:
            np.testing.assert_allclose(rank["triplet"], alone["triplet"], rtol=0, atol=1e-6)
            np.testing.assert_allclose(
                rank["scaled"], world_size * alone["scaled"], rtol=0, atol=1e-6 * world_size
            )
            np.testing.assert_allclose(rank["gradient"], alone["gradient"], rtol=0, atol=1e-6)
        mean = np.mean([rank["cross_entropy"] for rank in ranks])
        assert mean == pytest.approx(alone["cross_entropy"], abs=1e-6)


def test_one_process_gives_the_loss_itself() -> None:
    embeddings = torch.randn(4, 8, 2, generator=torch.Generator().manual_seed(0))
    labels, loss = torch.tensor([0, 0, 1, 1]), TripletConfig().build()
    assert Gathered(loss)(embeddings, labels).loss.equal(loss(embeddings, labels).loss)
    assert gather(embeddings) is embeddings
