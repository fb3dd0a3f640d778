"""A tracker's state as plain arrays, checked before it is believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

STATE_VERSION = 1

Column = tuple[DTypeLike, tuple[int | str, ...]]
"""Type and shape of an array; what a letter stands for is the same wherever it is used."""


def saved(tracker: object, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return copies of the arrays, with the tracker they belong to."""
    return {
        "tracker": np.array(type(tracker).__name__),
        "version": np.array(STATE_VERSION),
        **{name: np.array(array) for name, array in arrays.items()},
    }


def checked(
    tracker: object, state: Mapping[str, NDArray[Any]], columns: Mapping[str, Column]
) -> dict[str, Any]:
    """Return copies of a state's arrays.

    Args:
        tracker: Who wants to go on from it.
        state: What `saved` returned, perhaps long ago and elsewhere.
        columns: Which arrays there must be.

    Raises:
        ValueError: Something is missing, too much, of another tracker, type or shape, or no number.
    """
    if set(state) != {"tracker", "version", *columns}:
        raise ValueError(
            f"state: expected tracker, version, {', '.join(columns)}, got {', '.join(state)}"
        )
    for name, expected in (("tracker", type(tracker).__name__), ("version", STATE_VERSION)):
        if str(state[name]) != str(expected):
            raise ValueError(f"state.{name}: expected {expected}, got {state[name]}")
    sizes: dict[str, int] = {}
    return {name: _checked(name, state[name], *columns[name], sizes) for name in columns}


def demand(conditions: Mapping[str, object]) -> None:
    """Refuse a state of which a sentence (`name: expected ...`) is not true.

    Raises:
        ValueError: With the first such sentence.
    """
    for words, is_true in conditions.items():
        if not is_true:
            raise ValueError(f"state.{words}")


def _checked(
    name: str,
    given: NDArray[Any],
    dtype: DTypeLike,
    shape: tuple[int | str, ...],
    sizes: dict[str, int],
) -> NDArray[Any]:
    array = np.array(given)
    if array.ndim == len(shape):
        for size, letter in zip(array.shape, shape, strict=True):
            if isinstance(letter, str):
                sizes.setdefault(letter, size)
    expected = tuple(sizes.get(size, size) if isinstance(size, str) else size for size in shape)
    if array.dtype != np.dtype(dtype) or array.shape != expected:
        raise ValueError(
            f"state.{name}: expected {np.dtype(dtype)} of shape {expected}, "
            f"got {array.dtype} of shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"state.{name}: expected finite numbers")
    return array
