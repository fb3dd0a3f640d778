"""A benchmark of the encoder from start to end, as one object that JSON can hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch

from gait.encoder import Encoder
from gait.runtimes.contenders import SERVED, Against, Contenders, Way
from gait.runtimes.gemm import kernels
from gait.runtimes.machine import OtherWork, describe_machine
from gait.runtimes.measure import EncoderBench, Peak, Row, Shape
from gait.runtimes.memory import MemoryLedger
from gait.runtimes.original import count_flops
from gait.runtimes.runtime import Precision

FORMAT = 1
PACKAGES = ("torch", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx-cu13")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to measure.

    Attributes:
        ways: Runtimes; all that this machine lacks are rows that say so.
        precisions: What they compute in.
        batches: Sequences a call.
        frames: Frames a sequence.
        threads: Cores everybody may use on a CPU.
        seconds: For each runtime and precision at each shape.
        rounds: Turns of everybody.
        against: What the others are compared with.
    """

    ways: tuple[Way, ...]
    precisions: tuple[Precision, ...]
    batches: tuple[int, ...]
    frames: tuple[int, ...]
    threads: int
    seconds: float
    rounds: int
    against: Against | None

    @property
    def shapes(self) -> list[Shape]:
        """Every batch with every number of frames, smallest first."""
        found = {Shape(batch, frames) for batch in self.batches for frames in self.frames}
        return sorted(found, key=lambda shape: (shape.frames, shape.batch))


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What was measured.

    Attributes:
        network: Weights and variant.
        machine: What it ran on.
        device: "cpu" or "cuda:N".
        threads: Cores everybody might use on a CPU.
        busy_cores: Cores that others kept at work meanwhile; None where the system does not say.
        warnings: What makes the figures doubtful.
        interrupted: Whether it was stopped before its end.
        against: The baseline; None without one.
        speedup: Of what is served over the baseline at the first shape; None without one.
        gflop: Billions of operations of one sequence in the unfolded network, by its frames.
        peaks: Fastest product of matrices in each precision.
        rows: What was measured, and what was not and why.
    """

    network: str
    machine: str
    device: str
    threads: int
    busy_cores: float | None
    warnings: tuple[str, ...]
    interrupted: bool
    against: str | None
    speedup: float | None
    gflop: Mapping[str, float]
    peaks: tuple[Peak, ...]
    rows: tuple[Row, ...]

    def to_json(self) -> str:
        """Return it as one JSON object."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, allow_nan=False)


def bench_encoder(
    encoder: Encoder,
    wanted: Wanted,
    *,
    device: str,
    on_progress: Callable[[str], None] = lambda _: None,
) -> BenchReport:
    """Measure one network in every way that was asked for; Ctrl-C ends it early.

    Args:
        encoder: As a user has it: the row "served".
        wanted: What to measure.
        device: "cpu" or "cuda:N".
        on_progress: Called with what comes next.

    Raises:
        DataError: The installation is damaged.
    """
    torch.set_num_threads(wanted.threads)
    others = OtherWork()
    config = encoder.network.config
    contenders = Contenders(encoder.network, device=device, threads=wanted.threads)
    bench = EncoderBench(
        [contenders.served(encoder), *contenders.all(wanted.ways, wanted.precisions)],
        wanted.shapes,
        flops=lambda frames: count_flops(config, frames),
        kernels=lambda precision: kernels(precision, device),
        judge=contenders.judge,
        baseline=contenders.baseline(wanted.against) if wanted.against else None,
        memory=lambda: MemoryLedger(device),
        rounds=wanted.rounds,
        seconds=wanted.seconds,
        on_progress=on_progress,
    )
    interrupted = False
    try:
        bench.run()
    except KeyboardInterrupt:
        interrupted = True
    return BenchReport(
        network=encoder.description,
        machine=describe_machine(device=device, packages=PACKAGES),
        device=device,
        threads=wanted.threads,
        busy_cores=others.busy_cores(),
        warnings=others.warnings(),
        interrupted=interrupted,
        against=wanted.against,
        speedup=_speedup(bench.rows) if wanted.against else None,
        gflop={str(frames): count_flops(config, frames) / 1e9 for frames in wanted.frames},
        peaks=tuple(bench.peaks),
        rows=tuple(bench.rows),
    )


def _speedup(rows: Sequence[Row]) -> float | None:
    return next((row.speedup for row in rows if row.runtime == SERVED and row.speedup), None)
