"""Small ONNX graphs, the bundled network as one, and a machine with TensorRT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import onnx
import pytest
from onnx import TensorProto, helper

from gait.runtimes.cache import cache_folder
from gait.runtimes.tensorrt_session import TensorRTSession
from tests.gait.runtimes.tensorrt_vendor import Machine

NANO = Path(__file__).parents[3] / "pipeline" / "models" / "trackletgait-nano.safetensors"


class Graphs(Protocol):
    """Builds an ONNX file of float32 inputs "x" (batch, 3) and an output "y"."""

    def __call__(
        self,
        *nodes: onnx.NodeProto,
        weights: Sequence[onnx.TensorProto] = (),
        inputs: Mapping[str, Sequence[int | str]] | None = None,
        domains: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> bytes: ...


def _graph(
    *nodes: onnx.NodeProto,
    weights: Sequence[onnx.TensorProto] = (),
    inputs: Mapping[str, Sequence[int | str]] | None = None,
    domains: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    shapes = {"x": ("batch", 3)} if inputs is None else inputs
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
        for name, shape in shapes.items()
    ]
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "test", ports, [answer], list(weights))
    opsets = [helper.make_opsetid("", 18), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    content: bytes = model.SerializeToString()
    return content


@pytest.fixture(scope="session")
def graph() -> Graphs:
    return _graph


@pytest.fixture(scope="session")
def doubling() -> bytes:
    """A graph whose "y" is twice its "x"."""
    return _graph(helper.make_node("Add", ["x", "x"], ["y"]), metadata={"made by": "a test"})


@pytest.fixture(scope="session")
def nano_onnx() -> bytes:
    """The bundled network as it is exported: silhouettes (batch, frames, 64, 44) to embeddings."""
    from gait.export import export
    from gait.model.checkpoint import load_checkpoint

    return export(load_checkpoint(NANO).model, checked=False).onnx


@pytest.fixture
def bad_tensor() -> Any:
    """A weight whose data is said to lie in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/hostname")
    return tensor


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRACKLETGAIT_CACHE", str(tmp_path / "cache"))
    return cache_folder()


@pytest.fixture
def machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.fixture
def session(machine: Machine) -> Iterator[TensorRTSession]:
    opened = machine.open()
    yield opened
    opened.close()
