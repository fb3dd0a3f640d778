"""TrackletGait (IEEE TMM 2025, arXiv 2508.02143): a sequence of silhouettes to one embedding.

Legend of the shape suffixes: N batch, C channels, T frames, H, W, P parts, K classes.

Every frame of the input takes part in the maximum over time, so sequences are never padded and
never joined: a batch holds sequences of one length.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from gait.model.blocks import Downsampling, ResidualUnit, Stem, UnitConfig
from gait.model.heads import PartLinear, PartNeck, pool_parts
from gait.strict import StrictModel

_FIRST_UNITS = (1, 2, 6, 10)  # of the stages, in the released names layer1 .. layer10
_HALVING_STAGES = (1, 2)
_MAX_BLOCKS = 100
_MAX_SIZE = 1 << 16  # of anything else: beyond, torch cannot even say how large a weight would be


class TrackletGaitConfig(StrictModel):
    """Sizes of one network: the paper's by default, its ablations and baselines by choice.

    Four stages of residual units; the second and third halve height and width in their first unit,
    and all but the first stage look along time.

    Attributes:
        name: What people call it.
        blocks: Residual units of each stage. More see further, at the price of time; a stage of
            none is left out.
        channels: Channels of each stage. More separate better on large data sets, at the price of
            time and of over-fitting on small ones.
        stem: "pixel" maps each grey level to channels, as the release does; "conv3x3" looks at
            its neighbours too, as GaitBase and DeepGaitV2 do.
        stem_channels: Channels after the stem.
        downsampling: How height and width are halved: by the Haar wavelet, the maximum or the
            average of 2x2 blocks (each before a 1x1 convolution), or by strided convolutions.
        temporal_kernel: Frames a unit sees at once, odd. More join longer spans of time, at the
            price of time; None looks at every frame for itself.
        temporal_groups: Groups of channels along time. More are cheaper and mix channels less.
        num_parts: Horizontal strips.
        embedding_channels: Length of a part's embedding.
    """

    name: str = "standard"
    blocks: tuple[int, int, int, int] = Field(default=(1, 4, 4, 1), strict=False)
    channels: tuple[int, int, int, int] = Field(default=(64, 128, 256, 512), strict=False)
    stem: Literal["pixel", "conv3x3"] = "pixel"
    stem_channels: int = Field(default=16, ge=1, le=_MAX_SIZE)
    downsampling: Downsampling = "haar"
    temporal_kernel: int | None = Field(default=7, ge=1, le=_MAX_SIZE)
    temporal_groups: int = Field(default=4, ge=1)
    num_parts: int = Field(default=16, ge=1, le=_MAX_SIZE)
    embedding_channels: int = Field(default=256, ge=1, le=_MAX_SIZE)

    @property
    def units(self) -> tuple[UnitConfig, ...]:
        """The residual units in order, by the released names where those suffice."""
        units: list[UnitConfig] = []
        channels_in, next_free = self.stem_channels, 1
        for stage, (count, channels) in enumerate(zip(self.blocks, self.channels, strict=True)):
            first = max(_FIRST_UNITS[stage], next_free)
            for index in range(first, first + count):
                units.append(self._unit(index, stage, channels_in, is_first=index == first))
                channels_in = channels
            next_free = first + count
        return tuple(units)

    def _unit(self, index: int, stage: int, channels_in: int, *, is_first: bool) -> UnitConfig:
        return UnitConfig(
            f"layer{index}",
            channels_in,
            self.channels[stage],
            downsampling=self.downsampling if is_first and stage in _HALVING_STAGES else None,
            temporal_kernel=self.temporal_kernel if stage > 0 else None,
            temporal_groups=self.temporal_groups,
        )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (min(self.blocks) >= 0 and 1 <= max(self.blocks) <= _MAX_BLOCKS):
            raise ValueError(f"blocks: expected counts of 0 to {_MAX_BLOCKS}, not all 0")
        if not 1 <= min(self.channels) <= max(self.channels) <= _MAX_SIZE:
            raise ValueError(f"channels: expected counts of 1 to {_MAX_SIZE}")
        if self.temporal_kernel is None:
            return self
        if self.temporal_kernel % 2 == 0:
            raise ValueError("temporal_kernel: expected an odd number of frames, or null for none")
        if any(unit.channels_out % self.temporal_groups for unit in self.units):
            raise ValueError("temporal_groups: expected a divisor of every stage's channels")
        return self


RELEASED = {
    "standard": TrackletGaitConfig(),
    "small": TrackletGaitConfig(name="small", blocks=(0, 1, 1, 0), channels=(64, 256, 512, 512)),
}
"""The authors' networks: blocks [1, 4, 4, 1] for outdoor, [0, 1, 1, 0] for indoor data sets."""

VARIANTS = {
    **RELEASED,
    "nano": TrackletGaitConfig(
        name="nano", blocks=(0, 1, 1, 0), channels=(64, 32, 96, 96), stem_channels=8
    ),
}
"""The sizes we train: the authors' two, and ours for live use on a CPU: nano, a seventy-fourth of
standard's operations a frame."""

BASELINES = {
    "gaitbase": TrackletGaitConfig(
        name="gaitbase",
        blocks=(1, 1, 1, 1),
        stem="conv3x3",
        stem_channels=64,
        downsampling="strided",
        temporal_kernel=None,
        temporal_groups=1,
    ),
    "deepgaitv2-p3d": TrackletGaitConfig(
        name="deepgaitv2-p3d",
        stem="conv3x3",
        stem_channels=64,
        downsampling="strided",
        temporal_kernel=3,
        temporal_groups=1,
    ),
}
"""GaitBase (Fan et al., CVPR 2023) and DeepGaitV2 with pseudo-3-D units (Fan et al., 2023).

Written from the papers; their released weights use other names and are not read.
"""


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
        self.pooling1 = Stem(config.stem_channels, 1 if config.stem == "pixel" else 3)
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
        feats_NCTHW = self.pooling1(self._one_channel(silhouettes_NTHW))
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

    def _one_channel(self, silhouettes_NTHW: torch.Tensor) -> torch.Tensor:
        """Return shape (N, 1, T, H, W), in strides from which torch tells the memory format."""
        if self._memory_format == torch.channels_last_3d:
            return silhouettes_NTHW.unsqueeze(-1).movedim(-1, 1)
        return silhouettes_NTHW.unsqueeze(1)

    def _check_input(self, silhouettes_NTHW: torch.Tensor) -> None:
        shape = tuple(silhouettes_NTHW.shape)
        if len(shape) != 4 or 0 in shape:
            raise ValueError(f"silhouettes: expected shape (N, T, 64, 44), none 0, got {shape}")
        factor = 2 ** sum(unit.downsampling is not None for unit in self.config.units)
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
