"""What a vendor's error means. They report in texts alone: one class of exception for everything.

The texts are those of CUDA (https://docs.nvidia.com/cuda/cuda-runtime-api, `cudaError`), cuBLAS,
cuDNN, ONNX Runtime's arena (`BFCArena`), torch's allocators and C++ (`std::bad_alloc`).
"""

from __future__ import annotations

import re

from gait.errors import DeviceLost, OutOfMemory, RuntimeFailed

_OUT_OF_MEMORY = re.compile(
    r"out of memory|failed to allocate memory|available memory of \d+ is smaller|bad.?alloc"
    r"|can(?:no|')t allocate memory"
    r"|memoryallocation|_ALLOC_FAILED|cuda (?:failure|error) 2\b|outofmemory",
    re.IGNORECASE,
)
# Errors after which the context is gone for the whole process; `cudaError` calls them so.
_DEVICE_LOST = re.compile(
    r"cuda (?:failure|error) (?:46|100|101|201|214|220|700|702|709|71\d|72[0-2]|999)\b"
    r"|illegal memory access|illegal instruction|misaligned address|unspecified launch failure"
    r"|launch timed out|hardware stack error|uncorrectable .*ecc|device-side assert"
    r"|devices? (?:is|are) busy or unavailable|no cuda-capable device|gpu (?:is|has been) lost"
    r"|(?:gpu|device) (?:has )?fallen off|device (?:was )?(?:lost|removed)"
    r"|driver shutting down|CUDNN_STATUS_EXECUTION_FAILED|CUBLAS_STATUS_EXECUTION_FAILED"
    r"|DEVICE_RESET",
    re.IGNORECASE,
)


def translated(error: BaseException, doing: str) -> RuntimeFailed:
    """Return what a vendor's exception means, to be raised from it.

    Args:
        error: The vendor's.
        doing: What failed, with the runtime's name: how the message begins.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    if _DEVICE_LOST.search(text):
        return DeviceLost(f"{doing}: the device does not answer any more ({text})")
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(text):
        return OutOfMemory(f"{doing}: out of memory; give it fewer at once ({text})")
    return RuntimeFailed(f"{doing}: {text}")
