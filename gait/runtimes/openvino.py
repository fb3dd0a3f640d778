"""ONNX graphs by OpenVINO, Intel's runtime, on the CPU."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gait.errors import RuntimeFailed, RuntimeUnavailable
from gait.runtimes.failures import translated
from gait.runtimes.onnx_file import OnnxFile, read_onnx
from gait.runtimes.session import Port, check_feeds


def available(device: str = "cpu") -> str | None:
    """Return None where graphs can run on `device`, else what is missing."""
    if device != "cpu":
        return f"expected the device cpu, got {device}"
    try:
        _core()
    except RuntimeUnavailable as error:
        return str(error)
    return None


def open_session(
    onnx: Path | bytes, *, device: str = "cpu", threads: int | None = 1
) -> OpenVinoSession:
    """Open a graph.

    Args:
        onnx: The file, or its content.
        device: "cpu".
        threads: Cores one run may use; None for all. One is best where other work runs beside it;
            higher shortens the wait where nothing else does.

    Raises:
        CheckpointError: It is no ONNX graph, is cut off, or names other files.
        RuntimeUnavailable: openvino is missing, or cannot run the graph.
        OutOfMemory: It does not fit.
    """
    lacking = available(device)
    if lacking is not None:
        raise RuntimeUnavailable(f"openvino: {lacking}")
    file = read_onnx(onnx)
    try:
        model = _core().read_model(file.content)
        compiled = _core().compile_model(model, "CPU", _properties(threads))
        request = compiled.create_infer_request()
    except Exception as error:  # OpenVINO raises RuntimeError for everything
        failure = translated(error, f"{file.name}: openvino cannot open it")
        if type(failure) is RuntimeFailed:
            raise RuntimeUnavailable(str(failure)) from error
        raise failure from error
    return OpenVinoSession(file, compiled, request)


class OpenVinoSession:
    """A `gait.runtimes.session.Session` by OpenVINO.

    Computes in float32 (int8 where the graph is quantised) also where the processor has bfloat16,
    which OpenVINO takes by itself, and a float16 graph too.

    Attributes:
        description: File, version and device.
        metadata: What the graph's author wrote into the file.
        inputs: In the graph's order; free axes have names made up here.
        outputs: In the graph's order.
    """

    def __init__(self, file: OnnxFile, compiled: Any, request: Any) -> None:
        self.metadata: Mapping[str, str] = MappingProxyType(dict(file.metadata))
        self.inputs = tuple(_port(port) for port in compiled.inputs)
        self.outputs = tuple(_port(port) for port in compiled.outputs)
        self.description = f"{file.name} by openvino {_version()} (CPU)"
        self._request: Any = request
        self._lock = threading.Lock()  # a request holds the tensors of one run

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return every output by name; see `gait.runtimes.session.Session.run`."""
        check_feeds(self.inputs, feeds)
        with self._lock:
            if self._request is None:
                raise ValueError(f"{self.description}: is closed")
            try:
                values = self._request.infer(dict(feeds)).to_tuple()
            except Exception as error:  # OpenVINO raises RuntimeError for everything
                raise translated(error, self.description) from error
        return {port.name: v for port, v in zip(self.outputs, values, strict=True)}

    def close(self) -> None:
        """Give back everything the session holds; it cannot run afterwards."""
        with self._lock:
            self._request = None


@cache
def _core() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise RuntimeUnavailable(
            f"openvino is not usable here ({error}); pip install 'trackletgait[openvino]'"
        ) from error
    return openvino.Core()


def _version() -> str:
    import openvino

    return str(openvino.__version__).partition("-")[0]


def _properties(threads: int | None) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "EXECUTION_MODE_HINT": "ACCURACY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads or len(os.sched_getaffinity(0)),
        "ENABLE_CPU_PINNING": False,  # two sessions would share the core both are pinned to
        # Kernels are kept by shape, 5000 of them if not told otherwise: over 160 random shapes nano
        # grew to 291 MB and went on; so it stays at 212, and no shape is more than 6 % slower.
        "CPU_RUNTIME_CACHE_CAPACITY": 64,
    }


def _port(port: Any) -> Port:
    name = port.get_any_name()
    shape = tuple(
        f"{name}[{i}]" if axis.is_dynamic else axis.get_length()
        for i, axis in enumerate(port.get_partial_shape())
    )
    return Port(name, shape, np.dtype(port.get_element_type().to_dtype()))
