"""The Haar wavelet that halves a feature map without losing anything (spec a.3).

Legend of the shape suffixes: N batch, C channels, H, W, D outputs, K = 4 C bands, B 4 bands,
I J the rows and columns of a block.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def fused_kernel(weight_DK11: torch.Tensor) -> torch.Tensor:
    """Return the 2x2 kernel whose convolution in steps of 2 is `haar` and then a 1x1 convolution.

    The sums are the same, but no bands are written to memory in between.

    Args:
        weight_DK11: Of the 1x1 convolution, shape (D, 4 C, 1, 1).

    Returns:
        Shape (D, C, 2, 2); for maps of even sides.
    """
    pixels = torch.eye(4, dtype=weight_DK11.dtype, device=weight_DK11.device).reshape(4, 1, 2, 2)
    bands_BIJ = haar(pixels).reshape(4, 4).T.reshape(4, 2, 2)  # each pixel's share of each band
    by_band = weight_DK11.reshape(len(weight_DK11), 4, -1, 1, 1)
    # no einsum: autocast would round it
    return (by_band * bands_BIJ[:, None]).sum(dim=1)


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
