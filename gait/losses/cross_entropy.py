"""Cross entropy over the cosines to the classes, part by part (spec b.5).

Legend of the shape suffixes: N batch, C classes, P parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import Field
from torch.nn import functional

from gait.losses.value import LossStats, LossValue, at_least_float32, check_batch
from gait.strict import StrictModel


class CrossEntropyConfig(StrictModel):
    """How class cosines become a loss.

    Attributes:
        scale: What the cosines, -1..1, are multiplied with. Higher lets a right answer be surer,
            at the price of weaker gradients once it is.
        label_smoothing: Share of the target spread over all classes, 0..1. Higher forgives wrong
            labels, at the price of embeddings less tightly clustered. The released configuration
            does not mention it; the published numbers were trained with 0.1.
    """

    scale: float = Field(default=16.0, gt=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)

    def build(self) -> CrossEntropyLoss:
        """Return the loss."""
        return CrossEntropyLoss(scale=self.scale, label_smoothing=self.label_smoothing)


@dataclass(frozen=True, slots=True, eq=False)
class CrossEntropyStats(LossStats):
    """Figures of one batch, detached scalars.

    Attributes:
        loss: The loss.
        accuracy: Share of the (N, P) guesses that are right.
    """

    loss: torch.Tensor
    accuracy: torch.Tensor


class CrossEntropyLoss:
    """Mean over samples and parts of the cross entropy of scaled cosines.

    Computed in float32 (float64 stays) outside autocast. With many processes each takes the mean
    of its own samples; averaging gradients makes that the mean over all.
    """

    def __init__(self, *, scale: float, label_smoothing: float) -> None:
        """Make the loss; the arguments are explained at `CrossEntropyConfig`."""
        self.scale = scale
        self.label_smoothing = label_smoothing

    def __call__(
        self, logits_NCP: torch.Tensor, labels: torch.Tensor
    ) -> LossValue[CrossEntropyStats]:
        """Return the loss of cosines (N, C, P) with class indices (N,), on any device.

        Raises:
            ValueError: The shapes do not fit together.
        """
        check_batch(logits_NCP, labels)
        with torch.autocast(logits_NCP.device.type, enabled=False):
            scaled_NCP = at_least_float32(logits_NCP) * self.scale
            labels_NP = labels.to(logits_NCP.device)[:, None].expand(-1, logits_NCP.shape[2])
            loss = functional.cross_entropy(
                scaled_NCP, labels_NP, label_smoothing=self.label_smoothing
            )
        accuracy = (scaled_NCP.detach().argmax(dim=1) == labels_NP).float().mean()
        return LossValue(loss, CrossEntropyStats(loss.detach(), accuracy))
