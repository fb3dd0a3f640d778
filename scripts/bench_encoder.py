"""Measure the encoder's runtimes and rewrite docs/benchmarks-encoder.md: `make bench-encoder`.

All that is compared takes turns within one run, since machines are shared and noisy. The same
tables for any weights: `trackletgait bench encoder` and `trackletgait bench streaming`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gait.encoder import Encoder
from gait.evaluation.plots import draw_encoder_bench
from gait.runtimes.bench_report import PACKAGES, BenchReport, Wanted, bench_encoder
from gait.runtimes.bench_streaming import StreamingReport, StreamingWanted, bench_streaming
from gait.runtimes.devices import pick_device
from gait.runtimes.machine import cores, describe_machine
from pipeline.commands.bench import ON_CPU, ON_GPU
from pipeline.commands.bench_tables import (
    COLUMNS,
    STREAMING_COLUMNS,
    encoder_cells,
    peak_line,
    problems,
    streaming_cells,
    streaming_note,
)
from pipeline.weights import DEFAULT_ENCODER, encoder_file

ROOT = Path(__file__).resolve().parent.parent
QUICK_SECONDS, QUICK_ROUNDS = 0.1, 2


@dataclass(frozen=True)
class Subject:
    """A network and the shapes it is measured at."""

    title: str
    weights: Path | None  # None: standard with random weights
    batches: tuple[int, ...]
    frames: tuple[int, ...]

    def encoder(self, device: str, threads: int) -> Encoder:
        """Open it as it is served."""
        if self.weights is None:
            return Encoder.random(
                "standard", 0, device=device, threads=threads, runtime="auto", precision="auto"
            )
        return Encoder.from_weights(
            self.weights, device=device, threads=threads, runtime="auto", precision="auto"
        )


def subjects(options: argparse.Namespace, device: str) -> list[Subject]:
    """Return what to measure: the bundled network, and standard."""
    if options.quick:
        return [Subject("nano, as it ships", encoder_file(DEFAULT_ENCODER), (1, 8), (30,))]
    batches = (1, 8, 32) if device == "cpu" else (1, 8, 32, 64)
    few = (1, 8) if device == "cpu" else batches
    title = f"standard, {options.weights.name}" if options.weights else "standard, random weights"
    return [
        Subject("nano, as it ships", encoder_file(DEFAULT_ENCODER), batches, (30, 64)),
        Subject(title, options.weights, few, (30,) if device == "cpu" else (30, 64)),
    ]


def wanted(subject: Subject, options: argparse.Namespace, device: str, threads: int) -> Wanted:
    """Return everything that suits the device, against the network a user has today."""
    ways, precisions = ON_GPU if device.startswith("cuda") else ON_CPU
    return Wanted(
        ways=tuple(each.value for each in ways),
        precisions=tuple(each.value for each in precisions),
        batches=subject.batches,
        frames=subject.frames,
        threads=threads,
        seconds=options.seconds,
        rounds=options.rounds,
        against=options.against,
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table."""
    return [
        f"| {' | '.join(columns)} |",
        "|---" * len(columns) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]


def encoder_section(title: str, report: BenchReport, image: Path, page: Path) -> list[str]:
    """Return the page's part about one network."""
    gflop = ", ".join(f"{value:.1f} of {frames} frames" for frames, value in report.gflop.items())
    return [
        f"## {title}, {report.threads} thread(s)",
        "",
        f"Served: {report.network}. GFLOP of a sequence: {gflop}.",
        *(f"**{each}.**" for each in report.warnings),
        "",
        *(f"* Peak in {peak_line(peak)}" for peak in report.peaks),
        *(f"* {problem}" for problem in problems(report)),
        "",
        *table(COLUMNS, [encoder_cells(row) for row in report.rows if row.frames_per_s]),
        f"![Frames a second by runtime and precision]({image.relative_to(page.parent)})",
        "",
    ]


def streaming_section(title: str, report: StreamingReport) -> list[str]:
    """Return the page's part about growing walks of one network."""
    return [
        f"## {title}: growing walks against windows",
        "",
        streaming_note(report) + " The last column: how many times faster streaming without lag "
        "is, within the rounds; where it is below 1, that row wins.",
        *(f"**{each}.**" for each in report.warnings),
        "",
        *table(STREAMING_COLUMNS, [streaming_cells(row) for row in report.rows]),
    ]


def head(options: argparse.Namespace, device: str) -> list[str]:
    """Return the page's beginning."""
    return [
        "# Benchmarks of the encoder",
        "",
        "Written by `make bench-encoder`; do not edit by hand. For other weights and shapes: "
        "`trackletgait bench encoder`, `trackletgait bench streaming`.",
        "",
        f"* When: {datetime.now(UTC):%Y-%m-%d}",
        f"* Machine: {describe_machine(device=device, packages=PACKAGES, root=ROOT)}",
        f"* All rows of a table took turns, {options.rounds} rounds of {options.seconds:g} s each "
        "in all or one call a round; ratios are medians over the rounds",
        f"* speedup: over `{options.against}`, the unfolded network in torch, in the same call "
        "sizes; `served` is `gait.encoder` as a user has it, with its own choice of runtime and "
        "batches",
        "* of peak: GFLOP/s over those of the fastest product of matrices that was found in the "
        "same precision, timed in the same rounds",
        "* MB: what the runtime holds and rises to in its first call, without torch itself; "
        "cosine: of the worst part of the worst real tracklet, with torch in float32; gate: "
        "whether it may serve",
        "",
    ]


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--weights", type=Path, help="trained weights of standard, if you have any")
    parser.add_argument("--against", default="original-graph")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each row")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, cores()}))
    parser.add_argument("--quick", action="store_true", help="only to see that the page is right")
    parser.add_argument("--write", type=Path, default=ROOT / "docs" / "benchmarks-encoder.md")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.rounds, options.threads = QUICK_SECONDS, QUICK_ROUNDS, [1]
    return options


def main() -> None:
    """Measure and write."""
    options = parse()
    device = str(pick_device(options.device))
    lines = head(options, device)
    if options.quick:
        lines += ["**A quick run to see that the page is right: no figure here counts.**", ""]
    for subject in subjects(options, device):
        for threads in options.threads:
            lines += measured(subject, options, device, threads)
    options.write.write_text("\n".join(lines))
    print(f"wrote {options.write}")


def measured(subject: Subject, options: argparse.Namespace, device: str, threads: int) -> list[str]:
    """Measure one network with so many threads and return its sections."""
    image = options.write.parent / "images"
    image /= f"encoder-speed-{subject.title.partition(',')[0]}-{threads}.png"
    with subject.encoder(device, threads) as encoder:
        report = bench_encoder(
            encoder,
            wanted(subject, options, device, threads),
            device=device,
            on_progress=say,
        )
        draw_encoder_bench(report, image)
        lines = encoder_section(subject.title, report, image, options.write)
        if threads == options.threads[0] and not report.interrupted:
            growing = StreamingWanted(
                threads=threads, seconds=options.seconds, rounds=options.rounds
            )
            streaming = bench_streaming(encoder, growing, device=device, on_progress=say)
            lines += streaming_section(subject.title, streaming)
    if report.interrupted:
        raise KeyboardInterrupt
    return lines


def say(text: str) -> None:
    """Print what comes next."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
