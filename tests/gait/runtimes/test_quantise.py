"""Networks in int8."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import pytest
import torch

from gait.errors import RuntimeFailed, SilhouetteError
from gait.export import export
from gait.model.trackletgait import TrackletGait, TrackletGaitConfig
from gait.runtimes.quantise import quantise
from gait.runtimes.reference import calibration_tracklets

TINY = TrackletGaitConfig(
    name="tiny", blocks=(0, 1, 0, 0), channels=(4, 4, 4, 4), stem_channels=2, embedding_channels=8
)


@cache
def exact() -> onnx.ModelProto:
    model = TrackletGait.random(TINY, torch.Generator().manual_seed(0)).eval()
    return onnx.load_from_string(export(model, checked=False).onnx)


def initialisers(graph: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in graph.graph.initializer}


def test_every_convolution_has_weights_of_8_bits_and_a_scale_a_channel() -> None:
    graph = quantise(exact(), calibration_tracklets()[:2])
    stored = initialisers(graph)
    sources = {node.output[0]: node for node in graph.graph.node}
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == sum(node.op_type == "Conv" for node in exact().graph.node)
    for conv in convolutions:
        taken_back = sources[conv.input[1]]
        assert taken_back.op_type == "DequantizeLinear"
        weight, scale = (stored[name] for name in taken_back.input[:2])
        assert weight.data_type == onnx.TensorProto.INT8
        assert list(scale.dims) == [weight.dims[0]]
        assert sources[conv.input[0]].op_type == "DequantizeLinear"


def test_the_head_stays_in_float32() -> None:
    graph = quantise(exact(), calibration_tracklets()[:2])
    (product,) = (node for node in graph.graph.node if node.op_type == "MatMul")
    assert initialisers(graph)[product.input[1]].data_type == onnx.TensorProto.FLOAT


def input_scale(graph: onnx.ModelProto) -> float:
    """What one step of the first quantised number is worth."""
    first = next(node for node in graph.graph.node if node.op_type == "QuantizeLinear")
    return float(onnx.numpy_helper.to_array(initialisers(graph)[first.input[1]]))


def test_the_ranges_come_from_the_tracklets_and_lose_no_grey_level() -> None:
    pale = np.full((2, 64, 44), 51, np.uint8)
    assert input_scale(quantise(exact(), [pale])) == pytest.approx(0.2 / 255)
    assert input_scale(quantise(exact(), [pale, 5 * pale])) == pytest.approx(1 / 255)


def test_a_symmetric_graph_has_no_zero_points_and_no_whole_biases_as_tensorrt_demands() -> None:
    graph = quantise(exact(), calibration_tracklets()[:1], symmetric=True)
    stored = initialisers(graph)
    kinds = ("QuantizeLinear", "DequantizeLinear")
    pairs = [node for node in graph.graph.node if node.op_type in kinds]
    assert pairs
    for node in pairs:
        zero = stored[node.input[2]]
        assert zero.data_type == onnx.TensorProto.INT8
        assert not onnx.numpy_helper.to_array(zero).any()


def test_the_given_graph_stays_as_it_is() -> None:
    before = exact().SerializeToString(deterministic=True)
    quantise(exact(), calibration_tracklets()[:1])
    assert exact().SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("calibration", [[], [np.zeros((0, 64, 44), np.uint8)]])
def test_calibration_without_silhouettes_is_refused(calibration: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="at least one silhouette"):
        quantise(exact(), calibration)


def test_calibration_with_other_pictures_is_refused() -> None:
    with pytest.raises(SilhouetteError):
        quantise(exact(), [np.zeros((2, 10, 10), np.uint8)])


def test_what_onnx_runtime_cannot_run_is_said_in_our_words() -> None:
    broken = onnx.ModelProto()
    broken.CopyFrom(exact())
    next(node for node in broken.graph.node if node.op_type == "Conv").op_type = "Konv"
    with pytest.raises(RuntimeFailed, match="cannot calibrate the network"):
        quantise(broken, calibration_tracklets()[:1])
