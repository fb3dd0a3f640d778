"""How far apart two embeddings are (spec c.3).

The paper's metric is the mean over the 16 parts of Euclidean distances; never one distance over
the concatenation of the parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_BLOCK = 512
_TINY = 1e-12

Floats = NDArray[np.floating[Any]]


def euclidean(x: Floats, y: Floats, *, dtype: DTypeLike = np.float64) -> Floats:
    """Return the mean over parts of the Euclidean distances.

    Squares are expanded, |x|² + |y|² - 2 x·y, so that a matrix product does the work, and clamped
    at 0. That loses half of the digits between near-identical embeddings: in float64 identical
    embeddings come out near 1e-6 (for parts of length 20), in float32 near 1e-2.

    Args:
        x: Shape (M, C, P).
        y: Shape (N, C, P).
        dtype: What to compute in. float64 tells duplicates from near neighbours; float32 takes
            half the time, at the price of the noise above.

    Returns:
        Shape (M, N), of `dtype`.

    Raises:
        ValueError: The shapes do not fit together.
    """
    return _by_block(x, y, dtype, _euclidean_block)


def cosine(x: Floats, y: Floats, *, dtype: DTypeLike = np.float64) -> Floats:
    """Return 1 minus the mean over parts of the cosines; arguments and result as `euclidean`.

    A part of length 0 has cosine 0 to everything.
    """
    return _by_block(x, y, dtype, _cosine_block)


def _euclidean_block(x: Floats, y: Floats) -> Floats:
    """Return (m, n) distances of (P, m, C) and (P, n, C)."""
    squares = (x**2).sum(axis=2)[:, :, None] + (y**2).sum(axis=2)[:, None, :]
    squares -= 2 * (x @ y.transpose(0, 2, 1))
    distances: Floats = np.sqrt(np.maximum(squares, 0)).mean(axis=0)
    return distances


def _cosine_block(x: Floats, y: Floats) -> Floats:
    """Return (m, n) distances of (P, m, C) and (P, n, C)."""
    x, y = (z / np.maximum(np.linalg.norm(z, axis=2, keepdims=True), _TINY) for z in (x, y))
    cosines: Floats = (x @ y.transpose(0, 2, 1)).mean(axis=0)
    return 1 - cosines


def _by_block(
    x: Floats, y: Floats, dtype: DTypeLike, block_distance: Callable[[Floats, Floats], Floats]
) -> Floats:
    """Fill the matrix block by block, so that memory stays bounded for any gallery."""
    if x.ndim != 3 or y.ndim != 3 or x.shape[1:] != y.shape[1:]:
        raise ValueError(
            "embeddings: expected shapes (M, C, P) and (N, C, P) with the same C and P, "
            f"got {x.shape} and {y.shape}"
        )
    out = np.empty((len(x), len(y)), dtype=dtype)
    for j in range(0, len(y), _BLOCK):
        columns = _parts_first(y[j : j + _BLOCK], dtype)
        for i in range(0, len(x), _BLOCK):
            rows = _parts_first(x[i : i + _BLOCK], dtype)
            out[i : i + _BLOCK, j : j + _BLOCK] = block_distance(rows, columns)
    return out


def _parts_first(embeddings: Floats, dtype: DTypeLike) -> Floats:
    """Return (P, N, C), contiguous, of `dtype`."""
    return np.ascontiguousarray(embeddings.transpose(2, 0, 1), dtype=dtype)
