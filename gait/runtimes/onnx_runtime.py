"""ONNX graphs by ONNX Runtime: on the CPU, by CUDA, or by its TensorRT-RTX plugin."""

from __future__ import annotations

import importlib
import logging
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gait.errors import RuntimeFailed, RuntimeUnavailable
from gait.runtimes.failures import translated
from gait.runtimes.onnx_file import OnnxFile, read_onnx
from gait.runtimes.session import Port, Profile, check_feeds

logger = logging.getLogger(__name__)

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_RTX_MODULE = "onnxruntime_ep_nv_tensorrt_rtx"  # the module of onnxruntime-ep-nv-tensorrt-rtx

_DTYPES: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


def available(device: str = "cpu") -> str | None:
    """Return None where graphs can run on `device`, else what is missing.

    Args:
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        ValueError: The device has another name.
    """
    index = None if device == "cpu" else _index(device)
    try:
        runtime = _import()
    except RuntimeUnavailable as error:
        return str(error)
    if index is None:
        return None
    if _CUDA not in runtime.get_available_providers() and _rtx_device(runtime, index) is None:
        return (
            "this onnxruntime has no CUDA; pip install onnxruntime-gpu in its place, or "
            "onnxruntime-ep-nv-tensorrt-rtx beside it"
        )
    return None


def open_session(
    onnx: Path | bytes,
    *,
    device: str = "cpu",
    threads: int | None = 1,
    profiles: Mapping[str, Profile] | None = None,
) -> OnnxRuntimeSession:
    """Open a graph.

    Args:
        onnx: The file, or its content.
        device: "cpu", "cuda" or "cuda:N".
        threads: Cores one run may use on the CPU; None for all. One is best where other work runs
            beside it; higher shortens the wait where nothing else does.
        profiles: Shapes to compile for by input; only the TensorRT-RTX plugin looks at them.

    Raises:
        CheckpointError: It is no ONNX graph, is cut off, or names other files.
        RuntimeUnavailable: onnxruntime is missing, has no such device, or cannot run the graph.
        OutOfMemory: It does not fit the device.
        DeviceLost: The device is gone.
    """
    lacking = available(device)
    if lacking is not None:
        raise RuntimeUnavailable(f"onnxruntime on {device}: {lacking}")
    file = read_onnx(onnx)
    if device != "cpu":
        plugin = _open_by_plugin(file, device, profiles or {})
        if plugin is not None:
            return plugin
    options = _options(file, threads)
    return OnnxRuntimeSession(file, _create(file, options, _providers(device)), device)


class OnnxRuntimeSession:
    """A `gait.runtimes.session.Session` by ONNX Runtime.

    Attributes:
        description: File, version, provider and device.
        metadata: What the graph's author wrote into the file.
        inputs: In the graph's order.
        outputs: In the graph's order.
    """

    def __init__(self, file: OnnxFile, session: Any, device: str) -> None:
        self.metadata: Mapping[str, str] = MappingProxyType(dict(file.metadata))
        self.inputs = tuple(_port(file.name, arg) for arg in session.get_inputs())
        self.outputs = tuple(_port(file.name, arg) for arg in session.get_outputs())
        provider = session.get_providers()[0].removesuffix("ExecutionProvider")
        self.description = f"{file.name} by onnxruntime {_import().__version__} ({provider})"
        if device != "cpu":
            self.description += f" on {device}"
        self._session: Any = session

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return every output by name; see `gait.runtimes.session.Session.run`."""
        session = self._session  # a run that has begun may end while another thread closes
        if session is None:
            raise ValueError(f"{self.description}: is closed")
        check_feeds(self.inputs, feeds)
        try:
            values = session.run(None, dict(feeds))
        except Exception as error:  # onnxruntime's own classes derive from nothing narrower
            raise translated(error, self.description) from error
        return dict(zip((port.name for port in self.outputs), values, strict=True))

    def close(self) -> None:
        """Give back everything the session holds; it cannot run afterwards."""
        self._session = None


def _import() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeUnavailable(
            f"onnxruntime is not usable here ({error}); pip install onnxruntime"
        ) from error
    return onnxruntime


def _options(file: OnnxFile, threads: int | None) -> Any:
    options = _import().SessionOptions()
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    options.log_severity_level = 3
    # A pattern is kept for every shape seen, and each wants one large block: over 40 random shapes
    # the arena grew to 68 MB with them and to 43 MB without, at the same speed (nano; standard 58
    # and 33 MB over 12). No arena at all was 2 to 15 % slower and peaked higher; shrinking it
    # after each run was no smaller and up to 8 % slower.
    shapes = file.inputs.values()
    options.enable_mem_pattern = all(isinstance(axis, int) for shape in shapes for axis in shape)
    # A thread that spins while it waits takes the core from the stage that runs beside it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _providers(device: str) -> list[Any]:
    if device == "cpu":
        return [_CPU]
    # The default tries every algorithm for every new shape, and sequences have many lengths.
    options = {"device_id": str(_index(device)), "cudnn_conv_algo_search": "HEURISTIC"}
    return [(_CUDA, options), _CPU]


def _index(device: str) -> int:
    found = re.fullmatch(r"cuda(?::(\d+))?", device)
    if found is None:
        raise ValueError(f"device: expected cpu, cuda or cuda:N, got {device!r}")
    return int(found[1] or 0)


def _create(file: OnnxFile, options: Any, providers: list[Any] | None) -> Any:
    try:
        session = _import().InferenceSession(
            file.content, options, providers=providers, enable_fallback=0
        )
    except Exception as error:  # onnxruntime's own classes derive from nothing narrower
        failure = translated(error, f"{file.name}: onnxruntime cannot open it")
        if type(failure) is RuntimeFailed:
            raise RuntimeUnavailable(str(failure)) from error
        raise failure from error
    if providers and session.get_providers()[0] not in str(providers[0]):
        # It only logs it when CUDA is built in but its libraries or the GPU are not there.
        raise RuntimeUnavailable(
            f"onnxruntime has CUDA but cannot use it here, it fell back to "
            f"{session.get_providers()[0]}; see whether nvidia-smi and cuDNN work"
        )
    return session


def _port(file: str, arg: Any) -> Port:
    dtype = _DTYPES.get(arg.type)
    if dtype is None:
        raise RuntimeUnavailable(
            f"{file}: {arg.name}: expected {', '.join(_DTYPES)}, got {arg.type}"
        )
    axes = enumerate(arg.shape)
    # An axis without a name is as free as one with a name, but equal to no other.
    shape = tuple(a if isinstance(a, int | str) else f"{arg.name}[{i}]" for i, a in axes)
    return Port(arg.name, shape, np.dtype(dtype))


def _open_by_plugin(
    file: OnnxFile, device: str, profiles: Mapping[str, Profile]
) -> OnnxRuntimeSession | None:
    """Return a session by the TensorRT-RTX plugin; None where CUDA has to do."""
    runtime = _import()
    found = _rtx_device(runtime, _index(device))
    if found is None:
        return None
    try:
        options = _options(file, 1)
        options.add_provider_for_devices([found], _rtx_options(profiles))
        return OnnxRuntimeSession(file, _create(file, options, None), device)
    except RuntimeUnavailable as error:
        if _CUDA not in runtime.get_available_providers():
            raise
        logger.warning("%s; running it by CUDA", error)
        return None


_registering = threading.Lock()


def _rtx_device(runtime: Any, index: int) -> Any:
    """Return the plugin's handle of a GPU; None where the plugin or the GPU is not there.

    See https://nvidia.github.io/TensorRT-RTX-EP-ABI and
    https://onnxruntime.ai/docs/execution-providers/plugin-ep-libraries.
    """
    if not hasattr(runtime, "register_execution_provider_library"):  # before 1.23
        return None
    try:
        plugin = importlib.import_module(_RTX_MODULE)
    except ImportError:
        return None
    name = plugin.get_ep_name()
    with _registering:
        try:
            if not any(d.ep_name == name for d in runtime.get_ep_devices()):
                runtime.register_execution_provider_library(name, plugin.get_library_path())
            devices = [d for d in runtime.get_ep_devices() if d.ep_name == name]
        except Exception as error:  # onnxruntime's own classes derive from nothing narrower
            logger.warning("onnxruntime: cannot load the plugin %s (%s)", _RTX_MODULE, error)
            return None
    return devices[index] if index < len(devices) else None


def _rtx_options(profiles: Mapping[str, Profile]) -> dict[str, str]:
    options = {}
    for key, attribute in (("min", "least"), ("opt", "usual"), ("max", "most")):
        shapes = [
            f"{name}:{'x'.join(str(length) for length in getattr(profile, attribute))}"
            for name, profile in profiles.items()
        ]
        if shapes:
            options[f"nv_profile_{key}_shapes"] = ",".join(shapes)
    return options
