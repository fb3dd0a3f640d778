"""A loss of the whole batch, though each process holds a slice of it (spec b.4, last quirk)."""

from __future__ import annotations

from typing import Generic

import torch
from torch import distributed

from gait.losses.value import BatchLoss, LossValue, S_co


class Gathered(Generic[S_co]):
    """The wrapped loss over the outputs of all processes.

    Triplets and thresholds must see the whole batch. Every process gathers it, keeps the gradient
    of its own slice and computes the whole loss, so the slices' gradients sum to the loss's.
    DistributedDataParallel averages them instead; the loss is multiplied by the number of
    processes to undo that, so log `stats`. With one process it is the wrapped loss itself.
    """

    def __init__(self, loss: BatchLoss[S_co]) -> None:
        self._loss = loss

    def __call__(self, outputs_NCP: torch.Tensor, labels: torch.Tensor) -> LossValue[S_co]:
        """Return the loss of all processes' outputs, each (N, C, P), and labels, each (N,).

        Every process must call this, with the same shapes. Labels must lie where the backend
        communicates: with NCCL on the accelerator.

        Raises:
            ValueError: As the wrapped loss.
        """
        num_processes = _num_processes()
        if num_processes == 1:
            return self._loss(outputs_NCP, labels)
        value = self._loss(gather(outputs_NCP), gather(labels))
        return LossValue(value.loss * num_processes, value.stats)


def gather(own: torch.Tensor) -> torch.Tensor:
    """Return the tensors of all processes one after the other, by rank.

    Only the part that is `own` carries a gradient. With one process it is `own`.
    """
    num_processes = _num_processes()
    if num_processes == 1:
        return own
    shards = [torch.empty_like(own) for _ in range(num_processes)]
    distributed.all_gather(shards, own.detach().contiguous())
    shards[distributed.get_rank()] = own
    return torch.cat(shards)


def _num_processes() -> int:
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size()
