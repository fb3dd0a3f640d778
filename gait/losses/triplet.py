"""Batch-all triplet loss a part, with the paper's hardness exclusion (spec b.4).

Three pieces: the distance (`part_distances`), the rule that leaves hard positives out
(`HardnessExclusion`), and the reducer (`TripletLoss`: mean over the triplets that violate the
margin, then over the parts).

Two variants. `release` is what the published numbers were trained with; three of its habits look
like slips, and `corrected` mends them:

* An anchor is its own positive, at distance 0. That lowers the mean distance the threshold is
  made of, and adds triplets that push negatives away only while they are nearer than the margin.
  In float32 that 0 is noise, enough to tip a pair near the threshold from run to run if the order
  of the batch differs. Corrected: the positives of a sample are the others of its identity.
* A pair *at* the threshold is excluded, so the hardest pair always is: where all pairs are equally
  far, all of them, and the loss is 0. Corrected: only pairs beyond the threshold.
* Identities of unequal size are refused. Here they are admitted in both variants: the mean is over
  all positive pairs.

Legend of the shape suffixes: N batch (anchors, or anchors' partners), C channels, P parts,
M pairs of an anchor and a positive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field

from gait.losses.value import LossStats, LossValue, at_least_float32, check_batch
from gait.strict import StrictModel

Variant = Literal["release", "corrected"]

_TINY = 1e-9


class TripletConfig(StrictModel):
    """How triplets are formed and which count.

    Attributes:
        margin: How much farther than a positive a negative must be. Higher spreads identities
            more, at the price of triplets that never fall silent.
        exclusion_ratio: Where hardness exclusion draws its line, from 0 (the mean distance of
            positive pairs) to 1 (the largest); None excludes nothing. Lower drops more wrong
            labels and broken silhouettes, at the price of the hard pairs one learns most from.
        variant: `release` reproduces the published training, `corrected` mends its slips; see
            the top of `gait.losses.triplet`.
    """

    margin: float = Field(default=0.2, gt=0)
    exclusion_ratio: float | None = Field(default=2 / 3, ge=0, le=1)
    variant: Variant = "release"

    def build(self) -> TripletLoss:
        """Return the loss."""
        exclusion = (
            None if self.exclusion_ratio is None else HardnessExclusion(self.exclusion_ratio)
        )
        return TripletLoss(margin=self.margin, exclusion=exclusion, variant=self.variant)


@dataclass(frozen=True, slots=True)
class HardnessExclusion:
    """The rule that leaves out positives too far from their anchor to be believed.

    Per part, tau = mean + ratio * (max - mean) over the distances of all positive pairs. It looks
    at positives only, and carries no gradient.

    Attributes:
        ratio: As `TripletConfig.exclusion_ratio`.
    """

    ratio: float

    def threshold(self, positives_PM: torch.Tensor) -> torch.Tensor:
        """Return tau, shape (P, 1), of the distances of positive pairs; M is at least 1."""
        positives_PM = positives_PM.detach()
        mean_P1 = positives_PM.mean(dim=1, keepdim=True)
        return mean_P1 + self.ratio * (positives_PM.amax(dim=1, keepdim=True) - mean_P1)


@dataclass(frozen=True, slots=True, eq=False)
class TripletStats(LossStats):
    """Figures of one batch, each of shape (P,), detached.

    Attributes:
        loss: The loss of each part.
        hardest: The largest triplet term, after exclusion.
        num_active: Triplets that violate the margin, after exclusion.
        mean_distance: Over all pairs, self pairs included.
        mean_positive: Over the positive pairs, as the exclusion rule sees them.
    """

    loss: torch.Tensor
    hardest: torch.Tensor
    num_active: torch.Tensor
    mean_distance: torch.Tensor
    mean_positive: torch.Tensor


class TripletLoss:
    """Mean of max(0, d(anchor, positive) - d(anchor, negative) + margin) over what is not 0.

    Over all triplets of the batch, part by part; then the mean over the parts. Computed in float32
    (float64 stays) outside autocast.
    """

    def __init__(
        self,
        *,
        margin: float,
        exclusion: HardnessExclusion | None,
        variant: Variant = "release",
    ) -> None:
        """Make the loss from its pieces; the arguments are explained at `TripletConfig`."""
        self.margin = margin
        self.exclusion = exclusion
        self.variant = variant

    def __call__(
        self, embeddings_NCP: torch.Tensor, labels: torch.Tensor
    ) -> LossValue[TripletStats]:
        """Return the loss of embeddings (N, C, P) with integer labels (N,).

        Labels may lie on the CPU whatever device the embeddings are on: then the host need not
        wait for the accelerator to learn how many pairs there are.

        Raises:
            ValueError: The shapes do not fit together.
        """
        check_batch(embeddings_NCP, labels)
        with torch.autocast(embeddings_NCP.device.type, enabled=False):
            return self._value(part_distances(at_least_float32(embeddings_NCP)), labels)

    def _value(self, distances_PNN: torch.Tensor, labels: torch.Tensor) -> LossValue[TripletStats]:
        device = distances_PNN.device
        same_NN = labels[:, None] == labels[None, :]
        anchors, partners = (each.to(device) for each in self._pairs(same_NN))
        positives_PM = distances_PNN[:, anchors, partners]
        kept_PM = positives_PM.masked_fill(self._excluded(positives_PM), -torch.inf)
        negatives_PNN = distances_PNN.masked_fill(same_NN.to(device), torch.inf)
        terms_PMN = torch.relu(
            (kept_PM + self.margin)[:, :, None] - negatives_PNN.index_select(1, anchors)
        )
        num_active_P = (terms_PMN > 0).sum(dim=(1, 2)).to(terms_PMN.dtype)
        loss_P = terms_PMN.sum(dim=(1, 2)) / (num_active_P + _TINY)
        stats = TripletStats(
            loss=loss_P.detach(),
            hardest=_hardest(terms_PMN.detach()),
            num_active=num_active_P,
            mean_distance=distances_PNN.detach().mean(dim=(1, 2)),
            mean_positive=positives_PM.detach().sum(dim=1) / max(1, len(anchors)),
        )
        return LossValue(loss_P.mean(), stats)

    def _pairs(self, same_NN: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the anchors (M,) and partners (M,) of the positive pairs."""
        if self.variant == "corrected":
            same_NN = same_NN & ~torch.eye(len(same_NN), dtype=torch.bool, device=same_NN.device)
        return same_NN.nonzero(as_tuple=True)

    def _excluded(self, positives_PM: torch.Tensor) -> torch.Tensor:
        if self.exclusion is None or not positives_PM.shape[1]:
            return torch.zeros_like(positives_PM, dtype=torch.bool)
        threshold_P1 = self.exclusion.threshold(positives_PM)
        if self.variant == "corrected":
            return positives_PM > threshold_P1
        return positives_PM >= threshold_P1


def part_distances(embeddings_NCP: torch.Tensor) -> torch.Tensor:
    """Return the Euclidean distances between all samples, part by part, shape (P, N, N).

    The squares are expanded and clamped at 0, where the gradient is 0 too. As in the release, the
    distance of a sample to itself is not exactly 0 but rounding noise, in float32 up to 1e-3 of
    the embedding's length.
    """
    x_PNC = embeddings_NCP.permute(2, 0, 1).contiguous()
    squares_PN = x_PNC.square().sum(dim=2)
    sums_PNN = squares_PN[:, :, None] + squares_PN[:, None, :]
    squares_PNN = sums_PNN - 2 * (x_PNC @ x_PNC.transpose(1, 2))
    # relu, not clamp: its gradient at 0 is 0 even where that of the root is infinite
    return torch.relu(squares_PNN).sqrt()


def _hardest(terms_PMN: torch.Tensor) -> torch.Tensor:
    """Return the largest term of each part, shape (P,); 0 where there are no positive pairs."""
    if not terms_PMN.shape[1]:
        return terms_PMN.new_zeros(len(terms_PMN))
    return terms_PMN.amax(dim=(1, 2))
