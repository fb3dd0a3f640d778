from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from gait.losses.triplet import (
    HardnessExclusion,
    TripletConfig,
    TripletLoss,
    TripletStats,
    Variant,
    part_distances,
)
from gait.losses.value import LossValue

RELEASE = TripletConfig().build()
ORDINARY = TripletConfig(exclusion_ratio=None).build()
CORRECTED = TripletConfig(variant="corrected").build()


def _embeddings(labels: list[int], seed: int = 0, spread: float = 0.3) -> torch.Tensor:
    """Embeddings (N, 8, 3) in overlapping clusters, so that every kind of triplet occurs."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(labels) + 1, 8, 3)) * 0.2
    return torch.from_numpy(centres[labels] + rng.normal(size=(len(labels), 8, 3)) * spread)


def _with_gradient(
    loss: TripletLoss, embeddings: torch.Tensor, labels: torch.Tensor
) -> tuple[LossValue[TripletStats], torch.Tensor]:
    leaf = embeddings.clone().requires_grad_()
    value = loss(leaf, labels)
    (gradient,) = torch.autograd.grad(value.loss, leaf)
    return value, gradient


def _naive_part(
    z_NC: torch.Tensor, labels: list[int], ratio: float | None, variant: Variant, margin: float
) -> torch.Tensor:
    """The formula of the paper, one triplet at a time."""
    samples = range(len(labels))
    positives = {
        (i, j): (z_NC[i] - z_NC[j]).norm() if i != j else torch.zeros((), dtype=z_NC.dtype)
        for i in samples
        for j in samples
        if labels[i] == labels[j] and (variant == "release" or i != j)
    }
    if ratio is not None:
        far = [d.item() for d in positives.values()]
        tau = sum(far) / len(far) + ratio * (max(far) - sum(far) / len(far))
        positives = {
            pair: d
            for pair, d in positives.items()
            if d.item() < tau or (variant == "corrected" and d.item() == tau)
        }
    terms = [
        d - (z_NC[i] - z_NC[k]).norm() + margin
        for (i, _), d in positives.items()
        for k in samples
        if labels[k] != labels[i]
    ]
    active = [term for term in terms if term.item() > 0]
    return torch.stack(active).mean() if active else z_NC.sum() * 0


@pytest.mark.golden
@pytest.mark.parametrize("case", "ABCDEF")
@pytest.mark.parametrize(("kind", "loss"), [("hardex", RELEASE), ("triplet", ORDINARY)])
# float32: self pairs are rounding noise, so other processors differ in the fourth digit
@pytest.mark.parametrize(("dtype", "rtol", "atol"), [("f64", 1e-10, 1e-10), ("f32", 1e-3, 1e-6)])
def test_losses_and_gradients_agree_with_the_release(
    case: str,
    kind: str,
    loss: TripletLoss,
    dtype: str,
    rtol: float,
    atol: float,
    golden_dir: Path,
    golden_rules: ModuleType,
) -> None:
    embeddings, labels = golden_rules.loss_case(case)
    compute = {"f64": torch.float64, "f32": torch.float32}[dtype]
    value, gradient = _with_gradient(
        loss, torch.from_numpy(embeddings).to(compute), torch.tensor(labels)
    )
    golden = np.load(golden_dir / "losses.npz")
    told = {
        "loss_per_part": value.stats.loss,
        "hard_loss": value.stats.hardest,
        "loss_num": value.stats.num_active,
        "grad_l2": gradient.norm(),
    }
    if f"{kind}_{case}_{dtype}_grad" in golden:
        told["grad"] = gradient
    for name, result in told.items():
        expected = golden[f"{kind}_{case}_{dtype}_{name}"]
        np.testing.assert_allclose(result, expected, rtol=rtol, atol=atol, err_msg=name)
    mean = value.stats.mean_positive if kind == "hardex" else value.stats.mean_distance
    # nothing but the noise of the self pairs in case E: the root of the rounding of |z|^2
    noise = {"f64": 1e-6, "f32": 2e-2}[dtype]
    np.testing.assert_allclose(mean, golden[f"{kind}_{case}_{dtype}_mean_dist"], atol=noise)


@pytest.mark.golden
@pytest.mark.parametrize("run", ["small_train_8x8_f64", "standard_train_8x8_f64"])
def test_the_loss_of_a_training_batch_agrees_with_the_release(run: str, golden_dir: Path) -> None:
    golden = np.load(golden_dir / "model.npz")
    labels = torch.tensor([3, 3, 10, 10, 0, 0, 73, 73])
    value = TripletConfig(margin=5.0).build()(torch.from_numpy(golden[f"{run}_embeddings"]), labels)
    told = {
        "triplet_per_part": value.stats.loss,
        "triplet_loss_num": value.stats.num_active,
        "triplet_hard_loss": value.stats.hardest,
    }
    for name, result in told.items():
        expected = golden[f"{run}_{name}"]
        np.testing.assert_allclose(result, expected, rtol=1e-10, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("variant", ["release", "corrected"])
@pytest.mark.parametrize("ratio", [None, 0.0, 0.4, 2 / 3, 1.0])
@pytest.mark.parametrize(
    "labels", [[0, 0, 0, 1, 1, 1, 2, 2, 2], [2, 0, 1, 1, 0, 2], [0, 0, 0, 0, 1, 2, 2, 1]]
)
def test_loss_and_gradient_equal_a_loop_over_triplets(
    variant: Variant, ratio: float | None, labels: list[int]
) -> None:
    embeddings = _embeddings(labels)
    loss = TripletConfig(exclusion_ratio=ratio, variant=variant).build()
    value, gradient = _with_gradient(loss, embeddings, torch.tensor(labels))
    leaf = embeddings.clone().requires_grad_()
    parts = [_naive_part(leaf[:, :, p], labels, ratio, variant, 0.2) for p in range(3)]
    expected = torch.stack(parts)
    (expected_gradient,) = torch.autograd.grad(expected.mean(), leaf)
    # 1e-7: the loop has no rounding noise on self pairs and no 1e-9 in the denominator
    torch.testing.assert_close(value.stats.loss, expected.detach(), rtol=0, atol=1e-7)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-7)
    assert value.loss.item() == pytest.approx(expected.mean().item(), abs=1e-7)


def test_the_configured_exclusion_drops_triplets_that_the_ordinary_loss_keeps() -> None:
    labels = [0, 0, 0, 0, 1, 1, 1, 1]
    embeddings = _embeddings(labels)
    counts = [
        int(loss(embeddings, torch.tensor(labels)).stats.num_active.sum())
        for loss in (RELEASE, ORDINARY)
    ]
    assert 0 < counts[0] < counts[1]


def test_the_threshold_lies_between_the_mean_and_the_largest_positive_distance() -> None:
    positives = torch.tensor([[0.0, 1.0, 2.0, 5.0]])
    assert HardnessExclusion(0.0).threshold(positives).item() == 2.0
    assert HardnessExclusion(2 / 3).threshold(positives).item() == pytest.approx(4.0)
    assert HardnessExclusion(1.0).threshold(positives).item() == 5.0


def test_the_threshold_carries_no_gradient() -> None:
    positives = torch.tensor([[1.0, 2.0]], requires_grad=True)
    assert not HardnessExclusion(2 / 3).threshold(positives).requires_grad


def test_only_the_release_takes_a_sample_as_its_own_positive() -> None:
    # one dimension, one part: 0 and 1 are one person, the other stands 0.1 beside the first
    embeddings = torch.tensor([0.0, 1.0, 0.1]).reshape(3, 1, 1)
    labels = torch.tensor([7, 7, 8])
    release = ORDINARY(embeddings, labels).stats
    # (0,0,k) 0.2-0.1, (0,1,k) 1.2-0.1, (1,0,k) 1.2-0.9; then (k,k,0) 0.2-0.1: those with themselves
    assert release.num_active.item() == 4
    assert release.loss.item() == pytest.approx((0.1 + 1.1 + 0.3 + 0.1) / 4)
    corrected = TripletConfig(exclusion_ratio=None, variant="corrected").build()
    assert corrected(embeddings, labels).stats.loss.item() == pytest.approx((1.1 + 0.3) / 2)


def test_only_the_releases_mean_distance_suffers_from_float32() -> None:
    labels = torch.arange(16).repeat_interleave(4)
    embeddings = 5 * _embeddings(labels.tolist())
    error = {
        loss.variant: (
            loss(embeddings.float(), labels).stats.mean_positive.double()
            - loss(embeddings, labels).stats.mean_positive
        )
        .abs()
        .max()
        .item()
        for loss in (RELEASE, CORRECTED)
    }
    assert error["corrected"] < 1e-6 < error["release"] < 1e-2


def test_only_the_release_excludes_every_pair_when_all_are_equally_far() -> None:
    # the four corners of a square: both positive pairs are a side, both negatives a side away
    embeddings = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])[:, :, None]
    labels = torch.tensor([0, 0, 1, 1])
    without_self = TripletLoss(margin=0.2, exclusion=HardnessExclusion(1.0), variant="corrected")
    assert without_self(embeddings, labels).stats.loss.item() == pytest.approx(0.2)
    release = RELEASE(embeddings, labels).stats  # only self pairs remain, and they are content
    assert (release.num_active.item(), release.loss.item()) == (0, 0)


@pytest.mark.parametrize("loss", [RELEASE, CORRECTED], ids=["release", "corrected"])
def test_identities_with_one_sample_give_no_loss_and_no_gradient(loss: TripletLoss) -> None:
    value, gradient = _with_gradient(loss, _embeddings([0, 1, 2, 3]), torch.arange(4))
    assert value.loss.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("loss", [RELEASE, ORDINARY, CORRECTED])
def test_identical_embeddings_have_a_finite_gradient(loss: TripletLoss) -> None:
    _, gradient = _with_gradient(loss, torch.ones(6, 4, 2), torch.tensor([0, 0, 0, 1, 1, 1]))
    assert torch.isfinite(gradient).all()


def test_half_precision_is_computed_in_float32_even_under_autocast() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    half = _embeddings(labels.tolist()).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = RELEASE(half, labels)
    assert value.loss.dtype == torch.float32
    assert value.loss.item() == RELEASE(half.float(), labels).loss.item()


def test_distances_are_those_of_each_part_alone() -> None:
    embeddings = _embeddings([0, 1, 2])
    expected = torch.stack(
        [torch.cdist(embeddings[:, :, p], embeddings[:, :, p]) for p in range(3)]
    )
    torch.testing.assert_close(part_distances(embeddings), expected, rtol=0, atol=1e-6)


def test_figures_for_the_log_are_means_over_the_parts() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    value = RELEASE(_embeddings(labels.tolist()), labels)
    scalars = value.stats.scalars()
    assert list(scalars) == ["loss", "hardest", "num_active", "mean_distance", "mean_positive"]
    assert scalars["loss"].item() == value.loss.item()


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels of shape \(N,\), got \(4, 8, 3\) and \(3,\)"):
        RELEASE(_embeddings([0, 0, 1, 1]), torch.arange(3))


@pytest.mark.parametrize("wrong", [{"margin": 0}, {"exclusion_ratio": 1.5}, {"variant": "fixed"}])
def test_settings_without_meaning_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TripletConfig.model_validate(wrong)
