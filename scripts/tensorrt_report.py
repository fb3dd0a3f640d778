"""Say what TensorRT does with our networks on this machine: build, parity, times.

    python scripts/tensorrt_report.py [--weights FILE] [--variant standard] [--json FILE]

Without a GPU it parses and builds, which TensorRT for RTX can do anywhere, and says what is missing
for the rest. Engines are built anew, in a cache of their own: nothing of the user's is touched.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch

from gait.errors import GaitError
from gait.export import export
from gait.model.checkpoint import load_checkpoint
from gait.model.folded import fold
from gait.model.trackletgait import VARIANTS, TrackletGait, initialise
from gait.runtimes import tensorrt
from gait.runtimes.machine import describe_machine
from gait.runtimes.parity import check
from gait.runtimes.runtime import Precision, Runtime
from gait.runtimes.session_runtime import SessionRuntime
from gait.runtimes.torch_runtime import TorchRuntime
from gait.runtimes.turns import Times, Turns

BUNDLED = Path(__file__).resolve().parent.parent / "pipeline" / "models"
SHAPES = ((1, 30), (8, 30), (32, 30), (64, 30), (1, 128), (8, 128), (1, 720))
ROUNDS, SECONDS = 5, 2.0


@dataclass
class Engine:
    """What became of one graph.

    Attributes:
        graph: Network and precision, or the file's name.
        layers: After parsing.
        plan_mb: Size of the engine; None when it was not built.
        build_s: Time of the build.
        reopen_s: Time to open it again by the cache.
        verdict: Of the parity gate.
        problem: Why it does not run here, in the vendor's words.
    """

    graph: str
    layers: int = 0
    plan_mb: float | None = None
    build_s: float | None = None
    reopen_s: float | None = None
    verdict: str = ""
    problem: str = ""


@dataclass
class Row:
    """Times of one shape, milliseconds a call."""

    graph: str
    batch: int
    frames: int
    tensorrt_p50_ms: float
    tensorrt_p95_ms: float
    torch_p50_ms: float | None
    frames_per_s: float


def main() -> int:
    """Write the report to the standard output; return 0 if everything that can run here ran."""
    arguments = _arguments()
    print(f"# TensorRT on {describe_machine(device=_device(arguments.device))}\n")
    try:
        print(f"{tensorrt.product_title()}; {tensorrt.available() or 'a GPU is there'}\n")
    except GaitError as error:
        print(error)
        return 1
    with _own_cache():
        engines, rows = _report(arguments)
    _print_table("Engines", engines)
    _print_table("Times", rows)
    if arguments.json is not None:
        content = {"engines": [asdict(e) for e in engines], "rows": [asdict(r) for r in rows]}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")
    return 1 if any(engine.problem for engine in engines) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--weights", type=Path, help="a trained network (.safetensors or .pt)")
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="standard",
                        help="network with random weights, where none is given")  # fmt: skip
    parser.add_argument("--precision", nargs="+", default=["float32", "float16"])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    return parser.parse_args()


def _device(asked: str) -> str:
    return "cpu" if tensorrt.available() is not None else asked


@contextmanager
def _own_cache() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRACKLETGAIT_CACHE"] = folder
        yield


def _report(arguments: argparse.Namespace) -> tuple[list[Engine], list[Row]]:
    model = _model(arguments)
    engines: list[Engine] = []
    rows: list[Row] = []
    for precision in arguments.precision:
        engine = Engine(f"{model.config.name} {precision}")
        engines.append(engine)
        try:
            onnx = export(model, precision=precision, has_lengths=True, checked=False).onnx
            _build(engine, onnx)
            if tensorrt.available() is None:
                rows += _run(engine, model, onnx, precision, arguments.device)
        except GaitError as error:
            engine.problem = str(error)
    for path in sorted(BUNDLED.glob("*.onnx")):
        engines.append(_bundled(path, arguments.device))
    return engines, rows


def _model(arguments: argparse.Namespace) -> TrackletGait:
    if arguments.weights is not None:
        return load_checkpoint(arguments.weights).model
    model = TrackletGait(VARIANTS[arguments.variant])
    initialise(model, torch.Generator().manual_seed(0))
    return model.eval()


def _bundled(path: Path, device: str) -> Engine:
    engine = Engine(path.name)
    try:
        _build(engine, path)
        if tensorrt.available() is None:
            engine.reopen_s = _reopen(path, device)
    except GaitError as error:
        engine.problem = str(error)
    return engine


def _build(engine: Engine, onnx: Path | bytes) -> None:
    engine.layers = tensorrt.parse(onnx).layers
    start = time.perf_counter()
    # The full product builds for the GPU that is current; the other one needs none.
    engine.plan_mb = len(tensorrt.build(onnx)) / 1e6
    engine.build_s = time.perf_counter() - start


def _reopen(onnx: Path | bytes, device: str) -> float:
    """Return the seconds the second opening takes, when the engine is in the cache."""
    tensorrt.open_session(onnx, device=device).close()
    start = time.perf_counter()
    tensorrt.open_session(onnx, device=device).close()
    return time.perf_counter() - start


def _run(
    engine: Engine, model: TrackletGait, onnx: bytes, precision: Precision, device: str
) -> list[Row]:
    engine.reopen_s = _reopen(onnx, device)
    session = tensorrt.open_session(onnx, device=device)
    runtime = SessionRuntime(session, name="tensorrt", precision=precision, has_lengths=True)
    with closing(runtime):
        verdict = check(runtime, model)
        engine.verdict = f"{'passed' if verdict.passed else verdict.reason}: {verdict.figures}"
        # Torch has no int8; float16 is what it would serve there.
        rival_precision = precision if precision in ("float32", "float16") else "float16"
        rival = TorchRuntime(
            fold(model), device=torch.device(device), precision=cast(Precision, rival_precision)
        )
        with closing(rival):
            return [_time(engine.graph, runtime, rival, *shape) for shape in SHAPES]


def _time(graph: str, runtime: Runtime, rival: Runtime, batch: int, frames: int) -> Row:
    x_NTHW = np.random.default_rng(0).random((batch, frames, 64, 44), np.float32)
    turns = Turns({
        "tensorrt": lambda: runtime.run(x_NTHW, None),
        "torch": lambda: rival.run(x_NTHW, None),
    })  # fmt: skip
    turns.warm_up()
    turns.run(rounds=ROUNDS, seconds=SECONDS)
    ours, torchs = turns.times["tensorrt"], turns.times["torch"]
    p50, p95 = _ms(ours, 50) or float("nan"), _ms(ours, 95) or float("nan")
    return Row(graph, batch, frames, p50, p95, _ms(torchs, 50), 1000 * batch * frames / p50)


def _ms(times: Times, percent: float) -> float | None:
    return 1000 * times.percentile(percent) if times.rounds else None


def _print_table(title: str, rows: Sequence[Engine] | Sequence[Row]) -> None:
    if not rows:
        print(f"## {title}: none, nothing can run here\n")
        return
    names = list(asdict(rows[0]))
    print(f"## {title}\n\n| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for row in rows:
        print(f"| {' | '.join(_cell(value) for value in asdict(row).values())} |")
    print()


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value).replace("|", "/") or "-"


if __name__ == "__main__":
    sys.exit(main())
