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
        x: Shape (M, C, P); may be memory-mapped.
        y: Shape (N, C, P); may be memory-mapped.
        dtype: What to compute in. float64 tells duplicates from near neighbours; float32 takes
            half the time, at the price of the noise above. float16 repeats what the release
            does with embeddings made under mixed precision (spec c.2): every intermediate
            result of a part is rounded to float16 and the parts are summed in float32. It is
            slower and coarser, and there only to compare with published numbers.

    Returns:
        Shape (M, N), of `dtype`; float32 where that is float16.

    Raises:
        ValueError: The shapes do not fit together, or a distance is not finite: an embedding was
            not, or is too large for `dtype`.
    """
    return _by_block(x, y, dtype, _euclidean_block)


def cosine(x: Floats, y: Floats, *, dtype: DTypeLike = np.float64) -> Floats:
    """Return 1 minus the mean over parts of the cosines; arguments and result as `euclidean`.

    A part of length 0 has cosine 0 to everything.
    """
    return _by_block(x, y, dtype, _cosine_block)


Rounding = Callable[[Floats], Floats]
"""What happens to every intermediate result: nothing, or rounding to float16."""


def _euclidean_block(x: Floats, y: Floats, rounded: Rounding) -> Floats:
    """Return (m, n) distances of (P, m, C) and (P, n, C)."""
    x_squares, y_squares = (rounded(rounded(z * z).sum(axis=2)) for z in (x, y))
    total = np.zeros((x.shape[1], y.shape[1]), x.dtype)
    product = np.empty_like(total)
    for part, (x_part, y_part) in enumerate(zip(x, y, strict=True)):
        # In place, in a block that the processor's cache holds: this loop is all the time there is.
        squares = rounded(np.matmul(x_part, y_part.T, out=product))
        squares *= -2
        squares += rounded(x_squares[part][:, None] + y_squares[part])
        squares = rounded(squares)
        np.maximum(squares, 0, out=squares)
        total += rounded(np.sqrt(squares, out=squares))
    total /= len(x)
    return total


def _cosine_block(x: Floats, y: Floats, rounded: Rounding) -> Floats:
    """Return (m, n) distances of (P, m, C) and (P, n, C)."""
    x, y = (
        rounded(z / np.maximum(rounded(np.linalg.norm(z, axis=2, keepdims=True)), _TINY))
        for z in (x, y)
    )
    total = np.zeros((x.shape[1], y.shape[1]), x.dtype)
    for x_part, y_part in zip(x, y, strict=True):
        total += rounded(x_part @ y_part.T)
    return 1 - total / len(x)


def _exact(values: Floats) -> Floats:
    return values


def _to_half(values: Floats) -> Floats:
    """Return float32 that float16 can hold; overflow becomes infinite and is refused later."""
    return values.astype(np.float16).astype(np.float32)


def _by_block(
    x: Floats,
    y: Floats,
    dtype: DTypeLike,
    block_distance: Callable[[Floats, Floats, Rounding], Floats],
) -> Floats:
    """Fill the matrix block by block, so that memory stays bounded for any gallery."""
    if x.ndim != 3 or y.ndim != 3 or x.shape[1:] != y.shape[1:]:
        raise ValueError(
            "embeddings: expected shapes (M, C, P) and (N, C, P) with the same C and P, "
            f"got {x.shape} and {y.shape}"
        )
    is_half = np.dtype(dtype) == np.float16
    rounded = _to_half if is_half else _exact
    compute = np.float32 if is_half else dtype
    out = np.empty((len(x), len(y)), dtype=compute)
    with np.errstate(over="ignore", invalid="ignore"):  # refused at the end
        for j in range(0, len(y), _BLOCK):
            columns = rounded(_parts_first(y[j : j + _BLOCK], compute))
            for i in range(0, len(x), _BLOCK):
                rows = rounded(_parts_first(x[i : i + _BLOCK], compute))
                out[i : i + _BLOCK, j : j + _BLOCK] = block_distance(rows, columns, rounded)
    if not np.isfinite(out.sum()):  # not a number ranks first
        raise ValueError(
            f"embeddings: not finite, or too large for {np.dtype(dtype)} distances; look at what "
            "made them, or compute in float64"
        )
    return out


def _parts_first(embeddings: Floats, dtype: DTypeLike) -> Floats:
    """Return (P, N, C), contiguous, of `dtype`."""
    return np.ascontiguousarray(embeddings.transpose(2, 0, 1), dtype=dtype)
