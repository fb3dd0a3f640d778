"""An ONNX graph in float32 to one that computes in int8 (QDQ), by ONNX Runtime's calibration."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gait.silhouette import to_model_input

if TYPE_CHECKING:
    import onnx


def quantise(
    graph: onnx.ModelProto, calibration: Sequence[NDArray[np.uint8]], **options: Any
) -> onnx.ModelProto:
    """Return the graph with its convolutions in int8; inputs and outputs stay float32.

    Args:
        graph: As `gait.export` makes it, float32.
        calibration: Real tracklets, each (T, 64, 44) uint8.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "float32.onnx", Path(scratch) / "int8.onnx"
        onnx.save(graph, source)
        quantize_static(
            source, target, _Reader(graph, calibration),
            quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8, **options,
        )  # fmt: skip
        return onnx.load(target)


class _Reader:
    def __init__(self, graph: onnx.ModelProto, calibration: Sequence[NDArray[np.uint8]]) -> None:
        self._has_lengths = len(graph.graph.input) > 1
        self._left = iter(calibration)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        tracklet = next(self._left, None)
        if tracklet is None:
            return None
        feeds: dict[str, NDArray[Any]] = {"silhouettes": to_model_input(tracklet)[None]}
        if self._has_lengths:
            feeds["lengths"] = np.array([len(tracklet)])
        return feeds
