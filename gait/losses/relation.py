"""Relational knowledge distillation: a student told what is near, what far (Park et al., 2019).

Legend of the shape suffixes: N batch, C channels, P parts, M pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from gait.losses.triplet import part_distances
from gait.losses.value import LossStats, LossValue, at_least_float32


@dataclass(frozen=True, slots=True, eq=False)
class RelationStats(LossStats):
    """Figures of one batch, detached scalars.

    Attributes:
        loss: The loss.
    """

    loss: torch.Tensor


class RelationLoss:
    """Huber loss between the distances of student and teacher, all pairs of a batch, part by part.

    Distances of each part are divided by their mean (the paper's equation 5), so scale and number
    of channels may differ. Gradients reach the student only. Computed in float32 (float64 stays)
    outside autocast.
    """

    def __call__(
        self, student_NCP: torch.Tensor, teacher_NCP: torch.Tensor
    ) -> LossValue[RelationStats]:
        """Return the loss of the embeddings of one batch, (N, C, P) and (N, C', P).

        Raises:
            ValueError: The numbers of samples or parts differ, or there is no pair.
        """
        _check(student_NCP, teacher_NCP)
        with torch.autocast(student_NCP.device.type, enabled=False):
            student_PM = relative_distances(at_least_float32(student_NCP))
            teacher_PM = relative_distances(at_least_float32(teacher_NCP.detach()))
            loss = functional.smooth_l1_loss(student_PM, teacher_PM.to(student_PM.dtype))
        return LossValue(loss, RelationStats(loss.detach()))


def relative_distances(embeddings_NCP: torch.Tensor) -> torch.Tensor:
    """Return the distances of all pairs, each part's divided by their mean: shape (P, M)."""
    distances_PNN = part_distances(embeddings_NCP)
    size = distances_PNN.shape[1]
    first, second = torch.triu_indices(size, size, offset=1, device=distances_PNN.device)
    distances_PM = distances_PNN[:, first, second]
    mean_P1 = distances_PM.mean(dim=1, keepdim=True)
    return distances_PM / mean_P1.clamp_min(torch.finfo(mean_P1.dtype).tiny)


def _check(student_NCP: torch.Tensor, teacher_NCP: torch.Tensor) -> None:
    shapes = [tuple(each.shape) for each in (student_NCP, teacher_NCP)]
    if [len(shape) for shape in shapes] != [3, 3] or shapes[0][::2] != shapes[1][::2]:
        raise ValueError(
            "expected embeddings (N, C, P) of student and teacher with the same N and P, got "
            f"{shapes[0]} and {shapes[1]}"
        )
    if len(student_NCP) < 2:
        raise ValueError(f"expected two samples or more, got {len(student_NCP)}")
