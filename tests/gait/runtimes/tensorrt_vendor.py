"""TensorRT without TensorRT: a vendor that computes on the CPU and fails on demand."""

from __future__ import annotations

import contextlib
import ctypes
import enum
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gait.runtimes import tensorrt
from gait.runtimes.cuda_memory import Gpu, Workspace
from gait.runtimes.session import Port
from gait.runtimes.tensorrt_network import Product
from gait.runtimes.tensorrt_session import Diary, TensorRTSession

GRAPH = b"\x3a\x00"  # the least that has the structure of ONNX: a graph without anything
OTHER_GRAPH = b"\x08\x08\x3a\x00"
FLOAT = np.dtype(np.float32)
SILHOUETTES = Port("silhouettes", ("batch", "frames", 4, 3), FLOAT)
LENGTHS = Port("lengths", ("batch",), np.dtype(np.int64))


def at(address: int, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """Return the memory at an address, as the GPU sees it."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = (ctypes.c_uint8 * size).from_address(address)
    return np.frombuffer(raw, dtype).reshape(shape)


class Flag(enum.IntEnum):
    STRONGLY_TYPED = 1


class Capability(enum.IntEnum):
    SM89 = 89


class Strategy(enum.Enum):
    STATIC = 0
    USER_MANAGED = 2


class Severity(enum.Enum):
    ERROR = 1


class FakeTensor:
    is_shape_tensor = False

    def __init__(self, port: Port, *, names: bool) -> None:
        self._axes = port.shape if names else tuple(None for _ in port.shape)
        self.name = port.name
        self.shape = tuple(axis if isinstance(axis, int) else -1 for axis in port.shape)
        self.dtype = SimpleNamespace(name={"float32": "FLOAT", "int64": "INT64"}[port.dtype.name])

    def get_dimension_name(self, index: int) -> str | None:
        axis = self._axes[index]
        return axis if isinstance(axis, str) else None


class FakeVendor:
    """The part of the API that is used, as the real one behaves.

    Its network says for each sequence the mean of all its frames, in two copies.
    """

    __version__ = "1.0"
    NetworkDefinitionCreationFlag = Flag
    ComputeCapability = Capability
    ExecutionContextAllocationStrategy = Strategy

    class ILogger:
        pass

    class IProgressMonitor:
        pass

    def __init__(self, inputs: tuple[Port, ...] = (SILHOUETTES, LENGTHS)) -> None:
        self.inputs = inputs
        self.log: Any = None
        self.errors: list[Any] = []
        self.builds: list[SimpleNamespace] = []
        self.given: list[bytes] = []  # plans that reached the vendor
        self.refuses: Callable[[bytes], bool] = lambda plan: False
        self.on_execute: Callable[[], bool] = lambda: True
        self.contexts: list[FakeContext] = []
        self.starts = True

    def complain(self, text: str) -> None:
        self.log.log(Severity.ERROR, text)

    def Builder(self, log: Any) -> Any:
        self.log = log
        if not self.starts:
            self.complain("CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return SimpleNamespace(
            create_network=self._network,
            create_builder_config=self._config,
            create_optimization_profile=lambda: FakeProfile(),
            build_serialized_network=self._build,
        )

    def _network(self, flags: int) -> Any:
        assert flags == 1 << Flag.STRONGLY_TYPED
        outputs = [Port("embeddings", ("batch", 2), FLOAT)]
        return SimpleNamespace(
            num_layers=5,
            num_inputs=len(self.inputs),
            num_outputs=1,
            get_input=lambda i: FakeTensor(self.inputs[i], names=True),
            get_output=lambda i: FakeTensor(outputs[i], names=False),
        )

    def OnnxParser(self, network: Any, log: Any) -> Any:
        return SimpleNamespace(
            parse=lambda content, path: not self.errors,
            num_errors=len(self.errors),
            get_error=lambda i: self.errors[i],
        )

    def _config(self) -> Any:
        config = SimpleNamespace(profiles=[], progress_monitor=None, target=None, timings=None)
        config.add_optimization_profile = config.profiles.append
        config.set_compute_capability = lambda target, _: setattr(config, "target", target)
        config.create_timing_cache = lambda known: SimpleNamespace(
            known=known, serialize=lambda: known + b"+"
        )
        config.set_timing_cache = lambda timings, _: setattr(config, "timings", timings) or True
        return config

    def _build(self, network: Any, config: Any) -> bytes | None:
        self.builds.append(config)
        monitor = config.progress_monitor
        if monitor is not None:
            monitor.phase_start("Building", None, 2)
            is_wanted = [monitor.step_complete("Building", step) for step in range(2)]
            monitor.phase_finish("Building")
            if not all(is_wanted):
                self.complain("BuildCanceled (Build canceled by user)")
                return None
        return b"plan %d " % len(self.builds) * 100

    def Runtime(self, log: Any) -> Any:
        self.log = log
        return SimpleNamespace(deserialize_cuda_engine=self._deserialise)

    def _deserialise(self, plan: bytes) -> Any:
        self.given.append(plan)
        if self.refuses(plan):
            self.complain("UNSUPPORTED_CC: SM 9.0 is not supported")
            return None
        return SimpleNamespace(create_execution_context=self._context)

    def _context(self, strategy: Strategy) -> FakeContext:
        assert strategy is Strategy.USER_MANAGED
        self.contexts.append(FakeContext(self))
        return self.contexts[-1]


class FakeProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Any, ...]] = {}

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        self.shapes[name] = shapes


class FakeContext:
    def __init__(self, vendor: FakeVendor) -> None:
        self._vendor = vendor
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self.profile = 0
        self.lent = 0

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self.profile = profile_index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        _, least, most = self._limits(name)
        self._shapes[name] = shape
        return all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True))

    def _limits(self, name: str) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
        least, _, most = self._vendor.builds[-1].profiles[self.profile].shapes[name]
        return name, least, most

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self._shapes["silhouettes"][0], 2)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def update_device_memory_size_for_shapes(self) -> int:
        return int(np.prod(self._shapes["silhouettes"]))

    def set_device_memory(self, memory: int, size: int) -> None:
        at(memory, (size,), np.uint8)[:] = 1  # it is there
        self.lent = size

    def execute_async_v3(self, stream_handle: int) -> bool:
        if not self._vendor.on_execute():
            return False
        x = at(self._addresses["silhouettes"], self._shapes["silhouettes"], np.float32)
        lengths = np.full(len(x), x.shape[1])
        if "lengths" in self._addresses:
            lengths = at(self._addresses["lengths"], self._shapes["lengths"], np.int64)
        out = at(self._addresses["embeddings"], (len(x), 2), np.float32)
        out[:] = means(x, lengths)[:, None]
        return True


class RtxVendor(FakeVendor):
    """Also compiles kernels while it runs, as TensorRT for RTX does."""

    class IRuntimeCache:
        pass

    def __init__(self) -> None:
        super().__init__()
        self.known: list[bytes] = []
        self.accepts_kernels = True

    def _deserialise(self, plan: bytes) -> Any:
        engine = super()._deserialise(plan)
        engine.create_runtime_config = self._runtime_config
        engine.create_execution_context = lambda config: self._context(config.strategy)
        return engine

    def _runtime_config(self) -> Any:
        config = SimpleNamespace()
        kernels = SimpleNamespace(
            deserialize=lambda blob: self.known.append(blob) or self.accepts_kernels,
            serialize=lambda: b"kernels",
        )
        config.set_execution_context_allocation_strategy = lambda s: setattr(config, "strategy", s)
        config.create_runtime_cache = lambda: kernels
        config.set_runtime_cache = lambda _: True
        return config


def means(x: NDArray[Any], lengths: NDArray[Any]) -> NDArray[Any]:
    return np.array([row[:n].mean() for row, n in zip(x, lengths, strict=True)], np.float32)


def walks(batch: int, frames: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((batch, frames, 4, 3), np.float32)


def feeds(batch: int, frames: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    lengths = np.random.default_rng(seed).integers(1, frames + 1, batch)
    return {"silhouettes": walks(batch, frames, seed), "lengths": lengths}


def expected(given: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    return np.repeat(means(given["silhouettes"], given["lengths"])[:, None], 2, axis=1)


GPU = Gpu("cuda:0", "Fake RTX", (8, 9), "580.1")


class Machine:
    """A machine with a product of TensorRT and a GPU, both made up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gpu = GPU
        self._patch = monkeypatch
        monkeypatch.setattr(tensorrt, "describe_gpu", lambda device: self.gpu)
        monkeypatch.setattr(tensorrt, "Workspace", lambda device: Workspace("cpu"))
        monkeypatch.setattr(tensorrt, "_on", lambda gpu: contextlib.nullcontext())
        self.install(FakeVendor())

    def install(self, vendor: FakeVendor) -> FakeVendor:
        diary = Diary()
        product = Product(vendor, f"Fake {vendor.__version__}", tensorrt._log(vendor, diary), diary)
        self._patch.setattr(tensorrt, "_product", lambda: product)
        self.vendor = vendor
        return vendor

    def open(self, onnx: bytes = GRAPH, **arguments: Any) -> TensorRTSession:
        return tensorrt.open_session(onnx, **arguments)


def engines(folder: Path) -> list[Path]:
    return sorted(folder.glob("tensorrt-engine-*"))
