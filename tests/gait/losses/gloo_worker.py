"""One training step of a small network, alone or shared by many processes.

Run as `gloo_worker.py WORLD_SIZE FOLDER`: each process writes what it saw to FOLDER/RANK.npz. They
are forked, so that torch is imported once. The test imports `step` for the same step alone.
"""

from __future__ import annotations

import multiprocessing
import sys
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from gait.data.sampling import IdentitySampler
from gait.losses.cross_entropy import CrossEntropyConfig
from gait.losses.gathered import Gathered
from gait.losses.triplet import TripletConfig, Variant
from gait.model.heads import PartLinear

LABELS = np.repeat(np.arange(10), 6)


class _Net(nn.Module):
    """Embeddings and cosines of inputs (N, 12, 3), with weights that any process can repeat."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.embed, self.classify = PartLinear(3, 12, 8), PartLinear(3, 8, 10)
        for part in (self.embed, self.classify):
            part.fc_bin.data.normal_(0, 0.15, generator=generator)
        self.to(dtype)

    def forward(self, x_NCP: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embeddings_NCP = self.embed(x_NCP)
        return embeddings_NCP, self.classify(embeddings_NCP)


def step(rank: int, world_size: int, dtype: torch.dtype, variant: Variant) -> dict[str, Any]:
    """Return losses, gradients and sequences of one step, with DDP if there is a process group."""
    net: nn.Module = _Net(dtype)
    if world_size > 1:
        net = DistributedDataParallel(net)
    sampler = IdentitySampler(
        LABELS, num_ids=8, per_id=4, seed=11, rank=rank, world_size=world_size
    )
    batches = list(islice(sampler, 3))
    embeddings, logits = net(_inputs(dtype)[batches[-1]])
    labels = torch.from_numpy(LABELS[batches[-1]])
    triplet = Gathered(TripletConfig(variant=variant).build())(embeddings, labels)
    cross_entropy = CrossEntropyConfig().build()(logits, labels)
    torch.autograd.backward(triplet.loss + cross_entropy.loss)
    gradients = [weight.grad for weight in net.parameters() if weight.grad is not None]
    return {
        "batches": np.array(batches),
        "triplet": triplet.stats.loss.numpy(),
        "scaled": triplet.loss.detach().numpy(),
        "cross_entropy": cross_entropy.stats.loss.numpy(),
        "gradient": torch.cat([gradient.flatten() for gradient in gradients]).numpy(),
    }


def cases() -> dict[str, tuple[torch.dtype, Variant]]:
    """Return the steps each process makes, by name."""
    return {
        "f64": (torch.float64, "release"),
        "f32": (torch.float32, "release"),
        "corrected": (torch.float64, "corrected"),
    }


def _inputs(dtype: torch.dtype) -> torch.Tensor:
    rng = np.random.default_rng(3)
    centres: NDArray[np.float64] = rng.normal(size=(10, 12, 3))
    return torch.from_numpy(centres[LABELS] + rng.normal(size=(60, 12, 3))).to(dtype)


def join(rank: int, world_size: int, folder: Path) -> None:
    """Meet the other processes and write down what the steps gave here."""
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting_point'}",
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=60),
    )
    told = {
        f"{name}_{key}": value
        for name, case in cases().items()
        for key, value in step(rank, world_size, *case).items()
    }
    np.savez(folder / f"{rank}.npz", **told)
    distributed.destroy_process_group()


def main(world_size: int, folder: Path) -> int:
    """Run all processes; return 0 when all of them ended well."""
    torch.set_num_threads(1)
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=join, args=(r, world_size, folder)) for r in range(world_size)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    return max(abs(process.exitcode or 0) for process in ranks)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2])))
