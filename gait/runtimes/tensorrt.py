"""ONNX graphs by TensorRT: one adapter over `tensorrt` and `tensorrt_rtx`, whose API is the same.

The full product is taken where its libraries load, else TensorRT for RTX, which also parses and
builds on a machine without a GPU. Networks are strongly typed: precision is what the graph says.
An engine is only ever built here or taken from the user's own cache (`gait.runtimes.cache`), under
a key of everything it depends on; nobody can hand one in.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from gait.errors import RuntimeUnavailable
from gait.runtimes import tensorrt_cache
from gait.runtimes.cuda_memory import Gpu, Workspace, describe_gpu, why_no_cuda
from gait.runtimes.failures import translated
from gait.runtimes.onnx_file import OnnxFile, read_onnx
from gait.runtimes.session import Port, Profile
from gait.runtimes.tensorrt_cache import Sealed
from gait.runtimes.tensorrt_network import Network, ParseReport, Product, Progress
from gait.runtimes.tensorrt_profiles import (
    Ranges,
    check_ranges,
    default_ranges,
    ranges_from_json,
    ranges_to_json,
)
from gait.runtimes.tensorrt_session import Diary, Interface, TensorRTSession

logger = logging.getLogger(__name__)

Profiles = Mapping[str, Profile] | Sequence[Ranges] | None
"""Shapes to build for: one range, several, or None for `tensorrt_profiles.default_ranges`."""

_INSTALL = (
    "pip install --no-deps tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13"
)
_ENGINE, _TIMINGS, _KERNELS = "tensorrt-engine", "tensorrt-timings", "tensorrt-kernels"
_PRECISION = "trackletgait.precision"  # what `gait.export` writes into its graphs
_loading = threading.Lock()


def available() -> str | None:
    """Return None where graphs can run by TensorRT, else what is missing."""
    try:
        _product()
    except RuntimeUnavailable as error:
        return str(error)
    return why_no_cuda()


def product_title() -> str:
    """Return name and version of the product that is used.

    Raises:
        RuntimeUnavailable: None is installed, or its libraries do not load.
    """
    return _product().title


def parse(onnx: Path | bytes) -> ParseReport:
    """Return what TensorRT makes of a graph. No GPU is needed with TensorRT for RTX.

    Raises:
        CheckpointError: It is no ONNX graph, is cut off, or names other files.
        RuntimeUnavailable: TensorRT is missing, or an input or output has a type it cannot give.
    """
    return Network(_product(), read_onnx(onnx)).report


def build(
    onnx: Path | bytes,
    *,
    profiles: Profiles = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> bytes:
    """Return an engine's plan; it is not kept. TensorRT for RTX needs no GPU for that.

    Args:
        onnx: The file, or its content.
        profiles: Shapes to build for.
        device: GPU to build for. None with TensorRT for RTX: for all it knows from 8.0 on.
        progress: Told how far it is, from the building thread. What it raises ends the build.

    Raises:
        CheckpointError: It is no ONNX graph, is cut off, or names other files.
        RuntimeUnavailable: TensorRT is missing or cannot build it; the message has its words, and
            the unsupported nodes by name.
        ValueError: The profiles do not fit the graph.
    """
    product, file = _product(), read_onnx(onnx)
    gpu = None if device is None else describe_gpu(device)
    with _on(gpu):
        return _build(product, gpu, file, profiles, progress).content


def open_session(
    onnx: Path | bytes,
    *,
    device: str = "cuda:0",
    profiles: Profiles = None,
    progress: Progress | None = None,
) -> TensorRTSession:
    """Open a graph on a GPU: by the engine of an earlier start, or by one that is built now.

    A build leaves the interpreter to other threads.

    Args:
        onnx: The file, or its content.
        device: "cuda" or "cuda:N".
        profiles: Shapes to build for.
        progress: Told how far a build is, from the calling thread. What it raises ends the build.

    Raises:
        CheckpointError: It is no ONNX graph, is cut off, or names other files.
        RuntimeUnavailable: TensorRT, the GPU or its driver is missing, or TensorRT cannot run the
            graph on this GPU; the message has its words.
        RuntimeFailed: The GPU has no room for a stream, or is gone.
        ValueError: The profiles do not fit the graph, or `device` is no GPU's name.
    """
    product = _product()
    gpu = describe_gpu(device)
    file = read_onnx(onnx)
    key = _key(product, gpu, file, profiles)
    with _on(gpu):
        interface, engine = _engine(product, gpu, file, key, profiles, progress)
        context, keep_kernels = _context(product, engine, key)
        try:
            workspace = Workspace(gpu.device)
        except RuntimeError as error:
            raise translated(error, f"{file.name}: cannot begin on {gpu.device}") from error
    return TensorRTSession(
        context,
        interface,
        workspace,
        product.diary,
        description=f"{file.name} by {product.title} on {gpu.name} ({gpu.device})",
        metadata=file.metadata,
        on_compiled=keep_kernels,
    )


def _product() -> Product:
    with _loading:  # a process may have one logger, and several threads open sessions
        return _load_product()


@functools.cache
def _load_product() -> Product:
    reasons = []
    for load in (_full_product, _rtx_product):
        try:
            name, vendor = load()
            diary = Diary()
            return Product(vendor, f"{name} {vendor.__version__}", _log(vendor, diary), diary)
        except Exception as error:  # packages without their libraries fail in many ways
            reasons.append(" ".join(str(error).split()))
    raise RuntimeUnavailable(f"TensorRT is not usable here ({'; '.join(reasons)}); {_INSTALL}")


def _full_product() -> tuple[str, Any]:
    import tensorrt

    return "TensorRT", tensorrt


def _rtx_product() -> tuple[str, Any]:
    import tensorrt_rtx

    return "TensorRT for RTX", tensorrt_rtx


def _log(vendor: Any, diary: Diary) -> Any:
    class Log(vendor.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            vendor.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            diary.add(severity.name, message)

    return Log()


def _on(gpu: Gpu | None) -> AbstractContextManager[Any]:
    """Make a GPU that of the calling thread, for the vendor looks at that one."""
    if gpu is None:
        return contextlib.nullcontext()
    import torch

    return torch.cuda.device(gpu.device)


def _key(product: Product, gpu: Gpu, file: OnnxFile, profiles: Profiles) -> dict[str, str]:
    """Return everything an engine depends on."""
    return {
        "onnx_sha256": hashlib.sha256(file.content).hexdigest(),
        "precision": file.metadata.get(_PRECISION, "as in the graph"),
        "profiles": "default" if profiles is None else ranges_to_json(_as_ranges(profiles)),
        **_machine(product, gpu),
    }


def _machine(product: Product, gpu: Gpu) -> dict[str, str]:
    return {
        "product": product.title,
        "gpu": gpu.name,
        "compute_capability": f"{gpu.capability[0]}.{gpu.capability[1]}",
        "driver": gpu.driver,
    }


def _as_ranges(profiles: Mapping[str, Profile] | Sequence[Ranges]) -> tuple[Ranges, ...]:
    return (profiles,) if isinstance(profiles, Mapping) else tuple(profiles)


def _engine(
    product: Product,
    gpu: Gpu,
    file: OnnxFile,
    key: Mapping[str, str],
    profiles: Profiles,
    progress: Progress | None,
) -> tuple[Interface, Any]:
    """Return an engine that is ready, and what it takes and gives."""
    kept = tensorrt_cache.find(_ENGINE, key)
    if kept is not None:
        try:
            return _interface(kept), _deserialise(product, gpu, kept.content)
        except RuntimeUnavailable as error:
            tensorrt_cache.forget(_ENGINE, key, str(error))
    built = _build(product, gpu, file, profiles, progress)
    engine = _deserialise(product, gpu, built.content)
    tensorrt_cache.keep(_ENGINE, key, built)  # not before it is known to load
    return _interface(built), engine


def _build(
    product: Product,
    gpu: Gpu | None,
    file: OnnxFile,
    profiles: Profiles,
    progress: Progress | None,
) -> Sealed:
    """Return a plan with notes on what it takes and gives."""
    network = Network(product, file)
    inputs, outputs = network.report.inputs, network.report.outputs
    ranges = default_ranges(inputs) if profiles is None else _as_ranges(profiles)
    check_ranges(ranges, inputs)
    where = "" if gpu is None else f" for {gpu.name}"
    logger.info("%s: %s builds an engine%s", file.name, product.title, where)
    started_s = time.perf_counter()
    timings_key = {} if gpu is None else _machine(product, gpu)
    known = tensorrt_cache.find(_TIMINGS, timings_key) if timings_key else None
    plan, learnt = network.plan(
        ranges,
        capability=None if gpu is None else gpu.capability,
        timings=None if known is None else known.content,
        progress=progress,
    )
    if timings_key and learnt is not None:
        tensorrt_cache.keep(_TIMINGS, timings_key, Sealed({}, learnt))
    logger.info("%s: built in %.1f s", file.name, time.perf_counter() - started_s)
    notes = {
        "inputs": _ports_to_json(inputs),
        "outputs": _ports_to_json(outputs),
        "ranges": ranges_to_json(ranges),
    }
    return Sealed(notes, plan)


def _interface(built: Sealed) -> Interface:
    """Raise RuntimeUnavailable if the notes are of another version of ours."""
    try:
        return Interface(
            _ports_from_json(built.notes["inputs"]),
            _ports_from_json(built.notes["outputs"]),
            ranges_from_json(built.notes["ranges"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RuntimeUnavailable(f"the notes beside an engine are no notes ({error!r})") from error


def _ports_to_json(ports: Sequence[Port]) -> str:
    return json.dumps([[port.name, port.shape, port.dtype.name] for port in ports])


def _ports_from_json(text: str) -> tuple[Port, ...]:
    return tuple(
        Port(str(name), tuple(shape), np.dtype(dtype)) for name, shape, dtype in json.loads(text)
    )


def _deserialise(product: Product, gpu: Gpu, plan: bytes) -> Any:
    """Return the vendor's engine. It tells by None, not by an exception, that it has none."""
    mark = product.diary.mark()
    runtime, engine = None, None
    with contextlib.suppress(RuntimeError, TypeError):  # the diary has the reason
        runtime = product.vendor.Runtime(product.log)
        engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise RuntimeUnavailable(
            f"{product.title} does not take the engine it has built for {gpu.name} (compute "
            f"capability {gpu.capability[0]}.{gpu.capability[1]}, driver {gpu.driver}): "
            f"{product.diary.since(mark)}{_diagnosis(product.vendor, runtime, plan)}"
        )
    return engine


def _diagnosis(vendor: Any, runtime: Any, plan: bytes) -> str:
    """Return what TensorRT for RTX finds wrong with a plan; the full product does not tell."""
    if not hasattr(runtime, "get_engine_validity"):
        return ""
    _, found = runtime.get_engine_validity(plan)
    reasons = vendor.EngineInvalidityDiagnostics.__members__.items()
    told = [name for name, reason in reasons if int(found) & int(reason)]
    return f" ({', '.join(told)})" if told else ""


def _context(
    product: Product, engine: Any, key: Mapping[str, str]
) -> tuple[Any, Callable[[], None]]:
    """Return an execution context without memory, and what keeps the kernels it compiles.

    TensorRT for RTX compiles kernels while it runs, and gives them out to be kept.
    """
    vendor, mark = product.vendor, product.diary.mark()
    strategy = vendor.ExecutionContextAllocationStrategy.USER_MANAGED
    keep: Callable[[], None] = _nothing
    if hasattr(vendor, "IRuntimeCache"):
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        keep = _kernels(config, key)
        context = engine.create_execution_context(config)
    else:
        context = engine.create_execution_context(strategy)
    if context is None:
        raise RuntimeUnavailable(
            f"{product.title} cannot start the engine: {product.diary.since(mark)}"
        )
    return context, keep


def _kernels(config: Any, key: Mapping[str, str]) -> Callable[[], None]:
    kernels = config.create_runtime_cache()
    known = tensorrt_cache.find(_KERNELS, key)
    if known is not None and not kernels.deserialize(known.content):
        tensorrt_cache.forget(_KERNELS, key, "TensorRT does not take these kernels")
    config.set_runtime_cache(kernels)
    last = b"" if known is None else known.content

    def keep() -> None:
        nonlocal last
        serialised = kernels.serialize()
        now = b"" if serialised is None else bytes(serialised)
        if now not in (b"", last):
            last = now
            tensorrt_cache.keep(_KERNELS, key, Sealed({}, now))

    return keep


def _nothing() -> None:
    pass
