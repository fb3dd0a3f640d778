"""One process or many: what `torchrun` says, and the few words they exchange."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed

from gait.encoder import pick_device
from gait.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those that train together.

    Attributes:
        device: What this one computes on.
        rank: Its number, from 0; number 0 writes files and speaks.
        world_size: How many there are.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def gather(self, own: list[T]) -> list[list[T]]:
        """Return every process's list, by rank, in the first process; elsewhere its own."""
        if self.world_size == 1:
            return [own]
        everyone: list[list[T]] | None = (
            [[] for _ in range(self.world_size)] if self.is_first else None
        )
        distributed.gather_object(own, everyone)
        return everyone if everyone is not None else [own]


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Give this process its place; under `torchrun`, among the others until the block ends.

    Args:
        device: As `pick_device` takes it; under `torchrun`, "auto" and "cuda" are the GPU of the
            local rank.

    Raises:
        ConfigError: There is no such device, or fewer GPUs than processes.
    """
    if "WORLD_SIZE" not in os.environ:
        yield Processes(_device(device))
        return
    on_gpu = device != "cpu" and torch.cuda.is_available()
    own = _device(f"cuda:{os.environ['LOCAL_RANK']}" if on_gpu else device)
    if on_gpu:
        torch.cuda.set_device(own)
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Processes(own, distributed.get_rank(), distributed.get_world_size())
        distributed.barrier()  # nobody hangs up while another still talks
    finally:
        distributed.destroy_process_group()


def _device(name: str) -> torch.device:
    try:
        return pick_device(name)
    except ValueError as error:
        raise ConfigError(str(error)) from error
