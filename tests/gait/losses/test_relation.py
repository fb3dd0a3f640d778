from __future__ import annotations

import numpy as np
import pytest
import torch

from gait.losses.relation import RelationLoss


def embeddings(seed: int, n: int = 5, c: int = 6, p: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, c, p, generator=generator, dtype=torch.float64)


def naive(student: torch.Tensor, teacher: torch.Tensor) -> float:
    """Equations 4 to 6 of the paper, pair by pair; Huber with delta 1."""
    losses = []
    for part in range(student.shape[2]):
        relative = []
        for each in (student, teacher):
            x = each[:, :, part].numpy()
            pairs = [(i, j) for i in range(len(x)) for j in range(i + 1, len(x))]
            distances = np.array([np.linalg.norm(x[i] - x[j]) for i, j in pairs])
            relative.append(distances / distances.mean())
        for ours, theirs in zip(*relative, strict=True):
            gap = abs(ours - theirs)
            losses.append(gap**2 / 2 if gap <= 1 else gap - 0.5)
    return float(np.mean(losses))


def test_the_loss_is_the_papers_pair_by_pair() -> None:
    student, teacher = embeddings(0) ** 3, embeddings(1, c=9) ** 3
    assert RelationLoss()(student, teacher).loss.item() == pytest.approx(naive(student, teacher))


def test_scale_and_channels_of_the_teacher_do_not_matter() -> None:
    student = embeddings(0)
    wide = torch.cat([7 * student, torch.zeros_like(student)], dim=1)
    assert RelationLoss()(student, wide).loss.item() == pytest.approx(0, abs=1e-12)


def test_gradients_reach_the_student_only() -> None:
    student, teacher = embeddings(0).requires_grad_(), embeddings(1).requires_grad_()
    RelationLoss()(student, teacher).loss.backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_samples_that_are_all_the_same_give_finite_numbers() -> None:
    student = torch.ones(4, 6, 3, requires_grad=True)
    loss = RelationLoss()(student, embeddings(1, n=4)).loss
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("shape", [(4, 6, 3), (5, 6, 2), (5, 6)])
def test_embeddings_that_do_not_belong_together_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="same N and P"):
        RelationLoss()(embeddings(0), torch.ones(shape))
    with pytest.raises(ValueError, match="two samples"):
        RelationLoss()(embeddings(0, n=1), embeddings(1, n=1))
