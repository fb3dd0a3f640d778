"""Open an ONNX graph with the best vendor that this machine has."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from gait.errors import RuntimeFailed, RuntimeUnavailable
from gait.runtimes.session import Profile, Session, Vendor

logger = logging.getLogger(__name__)

_Choice = tuple[Vendor, str]


def open_session(
    onnx: Path | bytes,
    *,
    vendor: Vendor | Literal["auto"] = "auto",
    device: str = "auto",
    threads: int | None = 1,
    profiles: Mapping[str, Profile] | None = None,
) -> Session:
    """Open a graph; of several ways, the fastest that works, and the log says which did not.

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


def _choices(vendor: Vendor | Literal["auto"], device: str) -> list[_Choice]:
    """Return what to try, the fastest first; never empty."""
    from gait.runtimes import onnx_runtime

    gpu = "cuda:0" if device == "auto" else device
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
    if device in ("auto", "cpu"):
        found.append(("onnxruntime", "cpu"))
    return found


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
    if vendor == "tensorrt":
        from gait.runtimes import tensorrt

        return tensorrt.open_session(onnx, device=device, profiles=profiles)
    if vendor == "openvino":
        from gait.runtimes import openvino

        return openvino.open_session(onnx, device=device, threads=threads)
    from gait.runtimes import onnx_runtime

    return onnx_runtime.open_session(onnx, device=device, threads=threads, profiles=profiles)
