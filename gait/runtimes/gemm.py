"""How fast this machine multiplies matrices: the roof over every network.

No single kernel is the roof: torch.matmul may run at half the speed of the convolutions beside it.
So several real ones are timed, and the fastest is the peak of its precision.

Legend of the shape suffixes: N batch, C channels, H, W, M rows of the left, K its columns,
R columns of the right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from gait.errors import RuntimeFailed
from gait.runtimes.runtime import Precision
from gait.runtimes.turns import Clock, Times, Turns

_SIDE = {"cpu": 1536, "cuda": 8192}
_SLOW_SIDE = 512  # where a precision has no fast kernel, a large product would take minutes
_FRAMES = {"cpu": 30, "cuda": 960}
_CHANNELS, _HEIGHT, _WIDTH = 256, 16, 11  # the convolutions standard spends most of its time in
_DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True, slots=True)
class Kernel:
    """One product of matrices, ready to run.

    Attributes:
        name: Who multiplies what.
        precision: Of its inputs.
        flops: Of one call; 2 for a multiplication with its addition.
        run: Calls it and waits for the end.
    """

    name: str
    precision: Precision
    flops: float
    run: Callable[[], object]


@dataclass(frozen=True, slots=True)
class KernelSpeed:
    """How fast one product was at its best.

    Attributes:
        name: Who multiplied what.
        precision: Of its inputs.
        gflops: Billions of operations a second at its fastest call; None if it does not run here.
        problem: Why it does not; None if it does.
    """

    name: str
    precision: Precision
    gflops: float | None
    problem: str | None


def kernels(precision: Precision, device: str = "cpu") -> list[Kernel]:
    """Return the products to try for one precision; some may not run on this machine."""
    kind = "cuda" if device.startswith("cuda") else "cpu"
    if precision == "int8":
        return [_int8_product(_SIDE[kind], device)]
    is_slow = kind == "cpu" and precision == "float16"
    side = _SLOW_SIDE if is_slow else _SIDE[kind]
    found = [_product(side, precision, device)]
    if kind == "cpu" and precision == "float32":
        found.append(_onednn_product(side))
    return [*found, _convolution(1 if is_slow else _FRAMES[kind], precision, device)]


def fastest(
    candidates: Sequence[Kernel], *, seconds: float, clock: Clock
) -> tuple[Kernel | None, list[KernelSpeed]]:
    """Return the fastest of these, and the speed of each at its best; None if none runs.

    Args:
        candidates: Of one precision.
        seconds: How long to try each.
        clock: What tells the time.
    """
    turns = Turns({each.name: each.run for each in candidates}, clock=clock)
    turns.warm_up()
    turns.run(rounds=3, seconds=seconds)
    speeds = [_speed(each, turns.times[each.name]) for each in candidates]
    running = [
        (speed.gflops, kernel)
        for speed, kernel in zip(speeds, candidates, strict=True)
        if speed.gflops is not None
    ]
    best = max(running, key=lambda each: each[0], default=None)
    return (best[1] if best else None), speeds


def _speed(kernel: Kernel, times: Times) -> KernelSpeed:
    gflops = kernel.flops / min(times.calls) / 1e9 if times.problem is None else None
    return KernelSpeed(kernel.name, kernel.precision, gflops, times.problem)


def _product(side: int, precision: Precision, device: str) -> Kernel:
    def prepare() -> Callable[[], object]:
        a_MK, b_KR = (_random((side, side), precision, device) for _ in range(2))
        return lambda: torch.matmul(a_MK, b_KR)

    return _kernel(f"torch.matmul, {side} square", precision, 2.0 * side**3, device, prepare)


def _onednn_product(side: int) -> Kernel:
    """Return the product as oneDNN computes it; torch.matmul leaves float32 to MKL."""

    def prepare() -> Callable[[], object]:
        a_MK, b_RK = (torch.randn(side, side).to_mkldnn() for _ in range(2))
        return lambda: torch.nn.functional.linear(a_MK, b_RK)

    return _kernel(f"oneDNN linear, {side} square", "float32", 2.0 * side**3, "cpu", prepare)


def _int8_product(side: int, device: str) -> Kernel:
    def prepare() -> Callable[[], object]:
        a_MK, b_KR = (
            torch.randint(-127, 128, (side, side), dtype=torch.int8, device=device)
            for _ in range(2)
        )
        return lambda: torch._int_mm(a_MK, b_KR)

    return _kernel(f"torch._int_mm, {side} square", "int8", 2.0 * side**3, device, prepare)


def _convolution(frames: int, precision: Precision, device: str) -> Kernel:
    """Return the 3x3 convolution that standard spends most of its time in."""

    def prepare() -> Callable[[], object]:
        x_NCHW = _random((frames, _CHANNELS, _HEIGHT, _WIDTH), precision, device)
        weight = _random((_CHANNELS, _CHANNELS, 3, 3), precision, device)
        x_NCHW, weight = (
            each.contiguous(memory_format=torch.channels_last) for each in (x_NCHW, weight)
        )
        return lambda: torch.conv2d(x_NCHW, weight, None, 1, 1)

    flops = 2.0 * 9 * _CHANNELS**2 * frames * _HEIGHT * _WIDTH
    name = f"torch.conv2d 3x3, {_CHANNELS} channels, {frames} x {_HEIGHT} x {_WIDTH}"
    return _kernel(name, precision, flops, device, prepare)


def _random(shape: tuple[int, ...], precision: Precision, device: str) -> torch.Tensor:
    return torch.randn(shape, device=device).to(_DTYPES[precision])


def _kernel(
    name: str,
    precision: Precision,
    flops: float,
    device: str,
    prepare: Callable[[], Callable[[], object]],
) -> Kernel:
    """Return a kernel that prepares its inputs in its first call, and raises our errors."""
    product: Callable[[], object] | None = None

    def run() -> None:
        nonlocal product
        try:
            with torch.inference_mode():
                product = product or prepare()
                product()
            if device.startswith("cuda"):
                torch.cuda.synchronize(device)
        except (RuntimeError, AttributeError) as error:  # a torch built without that kernel
            first_line = str(error).partition("\n")[0]
            raise RuntimeFailed(f"{name}: {first_line}") from error

    return Kernel(name, precision, flops, run)
