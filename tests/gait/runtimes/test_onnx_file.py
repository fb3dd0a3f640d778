"""Files that are no ONNX graph, or reach for other files, are refused before a vendor sees them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from gait.errors import CheckpointError
from gait.runtimes.onnx_file import read_onnx

BUNDLED = Path(__file__).parents[3] / "pipeline" / "models" / "ssdlite-coco-300.onnx"
IDENTITY = helper.make_node("Identity", ["x"], ["y"])


def test_what_a_graph_says_of_itself_is_read(graph: Any) -> None:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    shapes = {"x": ["batch", 3], "w": [3], "fixed": [1, 64], "nameless": [None, 7], "scalar": []}
    node = helper.make_node("Add", ["x", "w"], ["y"])
    found = read_onnx(graph(node, weights=[weight], inputs=shapes, metadata={"task": "ünï"}))
    assert found.metadata == {"task": "ünï"}
    assert found.inputs == {
        "x": ("batch", 3),
        "fixed": (1, 64),
        "nameless": ("nameless[0]", 7),
        "scalar": (),
    }


def test_the_bundled_detector_is_read_as_onnx_reads_it() -> None:
    found, theirs = read_onnx(BUNDLED), onnx.load(str(BUNDLED))
    assert found.metadata == {p.key: p.value for p in theirs.metadata_props}
    assert found.inputs == {"images": (1, 3, 300, 300)}
    assert found.name == BUNDLED.name


@pytest.mark.parametrize("content", [b"", b"this is not a network", b"\x00" * 99, b"PK\x03\x04zip",
                                     b"\x08\x09", b"\xff" * 50])  # fmt: skip
def test_what_is_no_graph_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.onnx: expected an ONNX file, got"):
        read_onnx(path)


def test_a_graph_cut_off_anywhere_is_refused(doubling: bytes) -> None:
    graph_ends = len(
        onnx.ModelProto(graph=onnx.load_from_string(doubling).graph).SerializeToString()
    )
    for length in range(graph_ends):
        with pytest.raises(CheckpointError, match="damaged"):
            read_onnx(doubling[:length])


def test_a_file_that_is_missing_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_onnx(path)


def test_a_file_larger_than_any_graph_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    path.touch()
    os.truncate(path, 3 * 2**30)  # takes no room on the disk
    with pytest.raises(CheckpointError, match="at most 2 GB"):
        read_onnx(path)


def with_inner(node: onnx.NodeProto, tensor: TensorProto) -> onnx.NodeProto:
    """Return an If that holds the tensor in the graph of its branch."""
    inner = helper.make_graph([node], "branch", [], [], [tensor])
    return helper.make_node("If", ["x"], ["y"], then_branch=inner)


def test_weights_in_another_file_are_refused_wherever_they_hide(
    graph: Any, bad_tensor: Any
) -> None:
    constant = helper.make_node("Constant", [], ["y"], value=bad_tensor)
    sparse = onnx.SparseTensorProto(values=bad_tensor)
    hidden_sparse = onnx.ModelProto.FromString(graph(IDENTITY))
    hidden_sparse.graph.sparse_initializer.append(sparse)
    hidden_function = onnx.ModelProto.FromString(graph(IDENTITY))
    hidden_function.functions.append(onnx.FunctionProto(name="f", node=[constant]))
    hidden_training = onnx.ModelProto.FromString(graph(IDENTITY))
    hidden_training.training_info.add().algorithm.initializer.append(bad_tensor)
    contents = [
        graph(IDENTITY, weights=[bad_tensor]),
        graph(constant),
        graph(helper.make_node("Constant", [], ["y"], sparse_value=sparse)),
        graph(with_inner(IDENTITY, bad_tensor)),
        graph(with_inner(with_inner(constant, TensorProto()), TensorProto())),
        hidden_sparse.SerializeToString(),
        hidden_function.SerializeToString(),
        hidden_training.SerializeToString(),
    ]
    for content in contents:
        with pytest.raises(CheckpointError, match="keeps weights in another file"):
            read_onnx(content)


def test_weights_in_a_file_beside_the_graph_are_refused_too(graph: Any, bad_tensor: Any) -> None:
    bad_tensor.external_data[0].value = "model.onnx.data"
    with pytest.raises(CheckpointError, match="export the model into one file"):
        read_onnx(graph(IDENTITY, weights=[bad_tensor]))


def test_an_engine_named_by_a_graph_is_refused(graph: Any) -> None:
    engine = helper.make_node(
        "EPContext", ["x"], ["y"], domain="com.microsoft", ep_cache_context="/tmp/engine.bin"
    )
    with pytest.raises(CheckpointError, match="keeps compiled code in another file"):
        read_onnx(graph(engine, domains=["com.microsoft"]))


def test_a_graph_nested_without_end_is_refused_and_not_followed(graph: Any) -> None:
    node = IDENTITY
    for _ in range(25):
        node = with_inner(node, TensorProto())
    with pytest.raises(CheckpointError, match="graphs within graphs"):
        read_onnx(graph(node))


@settings(max_examples=200, deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4))
def test_damage_never_leads_to_anything_but_a_refusal(
    doubling: bytes, edits: list[tuple[int, int]]
) -> None:
    content = bytearray(doubling)
    for place, value in edits:
        content[place % len(content)] = value
    with contextlib.suppress(CheckpointError):
        read_onnx(bytes(content))


def test_reading_a_graph_loads_no_runtime() -> None:
    program = (
        "import sys, pathlib\n"
        "from gait.runtimes.onnx_file import read_onnx\n"
        "import gait.runtimes.opening\n"
        f"read_onnx(pathlib.Path({str(BUNDLED)!r}))\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'openvino', 'tensorrt_rtx'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=250)
