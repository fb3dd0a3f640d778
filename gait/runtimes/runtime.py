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
    """

    @property
    def name(self) -> RuntimeName:
        """Whose it is."""
        ...

    @property
    def precision(self) -> Precision | Literal["float64"]:
        """What it computes in; float64 is the reference, by torch alone."""
        ...

    @property
    def takes_padding(self) -> bool:
        """Whether sequences of different lengths may share a call.

        False where a padded frame would cost as much as a real one saves.
        """
        ...

    @property
    def description(self) -> str:
        """Precision, name, version and device, for a log."""
        ...

    def run(
        self, silhouettes_NTHW: NDArray[np.floating[Any]], lengths_N: NDArray[np.int64] | None
    ) -> NDArray[np.floating[Any]]:
        """Return the embeddings, shape (N, 256, 16), float32 (float64 where it computes in it).

        Args:
            silhouettes_NTHW: Shape (N, T, 64, 44), float32 in 0..1.
            lengths_N: Frames of each sequence, the rest is not looked at; None when all fill T.
                Only given where `takes_padding`.

        Raises:
            OutOfMemory: Fewer sequences at once may fit.
            DeviceLost: The device is gone.
            RuntimeFailed: Anything else the vendor reports, and embeddings that are no numbers.
        """
        ...

    def close(self) -> None:
        """Give back everything it holds; it cannot run afterwards."""
        ...
