"""Graphs run by ONNX Runtime; what it cannot do is said in words, and its failures have names."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from gait.errors import (
    CheckpointError,
    DeviceLost,
    OutOfMemory,
    RuntimeFailed,
    RuntimeUnavailable,
)
from gait.runtimes import onnx_runtime
from gait.runtimes.onnx_file import read_onnx
from gait.runtimes.onnx_runtime import OnnxRuntimeSession, available, open_session
from gait.runtimes.session import Port, Profile, Session

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_a_graph_from_a_file_or_from_bytes_gives_its_outputs_by_name(
    doubling: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "doubling.onnx"
    path.write_bytes(doubling)
    for onnx in (path, doubling):
        session: Session = open_session(onnx)
        assert session.inputs == (Port("x", ("batch", 3), np.dtype(np.float32)),)
        assert [port.name for port in session.outputs] == ["y"]
        assert session.metadata == {"made by": "a test"}
        np.testing.assert_array_equal(session.run({"x": X})["y"], 2 * X)
    assert open_session(path).description.startswith("doubling.onnx by onnxruntime ")


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({}, r"expected the inputs x, got none"),
        ({"z": X}, r"expected the inputs x, got z"),
        ({"x": X, "z": X}, r"expected the inputs x, got x, z"),
        ({"x": X.astype(np.float64)}, r"x: expected float32, got float64"),
        ({"x": X[:, :2]}, r"x: expected shape \(batch, 3\), got \(2, 2\)"),
        ({"x": X[0]}, r"x: expected shape \(batch, 3\), got \(3,\)"),
    ],
)
def test_feeds_that_do_not_fit_are_refused_in_words(
    doubling: bytes, feeds: Mapping[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        open_session(doubling).run(feeds)


def test_two_inputs_that_share_an_axis_must_agree_on_its_length(graph: Any) -> None:
    node = helper.make_node("Add", ["a", "b"], ["y"])
    session = open_session(graph(node, inputs={"a": ["batch", 3], "b": ["batch", 3]}))
    with pytest.raises(ValueError, match=r"b: expected shape \(batch, 3\), got \(1, 3\).*batch"):
        session.run({"a": X, "b": X[:1]})


def test_views_and_read_only_arrays_are_taken(doubling: bytes) -> None:
    view = np.asfortranarray(X)[::-1]
    view.flags.writeable = False
    np.testing.assert_array_equal(open_session(doubling).run({"x": view})["y"], 2 * view)


@pytest.fixture(scope="module")
def convolving(graph: Any) -> bytes:
    """Two convolutions of "x", shape (batch, 1, height, width), through 32 channels."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in (("first", (32, 1, 3, 3)), ("second", (8, 32, 3, 3)))
    ]
    nodes = (
        helper.make_node("Conv", ["x", "first"], ["middle"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["middle", "second"], ["y"], pads=[1, 1, 1, 1]),
    )
    content: bytes = graph(*nodes, weights=weights, inputs={"x": ["batch", 1, "height", "width"]})
    return content


def test_any_thread_may_run_a_session(convolving: bytes) -> None:
    session = open_session(convolving, threads=None)
    inputs = [np.random.default_rng(i).random((1, 1, 40 + i, 44), np.float32) for i in range(4)]
    alone = [session.run({"x": x})["y"] for x in inputs]
    together: dict[int, Any] = {}

    def run(i: int) -> None:
        together[i] = session.run({"x": inputs[i]})["y"]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, expected in enumerate(alone):
        np.testing.assert_allclose(together[i], expected, atol=1e-5)


def test_inputs_of_many_shapes_do_not_make_it_grow(convolving: bytes) -> None:
    session = open_session(convolving)
    shapes = [(n, h, 44) for n in (1, 2, 3, 5) for h in (10, 30, 40, 70, 90)]
    rng = np.random.default_rng(0)

    def run_all() -> int:
        for n, height, width in rng.permutation(shapes):
            session.run({"x": np.zeros((n, 1, height, width), np.float32)})
        return resident_bytes()

    settled = run_all()
    for _ in range(5):
        grown = run_all() - settled
    # Every shape was seen before; the largest needs 3 MB. Five rounds of what one leaks are more.
    assert grown < 10e6


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_closed_session_does_not_run(doubling: bytes) -> None:
    session = open_session(doubling)
    session.close()
    session.close()
    with pytest.raises(ValueError, match="is closed"):
        session.run({"x": X})


def test_an_operator_nobody_knows_is_named(graph: Any) -> None:
    unknown = graph(helper.make_node("Teleport", ["x"], ["y"], domain="acme"), domains=["acme"])
    with pytest.raises(RuntimeUnavailable, match=r"cannot open it: .*acme.?Teleport"):
        open_session(unknown)
    with pytest.raises(RuntimeUnavailable, match=r"cannot open it: .*NoSuchThing"):
        open_session(graph(helper.make_node("NoSuchThing", ["x"], ["y"])))


def test_a_graph_that_reads_other_files_is_refused(graph: Any, bad_tensor: Any) -> None:
    content = graph(helper.make_node("Add", ["x", "w"], ["y"]), weights=[bad_tensor])
    with pytest.raises(CheckpointError, match="another file"):
        open_session(content)


@pytest.mark.parametrize("dims", [[3, 2**40], [3, 2**63 - 1], [2**32, 2**32], [3, -7]])
def test_weights_of_impossible_size_are_refused(graph: Any, dims: list[int]) -> None:
    huge = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=b"abcd")
    with pytest.raises(RuntimeUnavailable, match="onnxruntime cannot open it"):
        open_session(graph(helper.make_node("MatMul", ["x", "w"], ["y"]), weights=[huge]))


def test_a_graph_that_makes_something_huge_runs_out_of_memory(graph: Any) -> None:
    """More than any process can address, so that the machine refuses it and not its kernel."""
    shape = numpy_helper.from_array(np.array([3, 2**46]), "shape")
    nodes = (
        helper.make_node("ConstantOfShape", ["shape"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    )
    session = open_session(graph(*nodes, weights=[shape]))
    with pytest.raises(OutOfMemory, match="give it fewer at once"):
        session.run({"x": X})


class BrokenVendor:
    """Fails as onnxruntime does: with a text, in an exception of no narrower class."""

    def __init__(self, text: str) -> None:
        self._text = text

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="x", type="tensor(float)", shape=["batch", 3])]

    get_outputs = get_inputs

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def run(self, names: None, feeds: Mapping[str, Any]) -> list[Any]:
        raise Exception(self._text)


FAILED_NODE = "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Conv. "


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool) "
         "Failed to allocate memory for requested buffer of size 939524096", OutOfMemory),
        ("bfc_arena.cc:205 Available memory of 1024 is smaller than requested bytes of 4096",
         OutOfMemory),
        ("CUDA failure 2: out of memory ; GPU=0 ; hostname=x ; expr=cudaMalloc(&p, size);",
         OutOfMemory),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; expr=cublasCreate(&h);",
         OutOfMemory),
        ("std::bad_alloc", OutOfMemory),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes.",
         OutOfMemory),
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0", DeviceLost),
        ("CUDA failure 719: unspecified launch failure ; GPU=1 ; expr=cudaStreamSynchronize(s);",
         DeviceLost),
        ("CUDA failure 214: uncorrectable ECC error encountered ; GPU=0", DeviceLost),
        ("CUDA failure 46: all CUDA-capable devices are busy or unavailable ; GPU=0", DeviceLost),
        ("CUDA failure 999: unknown error ; GPU=0", DeviceLost),
        ("CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0", DeviceLost),
        ("CUDNN failure 3000: CUDNN_STATUS_NOT_SUPPORTED ; GPU=0", RuntimeFailed),
        ("Reshape: the input tensor cannot be reshaped to the requested shape", RuntimeFailed),
    ],
)  # fmt: skip
def test_what_the_vendor_says_becomes_an_error_that_can_be_acted_on(
    doubling: bytes, text: str, expected: type[RuntimeFailed]
) -> None:
    session = OnnxRuntimeSession(read_onnx(doubling), BrokenVendor(FAILED_NODE + text), "cuda:0")
    with pytest.raises(RuntimeFailed) as caught:
        session.run({"x": X})
    assert type(caught.value) is expected
    assert text[:30] in str(caught.value)
    assert "(CUDA) on cuda:0" in str(caught.value)


def test_without_a_gpu_build_a_gpu_is_refused_with_what_to_install(doubling: bytes) -> None:
    assert available("cpu") is None
    if available("cuda:0") is None:
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(RuntimeUnavailable, match=r"cuda:0: .*pip install onnxruntime-gpu"):
        open_session(doubling, device="cuda:0")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CPU", ""])
def test_a_device_of_another_name_is_refused(doubling: bytes, device: str) -> None:
    with pytest.raises(ValueError, match="expected cpu, cuda or cuda:N"):
        open_session(doubling, device=device)


class FakeRuntime:
    """The parts of onnxruntime that a GPU needs, as they are documented; computes nothing."""

    __version__ = "1.99"

    def __init__(self, *, has_cuda: bool, works: bool = True, gpus: int = 2) -> None:
        self._providers = ["CUDAExecutionProvider"] * has_cuda + ["CPUExecutionProvider"]
        self._works, self._gpus = works, gpus
        self._plugin: str | None = None
        self.registered = 0
        self.asked: list[Any] = []
        self.plugin_devices: list[Any] = []
        self.plugin_options: dict[str, str] = {}

    def get_available_providers(self) -> list[str]:
        return self._providers

    def register_execution_provider_library(self, name: str, path: str) -> None:
        self._plugin = name
        self.registered += 1

    def get_ep_devices(self) -> list[Any]:
        cpu = SimpleNamespace(ep_name="CPUExecutionProvider", gpu=None)
        gpus = range(self._gpus if self._plugin else 0)
        return [cpu, *(SimpleNamespace(ep_name=self._plugin, gpu=i) for i in gpus)]

    def SessionOptions(self) -> Any:
        return SimpleNamespace(
            add_session_config_entry=lambda key, value: None,
            add_provider_for_devices=self._add_plugin,
        )

    def _add_plugin(self, devices: list[Any], options: dict[str, str]) -> None:
        self.plugin_devices, self.plugin_options = devices, options

    def InferenceSession(self, content: bytes, options: Any, **keywords: Any) -> Any:
        providers = keywords["providers"]
        if providers is None and not self._works:
            raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : SM 9.0 is not supported")
        self.asked.append(providers)
        session = BrokenVendor("")
        if providers is None:
            session.get_providers = lambda: [str(self._plugin)]  # type: ignore[method-assign]
        elif not self._works:  # what it does when CUDA's libraries are not there
            session.get_providers = lambda: ["CPUExecutionProvider"]  # type: ignore[method-assign]
        return session


PLUGIN = SimpleNamespace(
    get_ep_name=lambda: "NvTensorRTRTXExecutionProvider", get_library_path=lambda: "/plugin.so"
)


def use(monkeypatch: pytest.MonkeyPatch, runtime: FakeRuntime, *, has_plugin: bool) -> None:
    def load(name: str) -> Any:
        if not has_plugin:
            raise ImportError(name)
        return PLUGIN

    monkeypatch.setattr(onnx_runtime, "_import", lambda: runtime)
    monkeypatch.setattr(onnx_runtime.importlib, "import_module", load)


def test_cuda_runs_on_the_gpu_that_was_asked_for(
    doubling: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = FakeRuntime(has_cuda=True)
    use(monkeypatch, runtime, has_plugin=False)
    session = open_session(doubling, device="cuda:1")
    ((first, options), second) = runtime.asked[0]
    assert (first, options["device_id"]) == ("CUDAExecutionProvider", "1")
    assert second == "CPUExecutionProvider"
    assert session.description.endswith("(CUDA) on cuda:1")


def test_cuda_that_silently_became_the_cpu_is_refused(
    doubling: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, FakeRuntime(has_cuda=True, works=False), has_plugin=False)
    with pytest.raises(RuntimeUnavailable, match=r"fell back to CPUExecutionProvider"):
        open_session(doubling, device="cuda")


def test_the_tensorrt_plugin_is_registered_once_and_told_the_shapes(
    doubling: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = FakeRuntime(has_cuda=False)
    use(monkeypatch, runtime, has_plugin=True)
    profile = Profile((1, 3), (8, 3), (64, 3))
    for _ in range(2):
        session = open_session(doubling, device="cuda:1", profiles={"x": profile})
    assert "NvTensorRTRTX" in session.description
    assert runtime.registered == 1
    assert [device.gpu for device in runtime.plugin_devices] == [1]
    assert runtime.plugin_options == {
        "nv_profile_min_shapes": "x:1x3",
        "nv_profile_opt_shapes": "x:8x3",
        "nv_profile_max_shapes": "x:64x3",
    }


def test_a_gpu_the_plugin_does_not_have_is_refused(
    doubling: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, FakeRuntime(has_cuda=False, gpus=1), has_plugin=True)
    with pytest.raises(RuntimeUnavailable, match="cuda:1"):
        open_session(doubling, device="cuda:1")


def test_a_gpu_that_the_plugin_does_not_support_is_left_to_cuda(
    doubling: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = FakeRuntime(has_cuda=True, works=False)
    use(monkeypatch, runtime, has_plugin=True)
    with pytest.raises(RuntimeUnavailable, match="fell back"):  # CUDA is as broken here
        open_session(doubling, device="cuda:0")
    assert "SM 9.0 is not supported; running it by CUDA" in caplog.text
    without_cuda = FakeRuntime(has_cuda=False, works=False)
    use(monkeypatch, without_cuda, has_plugin=True)
    with pytest.raises(RuntimeUnavailable, match=r"SM 9\.0 is not supported"):
        open_session(doubling, device="cuda:0")
