"""TensorRT without TensorRT: a vendor that computes on the CPU and fails on demand."""

from __future__ import annotations

import contextlib
import ctypes
import enum
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gait.errors import DeviceLost, OutOfMemory, RuntimeFailed, RuntimeUnavailable
from gait.runtimes import cache, tensorrt, tensorrt_cache
from gait.runtimes.cuda_memory import Gpu, Workspace, describe_gpu, why_no_cuda
from gait.runtimes.session import Port, Profile
from gait.runtimes.tensorrt_network import Phases, Product
from gait.runtimes.tensorrt_profiles import default_ranges
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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRACKLETGAIT_CACHE", str(tmp_path / "cache"))
    return cache.cache_folder()


@pytest.fixture
def machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.fixture
def session(machine: Machine) -> Iterator[TensorRTSession]:
    opened = machine.open()
    yield opened
    opened.close()


def engines(folder: Path) -> list[Path]:
    return sorted(folder.glob("tensorrt-engine-*"))


# Running


def test_results_are_those_of_the_inputs_whatever_the_order_of_sizes(
    session: TensorRTSession,
) -> None:
    for batch, frames in [(3, 20), (1, 8), (64, 128), (2, 9), (8, 200), (1, 30)]:
        given = feeds(batch, frames, seed=frames)
        np.testing.assert_array_equal(session.run(given)["embeddings"], expected(given))


def test_short_sequences_are_padded_without_effect(session: TensorRTSession) -> None:
    for frames in range(1, 8):
        given = feeds(3, frames)
        np.testing.assert_array_equal(session.run(given)["embeddings"], expected(given))


def test_a_batch_below_the_least_is_padded_and_cut_again(machine: Machine) -> None:
    machine.install(FakeVendor())
    profiles = {
        "silhouettes": Profile((4, 8, 4, 3), (4, 8, 4, 3), (4, 8, 4, 3)),
        "lengths": Profile((4,), (4,), (4,)),
    }
    session = machine.open(profiles=profiles)
    given = feeds(3, 5)
    result = session.run(given)["embeddings"]
    np.testing.assert_array_equal(result, expected(given))


def test_without_lengths_short_sequences_run_in_a_range_of_their_own(machine: Machine) -> None:
    machine.install(FakeVendor((SILHOUETTES,)))
    session = machine.open()
    for frames in (30, 3, 300, 8):
        x = walks(2, frames)
        result = session.run({"silhouettes": x})["embeddings"]
        np.testing.assert_array_equal(result[:, 0], means(x, np.full(2, frames)))


@pytest.mark.parametrize(("batch", "frames"), [(65, 8), (200, 3), (9, 200), (17, 129)])
def test_a_batch_above_the_most_is_cut(session: TensorRTSession, batch: int, frames: int) -> None:
    given = feeds(batch, frames)
    np.testing.assert_array_equal(session.run(given)["embeddings"], expected(given))


@pytest.mark.parametrize(("batch", "frames"), [(1, 1025), (9, 1025), (1, 10_000)])
def test_a_sequence_longer_than_the_engine_takes_is_refused_in_words(
    session: TensorRTSession, batch: int, frames: int
) -> None:
    with pytest.raises(ValueError, match=r"batch 1 to 64, frames 8 to 128\) or .*; split what"):
        session.run(feeds(batch, frames))


@pytest.mark.parametrize(("batch", "frames"), [(0, 8), (2, 0)])
def test_nothing_cannot_be_run(session: TensorRTSession, batch: int, frames: int) -> None:
    given = {"silhouettes": walks(batch, frames), "lengths": np.ones(batch, np.int64)}
    with pytest.raises(ValueError, match="at least one of each"):
        session.run(given)


def test_wrong_inputs_are_refused_before_the_vendor_sees_them(session: TensorRTSession) -> None:
    given = feeds(2, 9)
    with pytest.raises(ValueError, match="expected float32, got float64"):
        session.run({**given, "silhouettes": given["silhouettes"].astype(np.float64)})
    with pytest.raises(ValueError, match="expected the inputs silhouettes, lengths"):
        session.run({"silhouettes": given["silhouettes"]})


def test_the_engine_gets_memory_for_the_shapes_of_a_call_not_for_the_largest(
    machine: Machine, session: TensorRTSession
) -> None:
    session.run(feeds(2, 10))
    assert machine.vendor.contexts[0].lent == 2 * 10 * 4 * 3


def test_threads_get_their_own_results(session: TensorRTSession) -> None:
    wrong: list[int] = []

    def use(seed: int) -> None:
        for _ in range(20):
            given = feeds(seed + 1, 8 + seed, seed)
            if not np.array_equal(session.run(given)["embeddings"], expected(given)):
                wrong.append(seed)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_closed_session_says_so(session: TensorRTSession) -> None:
    session.close()
    session.close()
    with pytest.raises(ValueError, match="is closed"):
        session.run(feeds(1, 8))


def test_it_says_what_runs_where(machine: Machine) -> None:
    assert machine.open().description == "graph by Fake 1.0 on Fake RTX (cuda:0)"


# Failing


def test_a_refused_execution_has_the_vendors_last_words(
    machine: Machine, session: TensorRTSession
) -> None:
    def refuse() -> bool:
        machine.vendor.complain("Error Code 7: something internal")
        return False

    machine.vendor.on_execute = refuse
    with pytest.raises(RuntimeFailed, match="refused to execute; Error Code 7") as caught:
        session.run(feeds(1, 8))
    assert type(caught.value) is RuntimeFailed


def test_out_of_memory_frees_what_was_held_and_fewer_can_follow(
    machine: Machine, session: TensorRTSession
) -> None:
    def only_small() -> bool:
        if machine.vendor.contexts[0].lent > 8 * 8 * 4 * 3:
            machine.vendor.complain("Error Code 2: OutOfMemory (Requested size was 9 bytes.)")
            return False
        return True

    machine.vendor.on_execute = only_small
    with pytest.raises(OutOfMemory):
        session.run(feeds(16, 8))
    assert session._workspace._buffers == {}
    given = feeds(8, 8)
    np.testing.assert_array_equal(session.run(given)["embeddings"], expected(given))


def test_torch_running_out_of_memory_is_out_of_memory_too(
    session: TensorRTSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.")

    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(OutOfMemory, match="fewer at once"):
        session.run(feeds(2, 8))


def test_a_lost_device_is_noticed_when_the_vendor_does_not_name_it(
    machine: Machine, session: TensorRTSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: Workspace) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    machine.vendor.on_execute = lambda: False
    monkeypatch.setattr(Workspace, "synchronise", gone)
    with pytest.raises(DeviceLost, match="unspecified launch failure"):
        session.run(feeds(1, 8))


def test_a_session_of_a_lost_device_can_be_closed(
    machine: Machine, session: TensorRTSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: Workspace) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    machine.vendor.on_execute = lambda: False
    for method in ("synchronise", "release"):
        monkeypatch.setattr(Workspace, method, gone)
    with pytest.raises(DeviceLost):
        session.run(feeds(1, 8))
    session.close()


def test_an_exception_of_the_bindings_is_translated(
    machine: Machine, session: TensorRTSession
) -> None:
    def fall() -> bool:
        raise RuntimeError("cudaError 700: an illegal memory access was encountered")

    machine.vendor.on_execute = fall
    with pytest.raises(DeviceLost):
        session.run(feeds(1, 8))


# Building


def test_a_graph_is_built_once_and_the_engine_is_only_the_users(
    machine: Machine, folder: Path
) -> None:
    machine.open().close()
    machine.open().close()
    assert len(machine.vendor.builds) == 1
    (engine,) = engines(folder)
    assert engine.stat().st_mode & 0o777 == 0o600


def test_an_engine_from_an_earlier_start_runs_like_a_new_one(machine: Machine) -> None:
    machine.open().close()
    session = machine.open()
    given = feeds(3, 5)
    np.testing.assert_array_equal(session.run(given)["embeddings"], expected(given))
    assert session.inputs == (SILHOUETTES, LENGTHS)


def test_whatever_an_engine_depends_on_makes_another_one(machine: Machine, folder: Path) -> None:
    machine.open()
    machine.open(OTHER_GRAPH)
    machine.open(profiles=default_ranges((SILHOUETTES, LENGTHS))[:1])
    for gpu in (
        Gpu("cuda:0", "Other", (8, 9), "580.1"),
        Gpu("cuda:0", "Fake RTX", (8, 6), "580.1"),
        Gpu("cuda:0", "Fake RTX", (8, 9), "580.2"),
    ):
        machine.gpu = gpu
        machine.open()
    machine.gpu = GPU
    newer = FakeVendor()
    newer.__version__ = "1.1"  # type: ignore[misc]
    machine.install(newer).builds = machine.vendor.builds
    machine.open()
    assert len(engines(folder)) == 7


def swap_byte(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"ftrt" + content,
        swap_byte,
        lambda content: content.replace(b"Fake RTX", b"Fake RTY"),
    ],
    ids=["cut off", "empty", "foreign", "changed", "other key"],
)
def test_a_damaged_or_foreign_engine_never_reaches_the_vendor(
    machine: Machine,
    folder: Path,
    damage: Callable[[bytes], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine.open()
    (engine,) = engines(folder)
    engine.write_bytes(damage(engine.read_bytes()))
    machine.open()
    assert machine.vendor.given == [b"plan 1 " * 100, b"plan 2 " * 100]
    assert "removed, and made anew" in caplog.text
    machine.open()
    assert len(machine.vendor.builds) == 2


def test_an_engine_for_another_machine_in_this_ones_place_is_not_taken(
    machine: Machine, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine.open()
    (own,) = engines(folder)
    machine.gpu = Gpu("cuda:0", "Other", (8, 9), "580.1")
    machine.open()
    (other,) = set(engines(folder)) - {own}
    own.write_bytes(other.read_bytes())
    machine.gpu = GPU
    machine.open()
    assert len(machine.vendor.builds) == 3
    assert "it was made for something else" in caplog.text


def test_a_link_in_an_engines_place_is_not_followed(machine: Machine, folder: Path) -> None:
    machine.open()
    (engine,) = engines(folder)
    engine.rename(folder / "elsewhere")
    engine.symlink_to(folder / "elsewhere")
    machine.open()
    assert len(machine.vendor.builds) == 2
    assert not engine.is_symlink()


def test_an_engine_that_others_could_change_is_made_anew(machine: Machine, folder: Path) -> None:
    machine.open()
    (engine,) = engines(folder)
    engine.chmod(0o666)
    machine.open()
    assert len(machine.vendor.builds) == 2
    assert engine.stat().st_mode & 0o777 == 0o600


def test_notes_of_another_version_of_ours_make_the_engine_anew(
    machine: Machine, folder: Path
) -> None:
    machine.open()
    key = tensorrt._key(tensorrt._product(), GPU, tensorrt.read_onnx(GRAPH), None)
    tensorrt_cache.keep("tensorrt-engine", key, tensorrt_cache.Sealed({"inputs": "[1]"}, b"plan"))
    machine.open()
    assert len(machine.vendor.builds) == 2


def test_a_kept_engine_that_the_vendor_refuses_is_made_anew_once(
    machine: Machine, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine.open()
    machine.vendor.refuses = lambda plan: plan.startswith(b"plan 1")
    machine.open()
    assert len(machine.vendor.builds) == 2
    assert "SM 9.0 is not supported" in caplog.text


def test_an_engine_that_does_not_load_is_an_error_in_the_vendors_words_and_not_kept(
    machine: Machine, folder: Path
) -> None:
    machine.vendor.refuses = lambda plan: True
    machine.gpu = Gpu("cuda:0", "H200", (9, 0), "580.1")
    with pytest.raises(RuntimeUnavailable, match=r"H200 \(compute capability 9.0, driver 580.1\)"):
        machine.open()
    with pytest.raises(RuntimeUnavailable, match=r"SM 9\.0 is not supported"):
        machine.open()
    assert engines(folder) == []


def test_a_cache_that_is_not_the_users_is_not_used_but_the_engine_runs(
    machine: Machine, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine.open()
    folder.chmod(0o777)
    session = machine.open()
    assert len(machine.vendor.builds) == 2
    assert "only its owner may write to it" in caplog.text
    session.run(feeds(1, 8))


def test_two_that_build_at_once_leave_one_whole_engine(machine: Machine, folder: Path) -> None:
    threads = [threading.Thread(target=machine.open) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (engine,) = engines(folder)
    assert {path.name for path in folder.iterdir() if path.name.startswith(".")} == set()
    builds = len(machine.vendor.builds)
    machine.open()
    assert len(machine.vendor.builds) == builds
    assert engine.stat().st_size > 700


def test_unsupported_nodes_are_named(machine: Machine) -> None:
    machine.vendor.errors = [
        parser_error("the_det", "Det", 1),
        parser_error("", "Nope", 2),
        parser_error("", "", -1, "Failed to parse the ONNX model."),
    ]
    report = tensorrt.parse(GRAPH)
    assert [(node.name, node.operator) for node in report.unsupported] == [
        ("the_det", "Det"),
        ("node 2", "Nope"),
        ("", ""),
    ]
    with pytest.raises(RuntimeUnavailable, match=r"the_det \(Det\): UNSUPPORTED_NODE: false"):
        machine.open()


def parser_error(name: str, operator: str, node: int, text: str = "false") -> Any:
    return SimpleNamespace(
        node=lambda: node,
        node_name=lambda: name,
        node_operator=lambda: operator,
        code=lambda: SimpleNamespace(name="UNSUPPORTED_NODE"),
        desc=lambda: text,
    )


def test_a_build_tells_how_far_it_is(machine: Machine) -> None:
    told: list[tuple[str, float]] = []
    machine.open(progress=lambda doing, done: told.append((doing, done)))
    assert told == [("Building", 0.5), ("Building", 1.0), ("Engine built", 1.0)]


def test_what_progress_raises_ends_the_build_and_nothing_is_kept(
    machine: Machine, folder: Path
) -> None:
    def stop(doing: str, done: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        machine.open(progress=stop)
    assert engines(folder) == []


def test_an_engine_is_built_for_this_kind_of_gpu_or_the_log_says_why_not(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.open()
    assert machine.vendor.builds[0].target is Capability.SM89
    machine.gpu = Gpu("cuda:0", "H200", (9, 0), "580.1")
    machine.open()
    assert machine.vendor.builds[1].target is None
    assert "does not list GPUs of compute capability 9.0" in caplog.text


def test_the_full_product_keeps_its_timings_for_the_next_build(machine: Machine) -> None:
    machine.open()
    machine.open(OTHER_GRAPH)
    assert [build.timings.known for build in machine.vendor.builds] == [b"", b"+"]


def test_kernels_compiled_while_running_are_kept_and_taken_up_again(
    machine: Machine, folder: Path
) -> None:
    vendor = RtxVendor()
    machine.install(vendor)
    session = machine.open()
    session.run(feeds(1, 8))
    assert len(list(folder.glob("tensorrt-kernels-*"))) == 1
    machine.open()
    assert vendor.known == [b"kernels"]


def test_kernels_that_the_vendor_does_not_take_are_removed(machine: Machine, folder: Path) -> None:
    vendor = RtxVendor()
    machine.install(vendor)
    session = machine.open()
    session.run(feeds(1, 8))
    session.close()
    vendor.accepts_kernels = False
    machine.open()
    assert list(folder.glob("tensorrt-kernels-*")) == []


def test_a_product_that_does_not_start_says_why(machine: Machine) -> None:
    machine.vendor.starts = False
    with pytest.raises(RuntimeUnavailable, match="does not start: CUDA initialization failure"):
        machine.open()


# Being there


def test_without_either_product_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    monkeypatch.setattr(tensorrt, "_load_product", tensorrt._load_product.__wrapped__)
    lacking = tensorrt.available()
    assert lacking is not None
    assert "pip install --no-deps tensorrt-rtx" in lacking


def test_the_full_product_goes_first_unless_its_libraries_are_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stub() -> tuple[str, Any]:
        raise FileNotFoundError("Could not find: libnvinfer.so.11")

    monkeypatch.setattr(tensorrt, "_load_product", tensorrt._load_product.__wrapped__)
    monkeypatch.setattr(tensorrt, "_rtx_product", lambda: ("RTX", FakeVendor()))
    monkeypatch.setattr(tensorrt, "_full_product", lambda: ("Full", FakeVendor()))
    assert tensorrt.product_title() == "Full 1.0"
    monkeypatch.setattr(tensorrt, "_full_product", stub)
    assert tensorrt.product_title() == "RTX 1.0"


@pytest.mark.skipif(why_no_cuda() is None, reason="there is a GPU")
def test_without_a_gpu_a_session_is_refused_in_words(folder: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match=r"cuda:0: (this torch|there is no NVIDIA GPU)"):
        describe_gpu("cuda:0")


def test_a_device_that_is_no_gpu_is_refused() -> None:
    with pytest.raises(ValueError, match="expected cuda or cuda:N, got 'cpu'"):
        describe_gpu("cpu")


def test_importing_the_adapter_loads_neither_torch_nor_a_vendor() -> None:
    code = (
        "import sys, gait.runtimes.tensorrt; "
        "print([m for m in ('torch', 'tensorrt', 'tensorrt_rtx') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# Parts


def test_the_diary_passes_messages_on_and_remembers_complaints(
    caplog: pytest.LogCaptureFixture,
) -> None:
    diary = Diary()
    diary.add("ERROR", "before")
    mark = diary.mark()
    with caplog.at_level(logging.INFO):
        diary.add("WARNING", "a hint")
        diary.add("VERBOSE", "chatter")
        diary.add("ERROR", "first\n  line")
    assert diary.since(mark) == "first line"
    assert "a hint" in caplog.text
    assert "chatter" not in caplog.text
    assert diary.since(diary.mark()) == "it does not say why"


def test_progress_through_nested_phases_never_falls() -> None:
    phases = Phases()
    seen = []
    phases.start("build", 2)
    for _ in range(2):
        phases.start("inner", 4)
        for step in range(4):
            phases.complete("inner", step)
            seen.append(phases.fraction())
        phases.finish("inner")
        phases.complete("build", _)
        seen.append(phases.fraction())
    assert seen == sorted(seen)
    assert seen[0] == pytest.approx(1 / 8)
    assert seen[-1] == 1.0
