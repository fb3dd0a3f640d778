"""TrackletGait (IEEE TMM 2025, arXiv 2508.02143): a sequence of silhouettes to one embedding.

Legend of the shape suffixes: N batch, C channels, T frames, H, W, P parts, K classes.

Every frame of the input takes part in the maximum over time, so sequences are never padded and
never joined: a batch holds sequences of one length.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from gait.model.blocks import ResidualUnit, Stem, UnitConfig
from gait.model.heads import PartLinear, PartNeck, pool_parts


@dataclass(frozen=True, slots=True)
class TrackletGaitConfig:
    """Sizes of one network.

    Attributes:
        name: What people call it.
        units: The residual units, in order.
        stem_channels: Channels after the stem.
        num_parts: Horizontal strips.
        embedding_channels: Length of a part's embedding.
    """

    name: str
    units: tuple[UnitConfig, ...]
    stem_channels: int = 16
    num_parts: int = 16
    embedding_channels: int = 256


VARIANTS = {
    "standard": TrackletGaitConfig(
        "standard",
        (
            UnitConfig("layer1", 16, 64, temporal=False),
            UnitConfig("layer2", 64, 128, halves=True),
            *(UnitConfig(f"layer{i}", 128, 128) for i in (3, 4, 5)),
            UnitConfig("layer6", 128, 256, halves=True),
            *(UnitConfig(f"layer{i}", 256, 256) for i in (7, 8, 9)),
            UnitConfig("layer10", 256, 512),
        ),
    ),
    "small": TrackletGaitConfig(
        "small",
        (
            UnitConfig("layer2", 16, 256, halves=True),
            UnitConfig("layer6", 256, 512, halves=True),
        ),
    ),
}
"""The released networks: blocks [1, 4, 4, 1] for outdoor, [0, 1, 1, 0] for indoor data sets."""


class TrackletGait(nn.Module):
    """The network of one configuration.

    State-dict keys are those of the authors' checkpoints. A new network holds whatever PyTorch
    draws from its global generator; use `TrackletGait.random` for the paper's initialisation.

    Attributes:
        config: The sizes it was built from.
        BNNecks: The training head, or None when built without `class_num`.
    """

    def __init__(self, config: TrackletGaitConfig, class_num: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.pooling1 = Stem(config.stem_channels)
        for unit in config.units:
            self.add_module(unit.name, nn.Sequential(ResidualUnit(unit)))
        parts, channels = config.num_parts, config.embedding_channels
        self.FCs = PartLinear(parts, config.units[-1].channels_out, channels)
        self.BNNecks = PartNeck(parts, channels, class_num) if class_num else None
        self._memory_format = torch.contiguous_format

    @classmethod
    def random(
        cls, config: TrackletGaitConfig, generator: torch.Generator, class_num: int | None = None
    ) -> TrackletGait:
        """Return an untrained network, initialised as the paper's code does (spec a.6)."""
        with torch.device("meta"):  # spares the draw from the global generator
            model = cls(config, class_num)
        model.to_empty(device="cpu")
        initialise(model, generator)
        return model

    def forward(self, silhouettes_NTHW: torch.Tensor) -> torch.Tensor:
        """Return the embeddings, shape (N, 256, P): raw, as they are compared.

        Args:
            silhouettes_NTHW: Float in 0..1; 64x44 in all released weights.

        Raises:
            ValueError: A shape the network has no strips for, or no frames.
        """
        self._check_input(silhouettes_NTHW)
        feats_NCTHW = self.pooling1(silhouettes_NTHW.unsqueeze(1))
        feats_NCTHW = feats_NCTHW.contiguous(memory_format=self._memory_format)
        for unit in self.config.units:
            feats_NCTHW = self.get_submodule(unit.name)(feats_NCTHW)
        # amax, not max: frames that tie share the gradient, as in the release.
        parts_NCP = pool_parts(feats_NCTHW.amax(dim=2), self.config.num_parts)
        embeddings_NCP: torch.Tensor = self.FCs(parts_NCP)
        return embeddings_NCP

    def classify(self, embeddings_NCP: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the neck's features (N, 256, P) and cosines to the training classes (N, K, P).

        Raises:
            ValueError: The network was built without `class_num`.
        """
        if self.BNNecks is None:
            raise ValueError("classify: this network has no BNNecks; build it with class_num")
        features_NCP, logits_NKP = self.BNNecks(embeddings_NCP)
        return features_NCP, logits_NKP

    def use_channels_last(self) -> None:
        """Keep feature maps as (N, T, H, W, C) in memory: the same sums, faster on CPU.

        Frames and sequences are then views of each other, and need no copy in between.
        """
        self._memory_format = torch.channels_last_3d
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.data = module.weight.contiguous(memory_format=torch.channels_last)

    def _check_input(self, silhouettes_NTHW: torch.Tensor) -> None:
        shape = tuple(silhouettes_NTHW.shape)
        if len(shape) != 4 or 0 in shape:
            raise ValueError(f"silhouettes: expected shape (N, T, 64, 44), none 0, got {shape}")
        factor = 2 ** sum(unit.halves for unit in self.config.units)
        height, width = shape[2:]
        divides = height % factor == 0 and width % factor == 0
        if not divides or height * width // factor**2 % self.config.num_parts:
            raise ValueError(
                f"silhouettes: expected height and width divisible by {factor} and "
                f"(height / {factor}) (width / {factor}) divisible by {self.config.num_parts}, "
                f"as 64x44, 64x64 or 128x88; got {height}x{width}"
            )


def initialise(model: TrackletGait, generator: torch.Generator) -> None:
    """Draw new weights (spec a.6): Xavier-uniform, biases 0, batch-norm scales N(1, 0.02)."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            module.reset_running_stats()
            nn.init.normal_(module.weight, 1.0, 0.02, generator=generator)
            nn.init.zeros_(module.bias)
        elif isinstance(module, (PartLinear, PartNeck)):
            # Xavier of the 3-D tensor as a whole: fans are in * out and parts * out.
            nn.init.xavier_uniform_(module.fc_bin, generator=generator)
