"""What a loss returns."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Generic, Protocol, TypeVar

import torch


@dataclass(frozen=True, slots=True, eq=False)
class LossStats:
    """Base of what a loss tells besides its value: detached tensors, one field a figure."""

    def scalars(self) -> dict[str, torch.Tensor]:
        """Return each figure's mean over the parts, on its device, for logs; nothing waits."""
        return {field.name: getattr(self, field.name).mean() for field in fields(self)}


S_co = TypeVar("S_co", bound=LossStats, covariant=True)


@dataclass(frozen=True, slots=True, eq=False)
class LossValue(Generic[S_co]):
    """A loss and what to log of it.

    Attributes:
        loss: Scalar to call `backward` on.
        stats: Detached figures. Under `gait.losses.gathered.Gathered` they stay those of the
            whole batch while `loss` is scaled, so log these.
    """

    loss: torch.Tensor
    stats: S_co


class BatchLoss(Protocol[S_co]):
    """A loss of the outputs of a batch and their labels."""

    def __call__(self, outputs_NCP: torch.Tensor, labels: torch.Tensor, /) -> LossValue[S_co]:
        """Return the loss of outputs (N, C, P) with labels (N,)."""


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Return half precision as float32, and float32 and float64 as they are.

    Losses subtract nearly equal numbers, which half precision cannot.
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def check_batch(outputs_NCP: torch.Tensor, labels: torch.Tensor) -> None:
    """Refuse outputs and labels that do not belong together.

    Raises:
        ValueError: The shapes are not (N, C, P) and (N,).
    """
    if outputs_NCP.ndim != 3 or labels.shape != outputs_NCP.shape[:1]:
        raise ValueError(
            "expected outputs of shape (N, C, P) and labels of shape (N,), "
            f"got {tuple(outputs_NCP.shape)} and {tuple(labels.shape)}"
        )
