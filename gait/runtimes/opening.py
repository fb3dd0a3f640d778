"""Open an ONNX graph with the best vendor that this machine has."""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from gait.errors import DeviceLost, GaitError, RuntimeFailed, RuntimeUnavailable
from gait.runtimes.session import Profile, Session, Vendor

logger = logging.getLogger(__name__)

_Choice = tuple[Vendor, str]
_CPU: _Choice = ("onnxruntime", "cpu")


def open_session(
    onnx: Path | bytes,
    *,
    vendor: Vendor | Literal["auto"] = "auto",
    device: str = "auto",
    threads: int | None = 1,
    profiles: Mapping[str, Profile] | None = None,
) -> Session:
    """Open a graph; of several ways, the fastest that works, and the log says which did not.

    A session on a GPU goes on by ONNX Runtime on the CPU when the GPU is lost.

    Args:
        onnx: The file, or its content.
        vendor: "auto" is TensorRT on a GPU where it is usable, else ONNX Runtime.
        device: "auto" (a GPU where the vendor finds one), "cpu", "cuda" or "cuda:N".
        threads: Cores one run may use on the CPU; None for all.
        profiles: The shapes it will be run with, by input; None for a graph without free axes.
            Only what compiles the graph looks at them.

    Raises:
        CheckpointError: It is no ONNX graph, is cut off, or names other files.
        RuntimeUnavailable: What was asked for is not installed here, or cannot run the graph.
        RuntimeFailed: The graph does not fit the device, or the device is gone.
    """
    choices = _choices(vendor, device)
    for choice in choices[:-1]:
        try:
            return _open(onnx, choice, threads, profiles)
        except (RuntimeUnavailable, RuntimeFailed) as error:
            logger.warning("%s; trying the next way to run it", error)
    return _open(onnx, choices[-1], threads, profiles)


class LastingSession:
    """A session that another takes over from when its device is lost.

    Attributes:
        description: Of the session that runs now.
        metadata: As of the first session.
        inputs: As of the first session.
        outputs: As of the first session.
    """

    def __init__(self, session: Session, reopen: Callable[[], Session]) -> None:
        """Take over the ownership of `session`.

        Args:
            session: What runs until it raises `DeviceLost`.
            reopen: Called at most once, for what runs from then on.
        """
        self.metadata = session.metadata
        self.inputs, self.outputs = session.inputs, session.outputs
        self.description = session.description
        self._session = session
        self._reopen: Callable[[], Session] | None = reopen
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return every output by name; see `gait.runtimes.session.Session.run`."""
        session = self._session
        try:
            return session.run(feeds)
        except DeviceLost as error:
            return self._successor(session, error).run(feeds)

    def close(self) -> None:
        """Give back everything the session holds; it cannot run afterwards."""
        with self._lock:
            self._session.close()

    def _successor(self, lost: Session, error: DeviceLost) -> Session:
        with self._lock:
            if self._session is not lost:  # another thread came first
                return self._session
            if self._reopen is None:
                raise error
            reopen, self._reopen = self._reopen, None
            try:
                self._session = reopen()
            except GaitError as failure:
                raise error from failure
            self.description = self._session.description
            logger.error("%s; going on with %s", error, self.description)
            lost.close()
            return self._session


def _choices(vendor: Vendor | Literal["auto"], device: str) -> list[_Choice]:
    """Return what to try, the fastest first; never empty."""
    from gait.runtimes import onnx_runtime

    gpu = "cuda:0" if device == "auto" else device
    if device == "auto" and vendor in ("auto", "onnxruntime") and not _has_gpu():
        return [_CPU]
    if vendor == "tensorrt":
        if device == "cpu":
            raise RuntimeUnavailable("tensorrt: expected a device cuda or cuda:N, got cpu")
        return [("tensorrt", gpu)]
    if vendor == "openvino":
        return [("openvino", "cpu" if device == "auto" else device)]
    found: list[_Choice] = []
    if gpu != "cpu":
        if vendor == "auto" and _tensorrt_lacks() is None:
            found.append(("tensorrt", gpu))
        if device != "auto" or onnx_runtime.available(gpu) is None:
            found.append(("onnxruntime", gpu))
    return found if device not in ("auto", "cpu") else [*found, _CPU]


def _has_gpu() -> bool:
    """Return whether NVIDIA's driver finds a GPU; asked directly, as torch takes seconds to load.

    See https://docs.nvidia.com/cuda/cuda-driver-api.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    fails = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    return not fails and count.value > 0


def _tensorrt_lacks() -> str | None:
    from gait.runtimes import tensorrt

    return tensorrt.available()


def _open(
    onnx: Path | bytes,
    choice: _Choice,
    threads: int | None,
    profiles: Mapping[str, Profile] | None,
) -> Session:
    vendor, device = choice
    if device != "cpu":
        session = _open_on_gpu(onnx, choice, profiles)
        return LastingSession(session, lambda: _open(onnx, _CPU, threads, None))
    if vendor == "openvino":
        from gait.runtimes import openvino

        return openvino.open_session(onnx, device=device, threads=threads)
    from gait.runtimes import onnx_runtime

    return onnx_runtime.open_session(onnx, device=device, threads=threads)


def _open_on_gpu(
    onnx: Path | bytes, choice: _Choice, profiles: Mapping[str, Profile] | None
) -> Session:
    vendor, device = choice
    if vendor == "openvino":
        raise RuntimeUnavailable(f"openvino: expected the device cpu, got {device}")
    if vendor == "tensorrt":
        from gait.runtimes import tensorrt

        return tensorrt.open_session(onnx, device=device, profiles=profiles)
    from gait.runtimes import onnx_runtime

    return onnx_runtime.open_session(onnx, device=device, profiles=profiles)
