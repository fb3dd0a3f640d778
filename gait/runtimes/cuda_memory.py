"""A GPU, and memory on both sides of it: torch gives it, so that all of a process share one pool.

Importing this does not import torch.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gait.errors import RuntimeUnavailable

_DRIVER_FILE = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU.

    Attributes:
        device: "cuda:N".
        name: As its maker calls it.
        capability: Compute capability.
        driver: Version of the driver.
    """

    device: str
    name: str
    capability: tuple[int, int]
    driver: str


def why_no_cuda() -> str | None:
    """Return None where torch can use a GPU, else what is missing."""
    import torch

    if torch.version.cuda is None:
        return f"this torch ({torch.__version__}) is built without CUDA; install one with CUDA"
    if not torch.cuda.is_available():
        return "there is no NVIDIA GPU with a driver that torch can use; see what nvidia-smi says"
    return None


def describe_gpu(device: str) -> Gpu:
    """Return which GPU a device is.

    Args:
        device: "cuda" or "cuda:N".

    Raises:
        ValueError: It is the name of something else.
        RuntimeUnavailable: There is no such GPU.
    """
    import torch

    found = re.fullmatch(r"cuda(?::(\d+))?", device)
    if found is None:
        raise ValueError(f"device: expected cuda or cuda:N, got {device!r}")
    index = int(found[1] or 0)
    lacking = why_no_cuda()
    if lacking is None and index >= torch.cuda.device_count():
        lacking = f"there are {torch.cuda.device_count()} GPUs, counted from 0"
    if lacking is not None:
        raise RuntimeUnavailable(f"{device}: {lacking}")
    properties = torch.cuda.get_device_properties(index)
    capability = properties.major, properties.minor
    return Gpu(f"cuda:{index}", properties.name, capability, _driver_version())


class Workspace:
    """Memory for the inputs and outputs of one session, and the CUDA stream it works on.

    Every input and output has a buffer on the device and one of pinned memory on the host, which
    the GPU reads and writes by itself. Buffers grow to the largest that was asked for and are kept.
    One thread at a time may use it, inside `current()`.

    On the device "cpu" it is ordinary memory without a stream: that is how sessions are tried where
    there is no GPU.

    Attributes:
        stream: Handle of the CUDA stream; 0 on the CPU.
    """

    def __init__(self, device: str) -> None:
        import torch

        self._device = torch.device(device)
        self._is_cuda = self._device.type == "cuda"
        self._stream: Any = _new_stream(self._device) if self._is_cuda else None
        self._host: dict[str, Any] = {}
        self._buffers: dict[str, Any] = {}
        self.stream: int = self._stream.cuda_stream if self._stream is not None else 0

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make the device and the stream those of the calling thread."""
        import torch

        with torch.cuda.stream(self._stream) if self._is_cuda else contextlib.nullcontext():
            yield

    def upload(self, name: str, array: NDArray[Any]) -> int:
        """Begin to copy an array to the device, and return its address there."""
        staging = self._staging(name, array.nbytes)
        _view(staging, array.shape, array.dtype)[...] = array
        buffer = self._buffer(name, array.nbytes)
        buffer[: array.nbytes].copy_(staging[: array.nbytes], non_blocking=True)
        return int(buffer.data_ptr())

    def reserve(self, name: str, num_bytes: int) -> int:
        """Return the address of at least so much memory on the device."""
        return int(self._buffer(name, num_bytes).data_ptr())

    def fetch(
        self, wanted: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]
    ) -> dict[str, NDArray[Any]]:
        """Wait for everything on the stream and return copies of reserved memory.

        Args:
            wanted: Shape and dtype by name.
        """
        sizes = {name: _num_bytes(shape, dtype) for name, (shape, dtype) in wanted.items()}
        for name, size in sizes.items():
            source = self._buffer(name, size)[:size]
            self._staging(name, size)[:size].copy_(source, non_blocking=True)
        self.synchronise()
        return {
            name: _view(self._host[name], shape, dtype).copy()
            for name, (shape, dtype) in wanted.items()
        }

    def synchronise(self) -> None:
        """Wait for everything on the stream; an error of the device is raised here."""
        if self._stream is not None:
            self._stream.synchronize()

    def release(self) -> None:
        """Give all memory back; what is needed later is taken anew. Nothing may be running."""
        import torch

        self._host.clear()
        self._buffers.clear()
        if self._is_cuda:
            torch.cuda.empty_cache()

    def _staging(self, name: str, num_bytes: int) -> Any:
        import torch

        if name not in self._host or len(self._host[name]) < num_bytes:
            self._host.pop(name, None)  # the old one first: both may not fit
            self._host[name] = torch.empty(
                max(num_bytes, 1), dtype=torch.uint8, pin_memory=self._is_cuda
            )
        return self._host[name]

    def _buffer(self, name: str, num_bytes: int) -> Any:
        import torch

        if name not in self._buffers or len(self._buffers[name]) < num_bytes:
            self._buffers.pop(name, None)
            self._buffers[name] = torch.empty(
                max(num_bytes, 1), dtype=torch.uint8, device=self._device
            )
        return self._buffers[name]


def _new_stream(device: Any) -> Any:
    import torch

    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _num_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def _view(staging: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    raw: NDArray[np.uint8] = staging.numpy()[: _num_bytes(shape, dtype)]
    return raw.view(dtype).reshape(shape)


def _driver_version() -> str:
    """Return the driver's own version, or where it is hidden, that of the CUDA it can do."""
    with contextlib.suppress(OSError):
        found = re.search(r"\d+\.\d+(?:\.\d+)*", _DRIVER_FILE.read_text())
        if found is not None:
            return found[0]
    version = ctypes.c_int(0)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    return f"CUDA {version.value // 1000}.{version.value % 1000 // 10}"
