"""The encoder as the pipeline configures it; the work is done in `gait.encoder`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.strict import StrictModel


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
