"""What runs the encoder's network: silhouettes in, embeddings out."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Precision = Literal["float32", "float16", "bfloat16", "int8"]
"""What a network computes in. Embeddings leave it as float32 in any case."""

RuntimeName = Literal["torch", "onnxruntime", "tensorrt", "openvino"]


class Runtime(Protocol):
    """A folded network (`gait.model.folded`) that is ready to run on one device.

    Safe to call from any thread; calls may wait for each other.

    Attributes:
        name: Whose it is.
        precision: What it computes in.
        takes_padding: Whether sequences of different lengths may share a call. False where a
            padded frame would cost as much as a real one saves.
        description: Name, version, device and precision, for a log.
    """

    name: RuntimeName
    precision: Precision
    takes_padding: bool
    description: str

    def run(
        self, silhouettes_NTHW: NDArray[np.floating[Any]], lengths_N: NDArray[np.int64] | None
    ) -> NDArray[np.floating[Any]]:
        """Return the embeddings, shape (N, 256, 16), float32 (float64 for float64 inputs).

        Args:
            silhouettes_NTHW: Shape (N, T, 64, 44), float32 in 0..1.
            lengths_N: Frames of each sequence, the rest is not looked at; None when all fill T.
                Only given where `takes_padding`.

        Raises:
            OutOfMemory: Fewer sequences at once may fit.
            DeviceLost: The device is gone.
            RuntimeFailed: Anything else the vendor reports.
        """
        ...

    def close(self) -> None:
        """Give back everything it holds; it cannot run afterwards."""
        ...
