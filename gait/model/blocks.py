"""The layers of TrackletGait's backbone (spec a.1 to a.3).

Legend of the shape suffixes: N batch, C channels, T frames, H, W, S = H * W, F = N * T frames.

Attribute names are the released checkpoints' key names; `pooling1`, for one, pools nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from gait.model.haar import haar


@dataclass(frozen=True, slots=True)
class UnitConfig:
    """Size of one residual unit.

    Attributes:
        name: Prefix of its keys in a state dict, such as "layer2".
        channels_in: Channels it reads.
        channels_out: Channels it writes.
        halves: Whether it halves height and width by the Haar wavelet.
        temporal: Whether it looks three frames back and ahead.
    """

    name: str
    channels_in: int
    channels_out: int
    halves: bool = False
    temporal: bool = True


def to_frames(x_NCTHW: torch.Tensor) -> torch.Tensor:
    """Return the frames of all sequences as one batch, shape (N * T, C, H, W)."""
    return x_NCTHW.transpose(1, 2).flatten(0, 1)


def to_sequences(x_FCHW: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Return frames put together again as sequences, shape (N, C, T, H, W)."""
    return x_FCHW.reshape(-1, num_frames, *x_FCHW.shape[1:]).transpose(1, 2)


# Two Conv3d whose kernels are flat. As 2-D convolutions they give the same sums, but reach oneDNN's
# kernels where torch's Conv3d falls back to a slow one: the network gains a third on CPU.


class PointConv(nn.Conv3d):
    """A 1x1x1 convolution."""

    def __init__(self, channels_in: int, channels_out: int, *, bias: bool) -> None:
        super().__init__(channels_in, channels_out, 1, bias=bias)

    def forward(self, x_NCTHW: torch.Tensor) -> torch.Tensor:
        """Return shape (N, channels_out, T, H, W)."""
        y_FCHW = functional.conv2d(to_frames(x_NCTHW), self.weight.squeeze(2), self.bias)
        return to_sequences(y_FCHW, x_NCTHW.shape[2])


class TemporalConv(nn.Conv3d):
    """A convolution over 7 frames in 4 groups of channels, zero beyond both ends."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, (7, 1, 1), groups=4, bias=False)

    def forward(self, x_NCTHW: torch.Tensor) -> torch.Tensor:
        """Return shape (N, C, T, H, W)."""
        y_NCTS = functional.conv2d(
            x_NCTHW.flatten(3), self.weight.squeeze(-1), padding=(3, 0), groups=self.groups
        )
        return y_NCTS.reshape(x_NCTHW.shape)


class Stem(nn.Module):
    """An affine map of each pixel and a ReLU: grey level to channels."""

    def __init__(self, channels_out: int) -> None:
        super().__init__()
        self.conv_bn_relu = nn.Sequential(
            PointConv(1, channels_out, bias=True), nn.BatchNorm3d(channels_out), nn.ReLU()
        )

    def forward(self, x_NCTHW: torch.Tensor) -> torch.Tensor:
        """Return shape (N, channels_out, T, H, W)."""
        out_NCTHW: torch.Tensor = self.conv_bn_relu(x_NCTHW)
        return out_NCTHW


class HaarDownsampling(nn.Module):
    """Haar-wavelet downsampling of each frame: four bands, then a 1x1 convolution over them."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv_bn_relu = nn.Sequential(
            nn.Conv2d(4 * channels_in, channels_out, 1), nn.BatchNorm2d(channels_out), nn.ReLU()
        )

    def forward(self, x_FCHW: torch.Tensor) -> torch.Tensor:
        """Return shape (F, channels_out, H / 2, W / 2)."""
        out_FCHW: torch.Tensor = self.conv_bn_relu(haar(x_FCHW))
        return out_FCHW


class ResidualUnit(nn.Module):
    """Convolution, [Haar downsampling], [temporal branch], convolution, plus the shortcut.

    The downsampling comes after the first convolution, which therefore works at full resolution
    and keeps the channels; the shortcut halves by the maximum, not by the wavelet.
    """

    def __init__(self, config: UnitConfig) -> None:
        super().__init__()
        channels_in, channels_out = config.channels_in, config.channels_out
        channels = channels_in if config.halves else channels_out
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        if config.halves:
            self.pooling = HaarDownsampling(channels, channels_out)
        if config.temporal:
            self.th = TemporalConv(channels_out)
            self.thbn = nn.BatchNorm3d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.downsample = _shortcut(config)
        self.halves, self.temporal = config.halves, config.temporal

    def forward(self, x_NCTHW: torch.Tensor) -> torch.Tensor:
        """Return shape (N, channels_out, T, H or H / 2, W or W / 2)."""
        num_frames = x_NCTHW.shape[2]
        y_FCHW = torch.relu(self.bn1(self.conv1(to_frames(x_NCTHW))))
        if self.halves:
            y_FCHW = self.pooling(y_FCHW)
        if self.temporal:
            y_NCTHW = to_sequences(y_FCHW, num_frames)
            y_FCHW = to_frames(torch.relu(y_NCTHW + self.thbn(self.th(y_NCTHW))))
        y_FCHW = self.bn2(self.conv2(y_FCHW))
        return torch.relu(to_sequences(y_FCHW, num_frames) + self.downsample(x_NCTHW))


def _shortcut(config: UnitConfig) -> nn.Sequential:
    """Return the shortcut; an empty Sequential is the identity and has no keys."""
    layers: list[nn.Module] = []
    if config.halves:
        layers.append(nn.MaxPool3d((1, 2, 2)))
    if config.channels_in != config.channels_out:
        layers.append(PointConv(config.channels_in, config.channels_out, bias=False))
        layers.append(nn.BatchNorm3d(config.channels_out))
    return nn.Sequential(*layers)
