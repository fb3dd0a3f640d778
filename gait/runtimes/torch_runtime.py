"""The folded network by torch: eager on a CPU, compiled and recorded on a GPU."""

from __future__ import annotations

import contextlib
import logging
import platform
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from gait.errors import DeviceLost, OutOfMemory, RuntimeFailed, RuntimeUnavailable
from gait.model.folded import FoldedGait
from gait.runtimes.batching import FRAMES_A_CALL, parts
from gait.runtimes.failures import translated
from gait.runtimes.runtime import Precision, RuntimeName
from gait.runtimes.torch_graphs import CudaLane, RecordedPasses

logger = logging.getLogger(__name__)

Forward = Callable[..., torch.Tensor]
TorchPrecision = Precision | Literal["float64"]

_DTYPES: dict[str, torch.dtype] = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_NO_HOST_MEMORY = ("DefaultCPUAllocator", "not enough memory")


class TorchRuntime:
    """A folded network, run by torch.

    On a CPU it is run as it is. On a GPU it has a stream of its own, is compiled if asked for,
    and a pass whose shape (rounded up, as `gait.runtimes.batching` says) comes a second time is
    recorded as a CUDA graph and from then on replayed. What cannot be compiled or recorded is run
    as it is, with a warning.

    Attributes:
        name: "torch".
        precision: What it computes in; the head stays in float32.
        takes_padding: On a GPU.
        description: Precision, version and device.
    """

    name: RuntimeName = "torch"

    def __init__(
        self,
        model: FoldedGait,
        *,
        device: str | torch.device = "cpu",
        precision: TorchPrecision = "float32",
        compiled: bool = False,
        threads: int | None = None,
    ) -> None:
        """Take over a folded network: it is moved and rounded.

        Args:
            model: In float32, or float64 for that precision.
            device: "cpu", or "cuda:N" of this machine.
            precision: What to compute in. Halves need a device that computes in them.
            compiled: Whether to compile (about a minute) and, on a GPU, to record. Without it the
                first call is quick, at the price of all that follow.
            threads: Cores torch may use on the CPU, in the whole process; None leaves it as it is.

        Raises:
            RuntimeUnavailable: The device does not compute in `precision`.
            OutOfMemory: The network does not fit.
            DeviceLost: The device is gone.
        """
        self._device = torch.device(device)
        if problem := unavailable(precision, self._device):
            raise RuntimeUnavailable(problem)
        if threads is not None:
            torch.set_num_threads(threads)
        self.precision = precision
        self.takes_padding = self._device.type == "cuda"
        how = " (compiled)" if compiled else ""
        self.description = f"{precision} by torch {torch.__version__} on {self._device}{how}"
        with failures_in_words(self.description):
            network = _rounded(model, precision).to(self._device)
            self._passes = self._recorded() if compiled and self.takes_padding else None
        self._forward: Forward = self._compiled(network) if compiled else network

    def run(
        self, silhouettes_NTHW: NDArray[np.floating[Any]], lengths_N: NDArray[np.int64] | None
    ) -> NDArray[np.floating[Any]]:
        """Return the embeddings; see `gait.runtimes.runtime.Runtime.run`."""
        with failures_in_words(self.description), torch.inference_mode():
            embeddings = self._embed(silhouettes_NTHW, lengths_N)
        if not np.isfinite(embeddings).all():
            raise RuntimeFailed(
                f"{self.description}: expected embeddings, got NaN or infinite numbers; "
                "use a precision of larger range (bfloat16 or float32)"
            )
        return embeddings

    def close(self) -> None:
        """Give back the network, the recordings and their memory."""
        self._passes = None
        self._forward = _closed

    def _embed(
        self, silhouettes_NTHW: NDArray[np.floating[Any]], lengths_N: NDArray[np.int64] | None
    ) -> NDArray[np.floating[Any]]:
        if self._passes is not None:
            if lengths_N is None:
                lengths_N = np.full(len(silhouettes_NTHW), silhouettes_NTHW.shape[1], np.int64)
            return self._passes.run(silhouettes_NTHW, lengths_N, self._forward)
        count, num_frames = silhouettes_NTHW.shape[:2]
        at_once = FRAMES_A_CALL["cpu"] if self._device.type == "cpu" else count * num_frames
        return np.concatenate(
            [
                self._forward_host(
                    silhouettes_NTHW[part], None if lengths_N is None else lengths_N[part]
                )
                for part in parts(count, num_frames, at_once)
            ]
        )

    def _forward_host(
        self, silhouettes_NTHW: NDArray[np.floating[Any]], lengths_N: NDArray[np.int64] | None
    ) -> NDArray[np.floating[Any]]:
        silhouettes = torch.from_numpy(silhouettes_NTHW).to(self._device)
        lengths = None if lengths_N is None else torch.from_numpy(lengths_N).to(self._device)
        embeddings: NDArray[np.floating[Any]] = self._forward(silhouettes, lengths).cpu().numpy()
        return embeddings

    def _recorded(self) -> RecordedPasses:
        return RecordedPasses(CudaLane(self._device))

    def _compiled(self, network: FoldedGait) -> Forward:
        """Return the compiled network, having run it; the network itself if that fails."""
        start = time.monotonic()
        logger.info("encoder: %s: compiling, about a minute", self.description)
        compiled: Forward = torch.compile(network, dynamic=True)
        try:
            with torch.inference_mode():
                for count in (1, 2):  # to a compiler, one is another program than several
                    compiled(*self._example(count)).cpu()
        except Exception as error:  # the compilers raise what they like
            failure = _in_words(error, self.description)
            if isinstance(failure, DeviceLost):
                raise failure from error
            logger.warning("encoder: %s; it runs uncompiled", failure)
            self.description = self.description.replace("(compiled)", "(uncompiled)")
            return network
        logger.info("encoder: compiled in %.0f s", time.monotonic() - start)
        return compiled

    def _example(self, count: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        dtype = torch.float64 if self.precision == "float64" else torch.float32
        silhouettes = torch.zeros((count, 8, 64, 44), device=self._device, dtype=dtype)
        lengths = torch.full((count,), 8, device=self._device) if self.takes_padding else None
        return silhouettes, lengths


def unavailable(precision: TorchPrecision, device: torch.device) -> str | None:
    """Return why torch should not compute in a precision on a device; None where it can."""
    if precision not in _DTYPES:
        return f"torch: expected one of {', '.join(_DTYPES)}, got {precision}; use onnxruntime"
    if (
        device.type == "cpu"
        and precision in ("bfloat16", "float16")
        and not _cpu_computes(precision)
    ):
        return f"torch: this CPU does not compute in {precision}; use float32"
    if device.type == "cuda" and precision == "bfloat16":
        major, _ = torch.cuda.get_device_capability(device)
        if major < 8:
            return f"torch: {device} is too old for bfloat16; use float16"
    return None


@contextlib.contextmanager
def failures_in_words(doing: str) -> Iterator[None]:
    """Translate what torch raises for a lack of memory, a lost device and anything else.

    Raises:
        OutOfMemory: The device, or the machine, has too little memory.
        DeviceLost: Any other error of CUDA: the process has lost the device then.
        RuntimeFailed: Any other error of torch.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch's all derive from RuntimeError
        raise _in_words(error, doing) from error


def _in_words(error: Exception, doing: str) -> RuntimeFailed:
    text = " ".join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError) or any(each in text for each in _NO_HOST_MEMORY):
        return OutOfMemory(f"{doing}: out of memory; give it fewer at once ({text})")
    failure = translated(error, doing)
    is_cuda = isinstance(error, torch.AcceleratorError) or "CUDA error" in text
    if is_cuda and not isinstance(failure, OutOfMemory):
        return DeviceLost(f"{doing}: the device does not answer any more ({text})")
    return failure


def _rounded(model: FoldedGait, precision: TorchPrecision) -> FoldedGait:
    if precision in ("bfloat16", "float16"):
        return model.round_to(_DTYPES[precision])
    return model.to(_DTYPES[precision])


def _cpu_computes(precision: TorchPrecision) -> bool:
    """Return whether the CPU has instructions of a half precision, and torch uses them.

    oneDNN also takes bfloat16 where it must emulate it, slower than float32.
    """
    mkldnn = torch.ops.mkldnn
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if precision == "float16":
        return bool(mkldnn._is_mkldnn_fp16_supported())
    if not mkldnn._is_mkldnn_bf16_supported():
        return False
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    # Private, but there is no other door; absent ones count as no.
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in asked)


def _closed(*_: Any) -> torch.Tensor:
    raise RuntimeFailed("torch: this runtime is closed")
