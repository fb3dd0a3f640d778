"""The layers of TrackletGait's backbone and of its ablations and baselines (spec a.1 to a.3).

Legend of the shape suffixes: N batch, C channels, T frames, H, W, S = H * W, F = N * T frames.

Attribute names are the released checkpoints' key names; `pooling1`, for one, pools nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from gait.model.haar import fused_kernel

Downsampling = Literal["haar", "max", "average", "strided"]


@dataclass(frozen=True, slots=True)
class UnitConfig:
    """Size of one residual unit.

    Attributes:
        name: Prefix of its keys in a state dict, such as "layer2".
        channels_in: Channels it reads.
        channels_out: Channels it writes.
        downsampling: How it halves height and width; None if it keeps them.
        temporal_kernel: Frames its temporal branch sees at once; None without that branch.
        temporal_groups: Groups of channels of the temporal branch.
    """

    name: str
    channels_in: int
    channels_out: int
    downsampling: Downsampling | None = None
    temporal_kernel: int | None = None
    temporal_groups: int = 1


def to_frames(x_NCTHW: torch.Tensor) -> torch.Tensor:
    """Return the frames of all sequences as one batch, shape (N * T, C, H, W)."""
    return x_NCTHW.transpose(1, 2).flatten(0, 1)


def to_sequences(x_FCHW: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Return frames put together again as sequences, shape (N, C, T, H, W)."""
    return x_FCHW.reshape(-1, num_frames, *x_FCHW.shape[1:]).transpose(1, 2)


# Two Conv3d whose kernels are flat. As 2-D convolutions they give the same sums, but reach oneDNN's
# kernels where torch's Conv3d falls back to a slow one: the network gains a third on CPU.


class FrameConv(nn.Conv3d):
    """A convolution of each frame: kernel (1, `size`, `size`)."""

    def __init__(
        self, channels_in: int, channels_out: int, size: int = 1, *, stride: int = 1, bias: bool
    ) -> None:
        super().__init__(
            channels_in,
            channels_out,
            (1, size, size),
            stride=(1, stride, stride),
            padding=(0, size // 2, size // 2),
            bias=bias,
        )

    def forward(self, x_NCTHW: torch.Tensor) -> torch.Tensor:
        """Return shape (N, channels_out, T, H / stride, W / stride)."""
        y_FCHW = functional.conv2d(
            to_frames(x_NCTHW),
            self.weight.squeeze(2),
            self.bias,
            self.stride[1:],
            self.padding[1:],
        )
        return to_sequences(y_FCHW, x_NCTHW.shape[2])


class TemporalConv(nn.Conv3d):
    """A convolution over `size` frames in groups of channels, zero beyond both ends."""

    def __init__(self, channels: int, size: int, groups: int) -> None:
        super().__init__(
            channels, channels, (size, 1, 1), padding=(size // 2, 0, 0), groups=groups, bias=False
        )

    def forward(self, x_NCTHW: torch.Tensor) -> torch.Tensor:
        """Return shape (N, C, T, H, W)."""
        y_NCTS = functional.conv2d(
            x_NCTHW.flatten(3),
            self.weight.squeeze(-1),
            padding=(self.kernel_size[0] // 2, 0),
            groups=self.groups,
        )
        return y_NCTS.reshape(x_NCTHW.shape)


class Stem(nn.Module):
    """Grey level to channels: a convolution of each frame, batch norm, ReLU.

    With `size` 1, as the release has it, an affine map of each pixel.
    """

    def __init__(self, channels_out: int, size: int) -> None:
        super().__init__()
        self.conv_bn_relu = nn.Sequential(
            # only the release's map of single pixels has a bias
            FrameConv(1, channels_out, size, bias=size == 1),
            nn.BatchNorm3d(channels_out),
            nn.ReLU(),
        )

    def forward(self, x_NCTHW: torch.Tensor) -> torch.Tensor:
        """Return shape (N, channels_out, T, H, W)."""
        out_NCTHW: torch.Tensor = self.conv_bn_relu(x_NCTHW)
        return out_NCTHW


class HalvingConv(nn.Conv2d):
    """A 1x1 convolution of what is kept of each 2x2 block of pixels.

    The Haar wavelet keeps all four bands; the ablations keep the maximum or the average.
    """

    def __init__(self, kind: Downsampling, channels_in: int, channels_out: int) -> None:
        super().__init__((4 if kind == "haar" else 1) * channels_in, channels_out, 1)
        self.kind = kind

    def forward(self, x_FCHW: torch.Tensor) -> torch.Tensor:
        """Return shape (F, channels_out, H / 2, W / 2)."""
        if self.kind == "haar":
            return functional.conv2d(x_FCHW, fused_kernel(self.weight), self.bias, stride=2)
        pool = functional.max_pool2d if self.kind == "max" else functional.avg_pool2d
        return super().forward(pool(x_FCHW, 2))


class Halving(nn.Module):
    """Half the height and width of each frame without a window that overlaps the next."""

    def __init__(self, kind: Downsampling, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv_bn_relu = nn.Sequential(
            HalvingConv(kind, channels_in, channels_out), nn.BatchNorm2d(channels_out), nn.ReLU()
        )

    def forward(self, x_FCHW: torch.Tensor) -> torch.Tensor:
        """Return shape (F, channels_out, H / 2, W / 2)."""
        out_FCHW: torch.Tensor = self.conv_bn_relu(x_FCHW)
        return out_FCHW


class FrameMaxPool(nn.Module):
    """The maximum of each 2x2 block of each frame; torch's MaxPool3d is slower on a CPU."""

    def forward(self, x_NCTHW: torch.Tensor) -> torch.Tensor:
        """Return shape (N, C, T, H / 2, W / 2)."""
        return to_sequences(functional.max_pool2d(to_frames(x_NCTHW), 2), x_NCTHW.shape[2])


class ResidualUnit(nn.Module):
    """Convolution, [halving], [temporal branch], convolution, plus the shortcut.

    The halving comes after the first convolution, which therefore works at full resolution
    and keeps the channels; the shortcut halves by the maximum, not by the wavelet. With "strided"
    downsampling the first convolution and the shortcut's take steps of two pixels instead, as in
    the ResNets of GaitBase and DeepGaitV2.
    """

    def __init__(self, config: UnitConfig) -> None:
        super().__init__()
        channels_in, channels_out, kind = (
            config.channels_in, config.channels_out, config.downsampling,
        )  # fmt: skip
        self.has_pooling = kind is not None and kind != "strided"
        self.has_temporal = config.temporal_kernel is not None
        channels = channels_in if self.has_pooling else channels_out
        stride = 2 if kind == "strided" else 1
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        if kind is not None and kind != "strided":
            self.pooling = Halving(kind, channels, channels_out)
        if config.temporal_kernel is not None:
            self.th = TemporalConv(channels_out, config.temporal_kernel, config.temporal_groups)
            self.thbn = nn.BatchNorm3d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.downsample = _shortcut(config)

    def forward(self, x_NCTHW: torch.Tensor) -> torch.Tensor:
        """Return shape (N, channels_out, T, H or H / 2, W or W / 2)."""
        num_frames = x_NCTHW.shape[2]
        y_FCHW = torch.relu(self.bn1(self.conv1(to_frames(x_NCTHW))))
        if self.has_pooling:
            y_FCHW = self.pooling(y_FCHW)
        if self.has_temporal:
            y_NCTHW = to_sequences(y_FCHW, num_frames)
            y_FCHW = to_frames(torch.relu(y_NCTHW + self.thbn(self.th(y_NCTHW))))
        y_FCHW = self.bn2(self.conv2(y_FCHW))
        return torch.relu(to_sequences(y_FCHW, num_frames) + self.downsample(x_NCTHW))


def _shortcut(config: UnitConfig) -> nn.Sequential:
    """Return the shortcut; an empty Sequential is the identity and has no keys."""
    layers: list[nn.Module] = []
    strided = config.downsampling == "strided"
    if config.downsampling is not None and not strided:
        layers.append(FrameMaxPool())
    if strided or config.channels_in != config.channels_out:
        stride = 2 if strided else 1
        layers.append(FrameConv(config.channels_in, config.channels_out, stride=stride, bias=False))
        layers.append(nn.BatchNorm3d(config.channels_out))
    return nn.Sequential(*layers)
