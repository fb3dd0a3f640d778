"""An ONNX graph in float32 to one that computes in int8, by ONNX Runtime's calibration.

Numbers pass between layers as 8 bits (QDQ: every layer stands between a pair of nodes that
quantise and take back): weights with one scale a channel, activations with one scale a layer, from
the smallest to the largest number that real tracklets give.

What was tried on the trained nano network: cosine of the worst part of the 16 reference tracklets
with float32, on a CPU with VNNI.

    all but the head (what is done)                  0.9997
    all but the head's matrix product                0.9994
    all                                              0.9993
    convolutions alone                               0.9997, a little slower
    all but head and stem                            0.9997: grey levels are 8 bits to begin with
    weights of 7 bits (`reduce_range`)               0.9995
    symmetric, for TensorRT                          0.9996
    ranges without the outermost 0.001 % / 0.01 %    0.9988 / 0.9971
    ranges by entropy                                0.9997, with all activations in memory at once
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gait.runtimes.failures import translated
from gait.silhouette import to_model_input

if TYPE_CHECKING:
    import onnx

_HEAD_BEGINS = "ReduceMax"  # over time; what follows costs nothing and stays float32


def quantise(
    graph: onnx.ModelProto,
    calibration: Sequence[NDArray[np.uint8]],
    *,
    symmetric: bool = False,
) -> onnx.ModelProto:
    """Return the graph with all but its head in int8; inputs and outputs stay float32.

    Args:
        graph: As `gait.export` makes it, float32. It stays as it is.
        calibration: Real tracklets, each (T, 64, 44) uint8; memory is needed for one at a time.
        symmetric: Signed activations around 0 and biases in float32, all that TensorRT takes.
            They leave a bit unused and on a CPU gain nothing.

    Raises:
        RuntimeFailed: ONNX Runtime cannot run the graph or has no room for its files.
        SilhouetteError: A tracklet is not silhouettes.
        ValueError: There are no tracklets, or one has no frames.
    """
    feeds = _feeds(calibration, has_lengths=len(graph.graph.input) > 1)
    try:
        return _quantised(graph, feeds, symmetric)
    except Exception as error:  # onnxruntime's have no common base
        raise translated(error, "int8: ONNX Runtime cannot calibrate the network") from error


def _quantised(
    graph: onnx.ModelProto, feeds: Sequence[dict[str, NDArray[Any]]], symmetric: bool
) -> onnx.ModelProto:
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    source = onnx.ModelProto()
    source.CopyFrom(graph)
    add_pre_process_metadata(source)  # torch has folded constants and inferred shapes already
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "int8.onnx"
        quantize_static(
            source,
            target,
            _Reader(iter(feeds)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_head(graph),
            extra_options={"ActivationSymmetric": symmetric, "QuantizeBias": not symmetric},
        )
        return onnx.load(target)


def _head(graph: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes from the maximum over time on."""
    nodes = graph.graph.node
    first = next(index for index, node in enumerate(nodes) if node.op_type == _HEAD_BEGINS)
    return [node.name for node in nodes[first:]]


def _feeds(
    calibration: Sequence[NDArray[np.uint8]], *, has_lengths: bool
) -> list[dict[str, NDArray[Any]]]:
    if not calibration or not all(len(each) for each in calibration):
        raise ValueError("calibration: expected real tracklets of at least one silhouette each")
    feeds: list[dict[str, NDArray[Any]]] = [
        {"silhouettes": to_model_input(each)[None]} for each in calibration
    ]
    if has_lengths:
        feeds = [each | {"lengths": np.array([each["silhouettes"].shape[1]])} for each in feeds]
    return feeds


class _Reader:
    """What ONNX Runtime reads its calibration data by; None ends it."""

    def __init__(self, feeds: Iterator[dict[str, NDArray[Any]]]) -> None:
        self._feeds = feeds

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._feeds, None)
