"""One ONNX graph, opened by a vendor: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Mapping
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
