"""`trackletgait bench`: how fast this machine is, beside how fast it could be."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.weights import DEFAULT_ENCODER, ENCODERS, encoder_file

if TYPE_CHECKING:
    from gait.encoder import Encoder
    from gait.runtimes.bench_report import BenchReport, Wanted
    from gait.runtimes.bench_streaming import StreamingReport

app = typer.Typer(help="Measure how fast this machine is.", no_args_is_help=True)

STDOUT = Path("-")
EXIT_INTERRUPTED = 130
_MOST_FRAMES = 720
_MOST_SEQUENCES = 512


class RuntimeChoice(StrEnum):
    """What can run the encoder."""

    TORCH = "torch"
    TORCH_COMPILED = "torch-compiled"
    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"
    TENSORRT = "tensorrt"


class PrecisionChoice(StrEnum):
    """What it can compute in."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"


class AgainstChoice(StrEnum):
    """What it can be compared with."""

    ORIGINAL_GRAPH = "original-graph"
    ORIGINAL_CHANNELS_LAST = "original-channels-last"


class VariantChoice(StrEnum):
    """Sizes of a random network."""

    STANDARD = "standard"
    SMALL = "small"
    NANO = "nano"


ON_CPU = (
    (
        RuntimeChoice.TORCH,
        RuntimeChoice.ONNXRUNTIME,
        RuntimeChoice.OPENVINO,
        RuntimeChoice.TENSORRT,
    ),
    (PrecisionChoice.FLOAT32, PrecisionChoice.BFLOAT16, PrecisionChoice.INT8),
)
ON_GPU = (tuple(RuntimeChoice), tuple(PrecisionChoice))


@app.callback()
def _bench() -> None:
    """Measure how fast this machine is."""


Weights = Annotated[
    str | None,
    typer.Argument(
        help=f"A bundled network ({', '.join(ENCODERS)}; default {DEFAULT_ENCODER}), or a "
        "weights file (.safetensors, .pt)."
    ),
]
IsRandom = Annotated[
    bool, typer.Option("--random", help="Measure a network with random weights instead.")
]
Variant = Annotated[VariantChoice | None, typer.Option(help="Size of the random network.")]


@app.command("encoder")
def encoder_command(
    weights: Weights = None,
    random: IsRandom = False,
    variant: Variant = None,
    runtime: Annotated[
        list[RuntimeChoice] | None,
        typer.Option(help="What runs it; repeatable. Default: all; torch-compiled on a GPU only."),
    ] = None,
    precision: Annotated[
        list[PrecisionChoice] | None,
        typer.Option(help="What it computes in; repeatable. Default: what suits the device."),
    ] = None,
    batch: Annotated[str, typer.Option(help="Sequences a call, with commas.")] = "1,8,32",
    frames: Annotated[str, typer.Option(help="Frames a sequence, with commas.")] = "30,64",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Cores to use on a CPU. Default: all.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    seconds: Annotated[
        float,
        typer.Option(
            min=0.01,
            help="For each runtime and precision at each shape; more make p95 trustworthy.",
        ),
    ] = 2.0,
    rounds: Annotated[
        int, typer.Option(min=1, help="Turns of each; ratios are medians of as many.")
    ] = 5,
    against: Annotated[
        AgainstChoice | None,
        typer.Option(
            help="Compare with the unfolded network in torch, in the same run: as published, or "
            "with maps laid out as this program had them before it folded networks."
        ),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(help="Write one JSON object to this file; - prints it and nothing else."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw frames/s and the roof to this .png or .svg.")
    ] = None,
) -> None:
    """Measure every runtime and precision of the encoder, in turns, beside the machine's peak.

    What this machine lacks is a row that says why. The first run on a machine also exports graphs
    and compares each precision with torch: minutes for a large network in int8. Ctrl-C prints what
    was measured so far. Exit code 0: done, 1: failed, 2: wrong usage, 130: stopped.
    """
    _check_files(json, plot)
    _check_network(weights, random=random, variant=variant)
    batches = _numbers(batch, "--batch", _MOST_SEQUENCES)
    lengths = _numbers(frames, "--frames", _MOST_FRAMES)
    where = _device(device)
    from gait.runtimes.bench_report import Wanted
    from gait.runtimes.machine import cores

    ways, precisions = ON_GPU if where.startswith("cuda") else ON_CPU
    wanted = Wanted(
        ways=tuple(each.value for each in runtime or ways),
        precisions=tuple(each.value for each in precision or precisions),
        batches=batches,
        frames=lengths,
        threads=threads or cores(),
        seconds=seconds,
        rounds=rounds,
        against=against.value if against else None,
    )
    _run(wanted, weights, variant if random else None, where, json=json, plot=plot)


@app.command("streaming")
def streaming_command(
    weights: Weights = None,
    random: IsRandom = False,
    variant: Variant = None,
    stride: Annotated[
        str, typer.Option(help="New silhouettes between two embeddings, with commas.")
    ] = "1,8,30",
    window: Annotated[
        str, typer.Option(help="Silhouettes of a window that is computed anew, with commas.")
    ] = "30,64",
    history: Annotated[
        int,
        typer.Option(min=2, max=_MOST_FRAMES, help="Silhouettes of a walk that is computed anew."),
    ] = 240,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Cores to use on a CPU. Default: all.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    seconds: Annotated[float, typer.Option(min=0.01, help="For each way.")] = 2.0,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each.")] = 5,
    json: Annotated[
        Path | None,
        typer.Option(help="Write one JSON object to this file; - prints it and nothing else."),
    ] = None,
) -> None:
    """Measure growing walks against computing windows of them anew, in turns.

    Exit code 0: done, 1: failed, 2: wrong usage, 130: stopped.
    """
    _check_files(json, None)
    _check_network(weights, random=random, variant=variant)
    where = _device(device)
    strides = _numbers(stride, "--stride", _MOST_FRAMES // 2)
    windows = _numbers(window, "--window", _MOST_FRAMES)
    from gait.runtimes.bench_streaming import StreamingWanted, bench_streaming
    from gait.runtimes.machine import cores

    wanted = StreamingWanted(strides, windows, history, threads or cores(), seconds, rounds)
    with (
        _progress() as on_progress,
        _encoder(
            weights, variant if random else None, where, wanted.threads, on_progress
        ) as encoder,
    ):
        report = bench_streaming(encoder, wanted, device=where, on_progress=on_progress)
    _show_streaming(report, json)
    if report.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)


def _run(
    wanted: Wanted,
    weights: str | None,
    variant: VariantChoice | None,
    device: str,
    *,
    json: Path | None,
    plot: Path | None,
) -> None:
    from gait.runtimes.bench_report import bench_encoder

    with (
        _progress() as on_progress,
        _encoder(weights, variant, device, wanted.threads, on_progress) as encoder,
    ):
        report = bench_encoder(encoder, wanted, device=device, on_progress=on_progress)
    _show(report, json, plot)
    if report.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)


def _encoder(
    weights: str | None,
    variant: VariantChoice | None,
    device: str,
    threads: int,
    on_progress: Callable[[str], None],
) -> Encoder:
    from gait.encoder import Encoder

    on_progress("opening the encoder as it is served")
    options: dict[str, Any] = {
        "device": device,
        "threads": threads,
        "runtime": "auto",
        "precision": "auto",
    }
    if variant is not None:
        return Encoder.random(variant, 0, **options)
    return Encoder.from_weights(encoder_file(weights or DEFAULT_ENCODER), **options)


def _show(report: BenchReport, json: Path | None, plot: Path | None) -> None:
    from pipeline.commands.bench_tables import print_encoder

    _give(report.to_json(), json, lambda: print_encoder(report))
    if plot is not None:
        from gait.evaluation.plots import draw_encoder_bench

        draw_encoder_bench(report, plot)


def _show_streaming(report: StreamingReport, json: Path | None) -> None:
    from pipeline.commands.bench_tables import print_streaming

    _give(report.to_json(), json, lambda: print_streaming(report))


def _give(content: str, json: Path | None, print_table: Callable[[], None]) -> None:
    """Print the object and nothing else, or the table; write the object if there is a file."""
    from gait.data.atomic import write_atomically

    if json == STDOUT:
        sys.stdout.write(content + "\n")
        return
    print_table()
    if json is not None:
        write_atomically(json, content.encode())


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show on a terminal what is being done; never on stdout, which may be a JSON object."""
    from pipeline.commands.console import Console

    console = Console(stderr=True)
    with console.status("starting") as status:
        yield lambda text: status.update(text)


def _check_files(json: Path | None, plot: Path | None) -> None:
    """Refuse before minutes of work what could not be written after them."""
    for option, path in (("--json", json), ("--plot", plot)):
        if path is not None and path.is_dir():
            raise typer.BadParameter(f"expected a file, got the folder {path}", param_hint=option)
    if plot is None:
        return
    if plot.suffix.lower() not in (".png", ".svg"):
        raise typer.BadParameter(
            f"expected a file that ends with .png or .svg, got {plot}", param_hint="--plot"
        )
    from gait.evaluation.plots import require_matplotlib

    require_matplotlib("leave out --plot")


def _check_network(weights: str | None, *, random: bool, variant: VariantChoice | None) -> None:
    if random and weights is not None:
        raise typer.BadParameter(
            f"expected weights or --random, got {weights} and --random", param_hint="--random"
        )
    if random and variant is None:
        raise typer.BadParameter(
            f"expected --variant {', '.join(VariantChoice)} with --random, got none",
            param_hint="--variant",
        )
    if variant is not None and not random:
        raise typer.BadParameter(
            "weights say themselves which variant they are; add --random for random ones",
            param_hint="--variant",
        )


def _numbers(text: str, option: str, most: int) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= most for part in parts):
        raise typer.BadParameter(
            f"expected whole numbers of 1 to {most} with commas, such as 1,8,32; got {text!r}",
            param_hint=option,
        )
    return tuple(dict.fromkeys(int(part) for part in parts))


def _device(name: str) -> str:
    from gait.runtimes.devices import pick_device

    try:
        return str(pick_device(name))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--device") from error
