"""One step of the stepper, alone or under torchrun: `ddp_step.py CONFIG.json OUT`.

Batch norms use their running statistics, which processes on CPUs cannot share; everything else is
as in training. Each process writes its gradients and figures to OUT/RANK.pt.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from gait.model.trackletgait import TrackletGait
from gait.training.batches import BatchReader, open_sides
from gait.training.config import TrainingConfig
from gait.training.processes import joined
from gait.training.step import Stepper


class FrozenNorms(TrackletGait):
    def train(self, mode: bool = True) -> FrozenNorms:
        return super().train(False)


def main(config_file: str, out: str) -> None:
    config = TrainingConfig.model_validate_json(Path(config_file).read_text())
    torch.set_num_threads(1)
    with joined("cpu") as processes:
        reader = BatchReader(
            open_sides(config.data).train, config,
            rank=processes.rank, world_size=processes.world_size,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(3)
        network = FrozenNorms.random(config.network, generator, reader.class_num)
        stepper = Stepper(network, config, processes)
        stepped = stepper([reader.read(0), reader.read(1)], 0)
        gradients = {key: p.grad for key, p in network.named_parameters()}
        told = {"gradients": gradients, "figures": stepped.figures}
        torch.save(told, Path(out) / f"{processes.rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
    # On a busy machine torch's threads were seen to abort while Python shuts down, long after the
    # answer was written; how Python ends is not what is tested.
    os._exit(0)
