"""The encoder as the pipeline configures it; the work is done in `gait.encoder`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from gait.strict import StrictModel
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from gait.encoder import Encoder


UNTRAINED_THRESHOLDS = {"small": 0.0178, "standard": 0.0241}
"""Distances at which the random networks of seed 0 err equally often both ways on the sample clip
(some 40 % each: they are no use beyond showing the road); from scripts/threshold.py."""


class EncoderConfig(StrictModel):
    """Which network turns tracklets into embeddings.

    Attributes:
        weights: An authors' checkpoint (.pt) or one of ours (.safetensors); the variant is read
            off it. None runs a network with fixed random weights: it shows the road, it does not
            recognise people.
        variant: Size of the random network when there are no weights.
        seed: Seed of the random network.
        device: "auto", "cpu" or "cuda:N".
        threads: Cores one embedding may use on the CPU; None leaves it to torch.
    """

    weights: str | None = None
    variant: Literal["standard", "small"] = "small"
    seed: int = 0
    device: str = "auto"
    threads: int | None = Field(default=None, ge=1)

    @property
    def threshold(self) -> float | None:
        """The distance that separates people, None when nobody has measured it."""
        return UNTRAINED_THRESHOLDS[self.variant] if self.weights is None else None

    def build(self) -> Encoder:
        """Load the weights, or draw random ones.

        Raises:
            CheckpointError: The weights cannot be used.
            ConfigError: There is no such device.
        """
        import torch

        from gait.encoder import Encoder

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        try:
            if self.weights is None:
                return Encoder.random(self.variant, self.seed, device=self.device)
            return Encoder.from_weights(self.weights, device=self.device)
        except ValueError as error:
            raise ConfigError(f"encoder: {error}") from error
