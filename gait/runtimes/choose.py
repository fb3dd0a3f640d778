"""Which runtime serves: by device, by what is installed, and by who passes the gate.

On a CPU onnxruntime and else torch; on a GPU tensorrt, else torch, else onnxruntime; openvino only
by name. Whoever cannot serve is passed over with a warning that says why. At the end of every list
stands torch in float32 as it is, which all others are compared with.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from gait.errors import CheckpointError, GaitError, RuntimeFailed, RuntimeUnavailable
from gait.model.checkpoint import model_hash
from gait.model.folded import fold
from gait.model.trackletgait import TrackletGait
from gait.runtimes import torch_runtime
from gait.runtimes.batching import FRAMES_A_CALL
from gait.runtimes.devices import pick_device
from gait.runtimes.graphs import Graph
from gait.runtimes.meanwhile import Meanwhile, OnStep
from gait.runtimes.parity import Candidate, Verdict, judge, known_verdict
from gait.runtimes.runtime import Precision, Runtime, RuntimeName
from gait.runtimes.session import Session
from gait.runtimes.session_runtime import SessionRuntime
from gait.runtimes.torch_runtime import TorchRuntime

logger = logging.getLogger(__name__)

ORDER: Mapping[str, tuple[RuntimeName, ...]] = {
    "cpu": ("onnxruntime", "torch"),
    "cuda": ("tensorrt", "torch", "onnxruntime"),
}
"""Who is asked, in turn, by the kind of device."""

AUTO_PRECISION: Mapping[str, Precision] = {"cpu": "float32", "cuda": "float16"}

EXPORT_S = 5.0
"""About what an export costs, seconds: on a CPU torch serves until it has computed as long, so
that neither a short run nor a long one loses more than once that."""

_PRECISIONS: Mapping[str, tuple[Precision, ...]] = {
    "onnxruntime": ("float32", "float16", "int8"),
    "tensorrt": ("float32", "float16", "bfloat16", "int8"),
    "openvino": ("float32", "float16", "bfloat16", "int8"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """What is wanted.

    Attributes:
        model: In float32 on the CPU.
        model_hash: Of it.
        device: Where it is to run.
        names: Who is asked, in turn.
        precision: What it is to compute in.
        threads: Cores it may use on a CPU; None leaves it to the runtime.
        asked: Who was asked for by name.
    """

    model: TrackletGait
    model_hash: str
    device: torch.device
    names: tuple[RuntimeName, ...]
    precision: Precision
    threads: int | None
    asked: RuntimeName | None


class Judged:
    """A runtime that has passed the gate, and says so."""

    def __init__(self, runtime: Runtime, verdict: Verdict) -> None:
        self._runtime = runtime
        self.name: RuntimeName = runtime.name
        self.precision = runtime.precision
        self.takes_padding = runtime.takes_padding
        self.verdict = verdict
        self.description = f"{runtime.description} (cosine to torch {verdict.min_cosine:.6f})"

    def run(
        self, silhouettes_NTHW: NDArray[np.floating[Any]], lengths_N: NDArray[np.int64] | None
    ) -> NDArray[np.floating[Any]]:
        """Return the embeddings; see `gait.runtimes.runtime.Runtime.run`."""
        return self._runtime.run(silhouettes_NTHW, lengths_N)

    def close(self) -> None:
        """Close the runtime."""
        self._runtime.close()


class _NotReady(Exception):
    """Something would have to be built first."""


def choose(
    model: TrackletGait,
    *,
    device: str | torch.device = "auto",
    runtime: RuntimeName | Literal["auto"] = "auto",
    precision: Precision | Literal["auto"] = "auto",
    threads: int | None = None,
    wait: bool = True,
) -> Runtime:
    """Return the runtime that serves a network best here; it owns what it holds.

    Args:
        model: In float32 on the CPU. It stays as it is, and must.
        device: As `pick_device` takes it.
        runtime: Who is asked first; the usual order follows.
        precision: "auto" is float32 on a CPU and float16 on a GPU.
        threads: Cores it may use on a CPU; None leaves it to the runtime.
        wait: Whether to build what has to be built now: exporting takes seconds, compiling a
            minute, TensorRT minutes, once for each machine. Without it torch serves in float32
            while a thread builds; by "auto" on a CPU not before `EXPORT_S` of computing, because
            for less an export does not pay.

    Raises:
        ValueError: `device` is not on this machine, or `model` is not float32 on the CPU.
        OutOfMemory: The network does not fit at all.
        DeviceLost: The device is gone.
    """
    order = _without_absent(_order(model, device, runtime, precision, threads))
    if wait:
        return _first_that_serves(order, _go_on)
    ready = _ready(order)
    if ready is not None:
        return ready
    must_pay = order.device.type == "cpu" and order.asked != order.names[0]
    return Meanwhile(
        _plain_torch(order),
        lambda on_step: _first_that_serves(order, on_step),
        after_s=EXPORT_S if must_pay else 0.0,
    )


def why_not(name: RuntimeName, device: torch.device, precision: Precision) -> str | None:
    """Return why a runtime cannot serve on a device in a precision, or None where it may."""
    if name == "torch":
        return torch_runtime.unavailable(precision, device)
    if precision not in _PRECISIONS[name]:
        return f"{name}: expected {', '.join(_PRECISIONS[name])}, got {precision}"
    if name == "tensorrt":
        from gait.runtimes import tensorrt

        return "tensorrt: needs a GPU" if device.type == "cpu" else tensorrt.available()
    if name == "openvino":
        from gait.runtimes import openvino

        return openvino.available(str(device))
    from gait.runtimes import onnx_runtime

    return onnx_runtime.available(str(device))


def _order(
    model: TrackletGait,
    device: str | torch.device,
    runtime: RuntimeName | Literal["auto"],
    precision: Precision | Literal["auto"],
    threads: int | None,
) -> Order:
    weight = next(model.parameters())
    if weight.dtype != torch.float32 or weight.device.type != "cpu":
        raise ValueError(f"model: expected float32 on cpu, got {weight.dtype} on {weight.device}")
    where = pick_device(str(device))
    usual = ORDER[where.type]
    names = usual if runtime == "auto" else (runtime, *(each for each in usual if each != runtime))
    wanted = AUTO_PRECISION[where.type] if precision == "auto" else precision
    asked = None if runtime == "auto" else runtime
    return Order(model.eval(), model_hash(model), where, names, wanted, threads, asked)


def _without_absent(order: Order) -> Order:
    """Return the order without those who cannot serve, which the log is told."""
    able = []
    for name in order.names:
        problem = why_not(name, order.device, order.precision)
        if problem is None:
            able.append(name)
        else:
            _pass_over(name, order, problem)
    return replace(order, names=tuple(able))


def _pass_over(name: RuntimeName, order: Order, problem: object) -> None:
    logger.warning("encoder: %s in %s does not serve: %s", name, order.precision, problem)


def _first_that_serves(order: Order, on_step: OnStep) -> Runtime:
    """Return the first runtime of the list that can be opened and passes the gate."""
    for name in order.names:
        if _is_plain(name, order):
            break
        on_step()
        try:
            return _named(_served(name, order, on_step), order)
        except (RuntimeUnavailable, RuntimeFailed, CheckpointError) as error:
            _pass_over(name, order, error)
    return _named(_plain_torch(order), order)


def _named(runtime: Judged | TorchRuntime, order: Order) -> Runtime:
    """Return a runtime whose description says what it stands in for."""
    is_other = order.asked not in (None, runtime.name) or runtime.precision != order.precision
    if is_other:
        runtime.description += f" instead of {order.asked or 'a runtime'} in {order.precision}"
    return runtime


def _served(name: RuntimeName, order: Order, on_step: OnStep) -> Judged:
    """Return a runtime that has passed the gate.

    Raises:
        GaitError: It cannot be opened or run, or has not passed.
    """
    candidate = _open(name, order, on_step)
    try:
        return _passed(candidate, judge(candidate, order.model, on_step=on_step))
    except BaseException:
        candidate.runtime.close()
        raise


def _passed(candidate: Candidate, verdict: Verdict) -> Judged:
    if not verdict.passed:
        raise RuntimeUnavailable(
            f"{candidate.runtime.description} was refused at the gate: {verdict.reason}, got "
            f"{verdict.figures}"
        )
    judged = Judged(candidate.runtime, verdict)
    logger.info("encoder: %s", judged.description)
    return judged


def _ready(order: Order) -> Runtime | None:
    """Return what serves without anything being built, or None."""
    if not order.names or _is_plain(order.names[0], order):
        return _named(_plain_torch(order), order)
    try:
        return _named(_known_to_pass(order.names[0], order), order)
    except (_NotReady, GaitError):
        return None


def _known_to_pass(name: RuntimeName, order: Order) -> Judged:
    if name == "torch" or not _graph(name, order).is_kept():
        raise _NotReady
    candidate = _open(name, order, _not_now)
    try:
        verdict = known_verdict(candidate)
        if verdict is None:
            raise _NotReady
        return _passed(candidate, verdict)
    except BaseException:
        candidate.runtime.close()
        raise


def _is_plain(name: RuntimeName, order: Order) -> bool:
    """Return whether this is what all others are compared with."""
    return name == "torch" and order.device.type == "cpu" and order.precision == "float32"


def _plain_torch(order: Order) -> TorchRuntime:
    return TorchRuntime(fold(order.model), device=order.device, threads=order.threads)


def _open(name: RuntimeName, order: Order, on_step: OnStep) -> Candidate:
    device = str(order.device)
    if name == "torch":
        runtime = TorchRuntime(
            fold(order.model), device=order.device, precision=order.precision,
            compiled=order.device.type == "cuda", threads=order.threads,
        )  # fmt: skip
        return Candidate(runtime, order.model_hash, device)
    graph = _graph(name, order)
    onnx = graph.exported(on_step)
    session = open_by(name, onnx, device=device, threads=order.threads, progress=_Progress(on_step))
    runtime_by_session = SessionRuntime(
        session,
        name=name,
        precision=order.precision,
        has_lengths=graph.has_lengths,
        most_frames=FRAMES_A_CALL["cpu"] if order.device.type == "cpu" else None,
    )
    return Candidate(runtime_by_session, order.model_hash, device, hashlib.sha256(onnx).hexdigest())


def _graph(name: RuntimeName, order: Order) -> Graph:
    return Graph(order.model, order.model_hash, order.precision, name, order.device.type)


def open_by(
    name: RuntimeName,
    onnx: bytes,
    *,
    device: str,
    threads: int | None,
    progress: Callable[[str, float], None] | None = None,
) -> Session:
    """Open a graph by one runtime and no other; nobody stands in for it.

    Raises:
        RuntimeUnavailable: It cannot be opened here.
        CheckpointError: It is no ONNX graph.
    """
    if name == "tensorrt":
        from gait.runtimes import tensorrt

        return tensorrt.open_session(onnx, device=device, progress=progress)
    if name == "openvino":
        from gait.runtimes import openvino

        return openvino.open_session(onnx, device=device, threads=threads)
    from gait.runtimes import onnx_runtime

    return onnx_runtime.open_session(onnx, device=device, threads=threads)


class _Progress:
    """Tells the log how far a build is, every tenth of it."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step
        self._tenths = -1

    def __call__(self, phase: str, fraction: float) -> None:
        self._on_step()
        if int(fraction * 10) > self._tenths:
            self._tenths = int(fraction * 10)
            logger.info("encoder: tensorrt: %.0f %% built (%s)", fraction * 100, phase)


def _go_on() -> None:
    """Nobody wants it to stop."""


def _not_now() -> None:
    raise _NotReady
