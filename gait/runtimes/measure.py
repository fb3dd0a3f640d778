"""Measuring runtimes of the encoder against each other and against the machine.

bench = EncoderBench(contenders, shapes, ...)
bench.run()                       # may be interrupted at any time
bench.rows                        # what has been measured so far

All take turns at all shapes, round by round, with the fastest product of matrices of each
precision, so that a busy machine disturbs all alike; ratios are taken within a round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gait.errors import GaitError
from gait.runtimes.gemm import Kernel, KernelSpeed, fastest
from gait.runtimes.memory import MemoryLedger
from gait.runtimes.parity import Verdict
from gait.runtimes.runtime import Precision, Runtime
from gait.runtimes.turns import Clock, Turns, median, pair_ratios

ROUNDS = 5
"""Turns of everyone. More make the medians of ratios steadier, at the price of time where one call
is already longer than its share."""

_KERNEL_SECONDS = 0.3
_SIZE = (64, 44)


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of one call: so many sequences of so many frames."""

    batch: int
    frames: int


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to run the network.

    Attributes:
        runtime: Its name in the table.
        precision: What it computes in.
        open: Makes it ready; raises a `GaitError` that says why where this machine cannot.
        prepare: Makes what `open` needs but is no part of the runtime, before its memory is
            counted; raises as `open`.
    """

    runtime: str
    precision: Precision
    open: Callable[[], Runtime]
    prepare: Callable[[], object] = lambda: None

    @property
    def name(self) -> str:
        """Runtime and precision."""
        return f"{self.runtime} {self.precision}"


@dataclass(frozen=True, slots=True)
class Row:
    """What one contender did at one shape; or, without a shape, why it did nothing.

    Attributes:
        runtime: Its name.
        precision: What it computes in.
        batch: Sequences a call; None where it was never opened.
        frames: Frames a sequence; None where it was never opened.
        description: Name, version, device; empty where it was never opened.
        problem: Why figures are missing; None where they are not.
        calls: How many were timed.
        sequences_per_s: Whole sequences a second, from the median call.
        frames_per_s: Their frames.
        p50_ms: Of a call.
        p95_ms: Of a call.
        gflops: Billions of operations a second, as the unfolded network counts them.
        fraction_of_peak: Of the fastest product of matrices in this precision, round by round.
        memory_mb: Held and risen to at the first call: resident memory, or the device's.
        parity: Lowest cosine of a part against torch in float32, on real tracklets.
        gate: Whether it may serve: "passed", or "failed" and why.
        speedup: Over the baseline, median of the rounds' ratios; None without a baseline.
    """

    runtime: str
    precision: Precision
    batch: int | None
    frames: int | None
    description: str = ""
    problem: str | None = None
    calls: int = 0
    sequences_per_s: float | None = None
    frames_per_s: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    gflops: float | None = None
    fraction_of_peak: float | None = None
    memory_mb: float | None = None
    parity: float | None = None
    gate: str | None = None
    speedup: float | None = None


@dataclass(frozen=True, slots=True)
class Peak:
    """The speed that a precision is held against.

    Attributes:
        precision: Of the products.
        gflops: Billions of operations a second of the fastest, median over the whole run; None if
            none runs here.
        kernel: Which was the fastest.
        candidates: All that were tried.
    """

    precision: Precision
    gflops: float | None
    kernel: str | None
    candidates: tuple[KernelSpeed, ...]


@dataclass(slots=True)
class _Open:
    """A contender that is ready, with what is known about it."""

    contender: Contender
    runtime: Runtime
    memory: MemoryLedger
    verdict: Verdict | None


@dataclass(slots=True)
class _Cell:
    """A contender at a shape."""

    one: _Open
    shape: Shape
    memory_mb: float | None = None

    @property
    def name(self) -> str:
        return _cell_name(self.one.contender, self.shape)

    def call(self, silhouettes: NDArray[np.float32]) -> Callable[[], object]:
        return lambda: self.one.runtime.run(silhouettes, None)


@dataclass(slots=True)
class _Roof:
    """The fastest product of one precision, and how fast it was in every round so far."""

    kernel: Kernel | None
    candidates: tuple[KernelSpeed, ...]
    gflops: list[float] = field(default_factory=list)


class EncoderBench:
    """Runs every contender at every shape, in turns; holds what it measured so far.

    Attributes:
        rows: Those that could not be opened, and then shape by shape.
    """

    def __init__(
        self,
        contenders: Sequence[Contender],
        shapes: Sequence[Shape],
        *,
        flops: Callable[[int], float],
        kernels: Callable[[Precision], list[Kernel]],
        judge: Callable[[Runtime], Verdict],
        baseline: Contender | None = None,
        memory: Callable[[], MemoryLedger] = MemoryLedger,
        rounds: int = ROUNDS,
        seconds: float = 2.0,
        clock: Clock = time.perf_counter,
        on_progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Remember what to measure.

        Args:
            contenders: Ways to run one network.
            shapes: Sizes of a call, smallest first.
            flops: Operations of one sequence of so many frames.
            kernels: Products of matrices of a precision that a contender may be held against.
            judge: How a runtime compares with torch in float32; not asked about the baseline.
            baseline: What the others are compared with, in the same rounds.
            memory: Makes what counts the memory of one contender.
            rounds: As `ROUNDS`.
            seconds: For each contender at each shape. More make percentiles trustworthy.
            clock: What tells the time.
            on_progress: Called with what comes next.
        """
        self._contenders = [*([baseline] if baseline else []), *contenders]
        self._baseline = baseline
        self._shapes = list(shapes)
        self._flops, self._kernels, self._judge = flops, kernels, judge
        self._memory, self._rounds, self._seconds = memory, rounds, seconds
        self._clock, self._on_progress = clock, on_progress
        self._roofs: dict[Precision, _Roof] = {}
        self.rows: list[Row] = []

    @property
    def peaks(self) -> list[Peak]:
        """The roof of each precision that was measured."""
        return [
            Peak(
                precision,
                median(roof.gflops),
                roof.kernel.name if roof.kernel else None,
                roof.candidates,
            )
            for precision, roof in self._roofs.items()
        ]

    def run(self) -> None:
        """Measure everything; an interruption leaves what was measured in `rows`."""
        with ExitStack() as stack:
            opened = [
                one for each in self._contenders if (one := self._open(each, stack)) is not None
            ]
            for precision in dict.fromkeys(each.contender.precision for each in opened):
                self._on_progress(f"timing products of matrices in {precision}")
                kernel, tried = fastest(
                    self._kernels(precision), seconds=_KERNEL_SECONDS, clock=self._clock
                )
                self._roofs[precision] = _Roof(kernel, tuple(tried))
            self._measure([_Cell(each, shape) for shape in self._shapes for each in opened])

    def _open(self, contender: Contender, stack: ExitStack) -> _Open | None:
        self._on_progress(f"opening {contender.name}")
        try:
            contender.prepare()
            memory = self._memory()
            with memory.watching():
                runtime = stack.enter_context(closing(contender.open()))
            self._on_progress(f"comparing {contender.name} with torch in float32")
            verdict = None if contender is self._baseline else self._judge(runtime)
        except GaitError as error:
            self.rows.append(_without_figures(contender, str(error)))
            return None
        return _Open(contender, runtime, memory, verdict)

    def _measure(self, cells: Sequence[_Cell]) -> None:
        """Let all take turns at all shapes, and add a row for each."""
        products = {
            _roof_name(precision): roof.kernel.run
            for precision, roof in self._roofs.items()
            if roof.kernel is not None
        }
        inputs = {shape: _silhouettes(shape) for shape in self._shapes}
        calls = {cell.name: cell.call(inputs[cell.shape]) for cell in cells}
        turns = Turns({**calls, **products}, clock=self._clock)
        try:
            for cell in cells:
                self._on_progress(f"warming up {cell.name}")
                with cell.one.memory.watching():
                    turns.warm_up(cell.name)
                cell.memory_mb = cell.one.memory.peak_mb
            for number in range(self._rounds):
                self._on_progress(f"measuring in turns, round {number + 1} of {self._rounds}")
                turns.run(rounds=1, seconds=self._seconds / self._rounds, once=products)
        finally:
            self._add_rows(cells, turns)

    def _add_rows(self, cells: Sequence[_Cell], turns: Turns) -> None:
        for precision, roof in self._roofs.items():
            if roof.kernel is not None:
                times = turns.times[_roof_name(precision)]
                roof.gflops += [roof.kernel.flops / s / 1e9 for s in times.calls]
        self.rows += [
            self._row(cell, turns)
            for cell in cells
            if turns.times[cell.name].rounds or turns.times[cell.name].problem
        ]

    def _row(self, cell: _Cell, turns: Turns) -> Row:
        times, one, shape = turns.times[cell.name], cell.one, cell.shape
        if not times.rounds:
            return _without_figures(one.contender, times.problem or "", shape)
        flops = shape.batch * self._flops(shape.frames)
        median_s = times.percentile(50)
        return Row(
            one.contender.runtime,
            one.contender.precision,
            shape.batch,
            shape.frames,
            description=one.runtime.description,
            problem=times.problem,
            calls=len(times.calls),
            sequences_per_s=shape.batch / median_s,
            frames_per_s=shape.batch * shape.frames / median_s,
            p50_ms=1000 * median_s,
            p95_ms=1000 * times.percentile(95),
            gflops=flops / median_s / 1e9,
            fraction_of_peak=self._fraction(cell, flops, turns),
            memory_mb=cell.memory_mb,
            parity=one.verdict.min_cosine if one.verdict else None,
            gate=_gate(one.verdict),
            speedup=self._speedup(cell, turns),
        )

    def _fraction(self, cell: _Cell, flops: float, turns: Turns) -> float | None:
        precision = cell.one.contender.precision
        kernel = self._roofs[precision].kernel
        if kernel is None:
            return None
        ratios = pair_ratios(turns.times[_roof_name(precision)], turns.times[cell.name])
        return median([ratio * flops / kernel.flops for ratio in ratios])

    def _speedup(self, cell: _Cell, turns: Turns) -> float | None:
        if self._baseline is None:
            return None
        slow = turns.times.get(_cell_name(self._baseline, cell.shape))
        return None if slow is None else median(pair_ratios(slow, turns.times[cell.name]))


def _gate(verdict: Verdict | None) -> str | None:
    if verdict is None:
        return None
    found = "passed" if verdict.passed else f"failed: {verdict.reason}"
    return f"{found} ({verdict.figures})"


def _without_figures(contender: Contender, problem: str, shape: Shape | None = None) -> Row:
    batch, frames = (shape.batch, shape.frames) if shape else (None, None)
    return Row(contender.runtime, contender.precision, batch, frames, problem=problem)


def _cell_name(contender: Contender, shape: Shape) -> str:
    return f"{contender.name} at [{shape.batch}, {shape.frames}]"


def _roof_name(precision: Precision) -> str:
    return f"product in {precision}"


def _silhouettes(shape: Shape) -> NDArray[np.float32]:
    """Return noise of two grey levels: what is in a picture does not change how long it takes."""
    rng = np.random.default_rng(0)
    size = (shape.batch, shape.frames, *_SIZE)
    return rng.integers(0, 2, size, dtype=np.uint8).astype(np.float32)
