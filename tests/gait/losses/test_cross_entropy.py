from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from gait.losses.cross_entropy import CrossEntropyConfig, CrossEntropyLoss

LABELS = torch.tensor([0, 3, 3, 9, 5, 1])


def _logits(rules: ModuleType) -> torch.Tensor:
    return torch.from_numpy(0.3 * rules.gen("ce/logits").standard_normal((6, 10, 4)))


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("smooth", CrossEntropyConfig().build()),
        ("nosmooth", CrossEntropyLoss(scale=16, label_smoothing=0)),
        ("scale1", CrossEntropyLoss(scale=1, label_smoothing=0.1)),
    ],
)
def test_loss_gradient_and_accuracy_agree_with_the_release(
    name: str, loss: CrossEntropyLoss, golden_dir: Path, golden_rules: ModuleType
) -> None:
    golden = np.load(golden_dir / "losses.npz")
    logits = _logits(golden_rules).requires_grad_()
    value = loss(logits, LABELS)
    (gradient,) = torch.autograd.grad(value.loss, logits)
    assert value.loss.item() == pytest.approx(float(golden[f"ce_{name}"]), rel=1e-10)
    np.testing.assert_allclose(gradient, golden[f"ce_{name}_grad"], rtol=0, atol=1e-10)
    assert value.stats.accuracy.item() == pytest.approx(float(golden[f"ce_{name}_acc"]))


@pytest.mark.golden
@pytest.mark.parametrize("run", ["small_train_8x8_f64", "standard_train_8x8_f64"])
def test_the_loss_of_a_training_batch_agrees_with_the_release(run: str, golden_dir: Path) -> None:
    golden = np.load(golden_dir / "model.npz")
    labels = torch.tensor([3, 3, 10, 10, 0, 0, 73, 73])
    value = CrossEntropyConfig().build()(torch.from_numpy(golden[f"{run}_logits"]), labels)
    assert value.loss.item() == pytest.approx(float(golden[f"{run}_ce"]), rel=1e-10)
    assert value.stats.accuracy.item() == pytest.approx(float(golden[f"{run}_accuracy"]))


def test_loss_equals_a_loop_over_samples_and_parts(golden_rules: ModuleType) -> None:
    logits, total = _logits(golden_rules), 0.0
    for n in range(6):
        for p in range(4):
            scaled = [16 * float(cosine) for cosine in logits[n, :, p]]
            log_sum = math.log(sum(math.exp(x) for x in scaled))
            for c in range(10):
                target = 0.9 * (c == int(LABELS[n])) + 0.1 / 10
                total += target * (log_sum - scaled[c]) / (6 * 4)
    loss = CrossEntropyLoss(scale=16, label_smoothing=0.1)
    assert loss(logits, LABELS).loss.item() == pytest.approx(total, rel=1e-12)


def test_half_precision_is_computed_in_float32_even_under_autocast(
    golden_rules: ModuleType,
) -> None:
    loss, half = CrossEntropyConfig().build(), _logits(golden_rules).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(half, LABELS)
    assert value.loss.dtype == torch.float32
    assert value.loss.item() == loss(half.float(), LABELS).loss.item()


def test_labels_that_do_not_fit_are_refused(golden_rules: ModuleType) -> None:
    with pytest.raises(ValueError, match="expected outputs of shape"):
        CrossEntropyConfig().build()(_logits(golden_rules)[:, :, 0], LABELS)
