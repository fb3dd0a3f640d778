"""From feature maps to one embedding a part (spec a.5).

Legend of the shape suffixes: N batch, C channels, T frames, H, W, P parts, K classes, D outputs.
Attribute names are the released checkpoints' key names.

Under autocast the maps still compute in float32: they cost next to nothing, and what the samples of
a batch have in common would use up the digits of half precision.
"""

from __future__ import annotations

import contextlib

import torch
from torch import nn
from torch.nn import functional


def pool_parts(x_NCHW: torch.Tensor, num_parts: int) -> torch.Tensor:
    """Return mean + maximum over each of `num_parts` horizontal strips, shape (N, C, P)."""
    strips_NCPS = x_NCHW.reshape(*x_NCHW.shape[:2], num_parts, -1)
    return strips_NCPS.mean(dim=-1) + strips_NCPS.amax(dim=-1)


def _full_precision(device: torch.device) -> contextlib.AbstractContextManager[None]:
    if not torch.amp.is_autocast_available(device.type):  # as on the device "meta"
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


class PartLinear(nn.Module):
    """One linear map a part, without bias."""

    def __init__(self, num_parts: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.fc_bin = nn.Parameter(torch.empty(num_parts, channels_in, channels_out))

    def forward(self, x_NCP: torch.Tensor) -> torch.Tensor:
        """Return shape (N, channels_out, P)."""
        with _full_precision(x_NCP.device):
            return torch.einsum("ncp,pcd->ndp", x_NCP.to(self.fc_bin.dtype), self.fc_bin)


class PartNeck(nn.Module):
    """Batch norm over all channels of all parts, then the cosine to each class.

    Only training reads it: embeddings are compared as they are before the neck.
    """

    def __init__(self, num_parts: int, channels: int, class_num: int) -> None:
        super().__init__()
        self.fc_bin = nn.Parameter(torch.empty(num_parts, channels, class_num))
        self.bn1d = nn.BatchNorm1d(channels * num_parts)

    def forward(self, x_NCP: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the normed features (N, C, P) and the cosines to the classes (N, K, P)."""
        with _full_precision(x_NCP.device):
            normed_NCP = self.bn1d(x_NCP.flatten(1)).reshape(x_NCP.shape)
            features_NCP = functional.normalize(normed_NCP, dim=1)
            classes_PCK = functional.normalize(self.fc_bin, dim=1)
            return features_NCP, torch.einsum("ncp,pck->nkp", features_NCP, classes_PCK)
