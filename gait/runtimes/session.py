"""One ONNX graph, opened by a vendor: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Vendor = Literal["onnxruntime", "tensorrt", "openvino"]
"""Who can open an ONNX graph."""


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a graph.

    Attributes:
        name: As the graph calls it.
        shape: Its axes; a name where the length is free.
        dtype: Of its numbers.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class Profile:
    """What shapes of one input a graph is compiled for, by the vendors that compile.

    Attributes:
        least: The smallest shape that can be run.
        usual: What is compiled for: the others run, perhaps slower.
        most: The largest shape that can be run.
    """

    least: tuple[int, ...]
    usual: tuple[int, ...]
    most: tuple[int, ...]


class Session(Protocol):
    """A graph that is ready to run. Safe to call from any thread; calls may wait for each other.

    Attributes:
        description: File, vendor, version and device, for a log.
        metadata: What the graph's author wrote into the file.
        inputs: In the graph's order.
        outputs: In the graph's order.
    """

    description: str
    metadata: Mapping[str, str]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return every output by name.

        Args:
            feeds: One array for each input by name, of its shape and dtype.

        Raises:
            ValueError: An input is missing, unknown, or of another shape or dtype.
            OutOfMemory: Fewer inputs at once may fit.
            DeviceLost: The device is gone.
            RuntimeFailed: Anything else the vendor reports.
        """
        ...

    def close(self) -> None:
        """Give back everything the session holds; it cannot run afterwards."""
        ...


def check_feeds(inputs: Sequence[Port], feeds: Mapping[str, NDArray[Any]]) -> None:
    """Refuse arrays that a graph cannot take, in words; vendors tell it in their own way or not.

    Args:
        inputs: What the graph takes.
        feeds: What it was given.

    Raises:
        ValueError: An input is missing, unknown, or of another shape or dtype; or an axis that has
            one name in two inputs has two lengths.
    """
    names = [port.name for port in inputs]
    if feeds.keys() != set(names):
        raise ValueError(
            f"session: expected the inputs {', '.join(names)}, got {', '.join(feeds) or 'none'}"
        )
    lengths: dict[str, int] = {}
    for port in inputs:
        _check_feed(port, feeds[port.name], lengths)


def _check_feed(port: Port, array: NDArray[Any], lengths: dict[str, int]) -> None:
    if array.dtype != port.dtype:
        raise ValueError(f"session: {port.name}: expected {port.dtype}, got {array.dtype}")
    fits = len(array.shape) == len(port.shape)
    for wanted, length in zip(port.shape, array.shape, strict=False):
        known = lengths.setdefault(wanted, length) if isinstance(wanted, str) else wanted
        fits &= known == length
    if not fits:
        wanted_shape = ", ".join(str(axis) for axis in port.shape)
        raise ValueError(
            f"session: {port.name}: expected shape ({wanted_shape}), got {array.shape}"
            + (f" where {lengths}" if lengths else "")
        )
