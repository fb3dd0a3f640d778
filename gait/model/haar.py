"""The Haar wavelet that halves a feature map without losing anything (spec a.3).

Legend of the shape suffixes: N batch, C channels, H, W.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def haar(x_NCHW: torch.Tensor) -> torch.Tensor:
    """Return the orthonormal Haar transform of each map, band after band.

    For each 2x2 block a b / c d the bands are LL (a+b+c+d)/2, high along columns (a-b+c-d)/2,
    high along rows (a+b-c-d)/2 and HH (a-b-c+d)/2. The release computes with float32 taps of
    0.70710677; exact halves differ from it by 1e-7, relatively.

    Args:
        x_NCHW: Shape (N, C, H, W). An odd side grows by one zero row below or column right.

    Returns:
        Shape (N, 4 C, ceil(H / 2), ceil(W / 2)); channel = band * C + c.
    """
    height, width = x_NCHW.shape[-2:]
    if height % 2 or width % 2:
        x_NCHW = functional.pad(x_NCHW, (0, width % 2, 0, height % 2))
    left, right = x_NCHW[..., 0::2] / 2, x_NCHW[..., 1::2] / 2
    low, high = left + right, left - right
    return torch.cat(
        [
            low[..., 0::2, :] + low[..., 1::2, :],
            high[..., 0::2, :] + high[..., 1::2, :],
            low[..., 0::2, :] - low[..., 1::2, :],
            high[..., 0::2, :] - high[..., 1::2, :],
        ],
        dim=1,
    )
