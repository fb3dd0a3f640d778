"""The real TensorRT for RTX, which needs no GPU to parse, to build and to say what is missing."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from gait.errors import CheckpointError, RuntimeUnavailable
from gait.export import export
from gait.model.folded import fold
from gait.model.trackletgait import VARIANTS, TrackletGait, initialise
from gait.runtimes import tensorrt
from gait.runtimes.cuda_memory import Gpu, why_no_cuda
from gait.runtimes.runtime import Precision
from gait.runtimes.session import Profile

pytestmark = pytest.mark.tensorrt

MODELS = Path(__file__).parents[3] / "pipeline" / "models"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKLETGAIT_CACHE", str(tmp_path / "cache"))


@cache
def graph(
    variant: str,
    precision: Precision = "float32",
    has_lengths: bool = False,
    symmetric: bool = False,
) -> bytes:
    return export(
        network(variant),
        precision=precision,
        has_lengths=has_lengths,
        symmetric=symmetric,
        checked=False,
    ).onnx


@cache
def network(variant: str) -> TrackletGait:
    model = TrackletGait(VARIANTS[variant])
    initialise(model, torch.Generator().manual_seed(0))
    return model.eval()


def small_graph(*nodes: onnx.NodeProto) -> bytes:
    return bytes(
        helper.make_model(
            helper.make_graph(
                nodes,
                "g",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 3])],
                [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            ),
            opset_imports=[helper.make_opsetid("", 17)],
        ).SerializeToString()
    )


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    ("variant", "has_lengths"),
    [("nano", False), ("nano", True), ("small", True), ("standard", True)],
)
def test_every_graph_of_ours_parses_and_builds(
    variant: str, precision: Precision, has_lengths: bool
) -> None:
    content = graph(variant, precision, has_lengths)
    report = tensorrt.parse(content)
    assert report.unsupported == ()
    silhouettes = report.inputs[0]
    assert (silhouettes.name, silhouettes.shape) == ("silhouettes", ("batch", "frames", 64, 44))
    assert [port.name for port in report.inputs[1:]] == ["lengths"] * has_lengths
    assert (report.outputs[0].name, report.outputs[0].shape[1:]) == ("embeddings", (256, 16))
    assert report.outputs[0].dtype == np.float32
    assert len(tensorrt.build(content)) > 100_000


@pytest.mark.parametrize("has_lengths", [False, True])
def test_int8_builds_where_numbers_have_no_offset_and_sums_stay_float(has_lengths: bool) -> None:
    content = graph("nano", "int8", has_lengths, symmetric=True)
    assert tensorrt.parse(content).unsupported == ()
    assert len(tensorrt.build(content)) > 100_000


def test_int8_as_cpus_want_it_is_refused_by_the_name_of_its_node() -> None:
    unsupported = tensorrt.parse(graph("nano", "int8")).unsupported
    assert unsupported != ()
    assert {node.operator for node in unsupported} <= {"QuantizeLinear", "DequantizeLinear"}
    assert all(node.name for node in unsupported)


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.onnx")), ids=lambda path: path.stem)
def test_bundled_models_parse_and_build(path: Path) -> None:
    report = tensorrt.parse(path)
    assert report.unsupported == ()
    assert len(tensorrt.build(path)) > 100_000


def test_a_build_tells_how_far_it_is_and_can_be_stopped() -> None:
    told: list[float] = []
    tensorrt.build(graph("nano"), progress=lambda doing, done: told.append(done))
    assert told == sorted(told)
    assert (0 < told[0] < 0.2, told[-1]) == (True, 1.0)

    def stop(doing: str, done: float) -> None:
        raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        tensorrt.build(graph("nano"), progress=stop)


def test_an_engine_can_be_built_for_other_shapes() -> None:
    profile = Profile((1, 1, 64, 44), (1, 16, 64, 44), (2, 16, 64, 44))
    assert tensorrt.build(graph("nano"), profiles={"silhouettes": profile})


def test_an_unsupported_operator_is_reported_by_name() -> None:
    content = small_graph(
        helper.make_node("Relu", ["x"], ["r"], name="fine"),
        helper.make_node("Det", ["r"], ["y"], name="the_det"),
    )
    (node,) = tensorrt.parse(content).unsupported
    assert (node.name, node.operator) == ("the_det", "Det")
    with pytest.raises(RuntimeUnavailable, match=r"does not support: the_det \(Det\)"):
        tensorrt.build(content)


@pytest.mark.parametrize(
    "damage",
    [lambda content: b"", lambda content: content[:20_000], lambda content: b"ftrt" * 99],
    ids=["empty", "cut off", "foreign"],
)
def test_hostile_graphs_do_not_reach_the_parser(damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(CheckpointError):
        tensorrt.parse(damage(graph("nano")))


def test_a_graph_that_makes_no_sense_is_unsupported_not_a_crash() -> None:
    content = small_graph(helper.make_node("Relu", ["nowhere"], ["y"], name="lost"))
    assert tensorrt.parse(content).unsupported != ()


@pytest.mark.skipif(why_no_cuda() is None, reason="there is a GPU")
def test_without_a_driver_an_engine_that_does_not_load_is_an_error_in_words() -> None:
    plan = tensorrt.build(graph("nano"))
    gpu = Gpu("cuda:0", "no GPU", (0, 0), "none")
    with pytest.raises(RuntimeUnavailable, match="CUDA driver version is insufficient"):
        tensorrt._deserialise(tensorrt._product(), gpu, plan)


@pytest.mark.skipif(why_no_cuda() is None, reason="there is a GPU")
def test_without_a_gpu_it_says_what_is_missing() -> None:
    assert tensorrt.available() == why_no_cuda()
    with pytest.raises(RuntimeUnavailable, match="cuda:0"):
        tensorrt.open_session(graph("nano"))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_on_a_gpu_it_says_what_torch_says(precision: Precision) -> None:
    lacking = tensorrt.available()
    if lacking is not None:
        pytest.skip(lacking)
    model = network("nano")
    session = tensorrt.open_session(graph("nano", precision, has_lengths=True))
    try:
        for batch, frames in [(1, 3), (5, 30), (2, 200)]:
            x = np.random.default_rng(0).random((batch, frames, 64, 44), np.float32)
            lengths = np.arange(frames, frames - batch, -1)
            (result,) = session.run({"silhouettes": x, "lengths": lengths}).values()
            trusted = fold(model)(torch.from_numpy(x), torch.from_numpy(lengths)).numpy()
            products = (result * trusted).sum(1)
            norms = np.linalg.norm(result, axis=1) * np.linalg.norm(trusted, axis=1)
            assert (products / norms).min() >= 0.999
    finally:
        session.close()
