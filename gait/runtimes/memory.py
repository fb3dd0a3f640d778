"""How much memory something holds, and how far it rises beyond that while it runs."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"  # proc(5): reset the peak resident set size to the current value


class MemoryLedger:
    """Adds up what one thing takes, block by block, among others in the same process.

    On the CPU: resident memory of this process, as Linux keeps its peak. On a GPU: what the whole
    device has given away; others who use it at the same time are counted too.

    Attributes:
        peak_mb: What it held when the last block began, and how far that block rose above; None
            where the system does not tell.
    """

    def __init__(self, device: str = "cpu") -> None:
        gc.collect()  # what is garbage by now must not be given back later, when we look
        self._device = device
        self._held = 0.0
        self.peak_mb: float | None = None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Count what the block takes."""
        give_back_memory(self._device)
        can_tell = self._device.startswith("cuda") or _forget_peak()
        before = self._now()
        yield
        peak = self._peak()
        give_back_memory(self._device)
        after = self._now()
        if not can_tell or before is None or peak is None or after is None:
            self.peak_mb = None
            return
        self.peak_mb = (self._held + max(0.0, peak - before)) / 1e6
        self._held += max(0.0, after - before)

    def _now(self) -> float | None:
        if self._device.startswith("cuda"):
            return _device_bytes(self._device)
        return _status_bytes("VmRSS")

    def _peak(self) -> float | None:
        if self._device.startswith("cuda"):  # libraries there keep what they once took
            return _device_bytes(self._device)
        return _status_bytes("VmHWM")


def give_back_memory(device: str = "cpu") -> None:
    """Hand memory that is free inside this process back, so that the next peak is its own."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # a C library without malloc_trim
            ctypes.CDLL(None).malloc_trim(0)
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()


def _forget_peak() -> bool:
    """Return whether the system let us: some containers do not."""
    try:
        _CLEAR.write_text(_FORGET_PEAK)
    except OSError:
        return False
    return True


def _status_bytes(key: str) -> float | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name == key:
            return 1024.0 * int(value.split()[0])
    return None


def _device_bytes(device: str) -> float:
    import torch

    free, total = torch.cuda.mem_get_info(device)
    return float(total - free)
