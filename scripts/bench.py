"""Measure the main job and rewrite docs/benchmarks.md: `make bench`.

Ratios are taken in pairs within one run, since machines are shared and noisy.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil

from gait.runtimes.machine import describe_machine
from pipeline.config import PipelineConfig
from pipeline.file_run import FileRun
from pipeline.sources.inputs import sample_path
from pipeline.weights import DEFAULT_ENCODER

ROOT = Path(__file__).resolve().parent.parent
MODELS = ("read", "detect", "segment", "encode")


@dataclass
class Memory:
    """Resident memory of this process, sampled while a block runs."""

    peak_mb: float = 0.0
    samples: list[tuple[float, float]] = field(default_factory=list)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Sample until the block ends."""
        process, over = psutil.Process(), threading.Event()

        def watch() -> None:
            while not over.wait(0.2):
                rss_mb = process.memory_info().rss / 1e6
                self.peak_mb = max(self.peak_mb, rss_mb)
                self.samples.append((time.monotonic(), rss_mb))

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@dataclass(frozen=True)
class Measured:
    """One run over files."""

    frames: int
    people_in_view: float
    wall_s: float
    stages: dict[str, tuple[int, float]]

    @property
    def fps(self) -> float:
        """Frames a second from start to end."""
        return self.frames / self.wall_s

    @property
    def overhead(self) -> float:
        """Share of the time outside decoding and the models; true only without overlap."""
        return 1 - sum(self.stages.get(name, (0, 0.0))[1] for name in MODELS) / self.wall_s


def run(
    inputs: list[Path],
    out: Path,
    *,
    ahead: int,
    identify: bool = True,
    max_frames: int | None = None,
) -> Measured:
    """Process `inputs` at the default configuration but for what is named here."""
    config = PipelineConfig.model_validate(
        {
            "runtime": {"ahead": ahead, "streams_at_once": 1},
            "output": {"video": False},
            "read": {"max_frames": max_frames},
        }
    )
    job = FileRun(list(inputs), out=out, config=config)
    if not identify:
        job.pipeline.interrupt()
    start = time.perf_counter()
    for _ in job._run():  # without the videos and the report: they are no part of the loop
        pass
    wall_s = time.perf_counter() - start
    stages = {name: (s.items, s.seconds) for name, s in job.telemetry.stages.items()}
    frames = stages["detect"][0]
    return Measured(frames, stages["segment"][0] / frames, wall_s, stages)


def stage_table(measured: Measured) -> list[str]:
    """Return the Markdown table of stage times."""
    lines = ["| stage | items | ms per item | share of wall time |", "|---|---|---|---|"]
    for name, (items, seconds) in measured.stages.items():
        per_item = f"{1000 * seconds / items:.2f}" if items else "-"
        lines.append(f"| {name} | {items} | {per_item} | {seconds / measured.wall_s:.1%} |")
    return lines


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3, help="pairs of overlapped and serial runs")
    parser.add_argument("--pair-frames", type=int, default=200, help="frames in each run of a pair")
    parser.add_argument("--loops", type=int, default=10, help="times the clip is repeated for RSS")
    parser.add_argument("--write", type=Path, default=ROOT / "docs" / "benchmarks.md")
    options = parser.parse_args()
    clip = sample_path()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        looped = [
            Path(shutil.copy(clip, Path(scratch) / f"loop-{n:02d}.mp4"))
            for n in range(options.loops)
        ]
        memory = Memory()
        with memory.watched():  # first, so that the memory is that of one run
            long = run(looped, out, ahead=2)
        perception = [run([clip], out, ahead=2, identify=False) for _ in range(3)]
        print("perception fps", [round(m.fps, 1) for m in perception], flush=True)
        pairs = []
        for _ in range(options.pairs):
            serial = run([clip], out, ahead=0, max_frames=options.pair_frames)
            overlapped = run([clip], out, ahead=2, max_frames=options.pair_frames)
            pairs.append((serial, overlapped))
            print("pair", serial.wall_s, overlapped.wall_s, flush=True)
    options.write.write_text(report(perception, pairs, long, memory, options.loops))
    print(f"wrote {options.write}")


def report(
    perception: list[Measured],
    pairs: list[tuple[Measured, Measured]],
    long: Measured,
    memory: Memory,
    loops: int,
) -> str:
    """Return docs/benchmarks.md."""
    serial = pairs[0][0]
    ratios = sorted(a.wall_s / b.wall_s for a, b in pairs)
    fps = sorted(m.fps for m in perception)
    tenth = len(memory.samples) // loops
    early = statistics.median(rss for _, rss in memory.samples[tenth : 2 * tenth])
    late = statistics.median(rss for _, rss in memory.samples[-tenth:])
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`; do not edit by hand. Of the encoder alone: "
        "[benchmarks-encoder.md](benchmarks-encoder.md); of training: "
        "[benchmarks-training.md](benchmarks-training.md); of live cameras: "
        "[benchmarks-live.md](benchmarks-live.md); of search in galleries: "
        "[benchmarks-search.md](benchmarks-search.md); of trackers: "
        "[trackers-evaluated.md](trackers-evaluated.md).",
        "",
        f"* When: {datetime.now(UTC):%Y-%m-%d}",
        f"* Machine: {describe_machine(root=ROOT)}",
        "* Clip: the sample, 768x576, 10 fps, 200 frames, "
        f"{perception[0].people_in_view:.1f} people followed in a frame on average",
        "* Configuration: the default (bundled detector and segmenter, ByteTrack, "
        f"{DEFAULT_ENCODER}), files on local disk",
        "",
        "| figure | measured | target |",
        "|---|---|---|",
        f"| perception alone, fps (min, median, max of {len(fps)}) | "
        f"{fps[0]:.1f}, {statistics.median(fps):.1f}, {fps[-1]:.1f} | >= 10 |",
        f"| end to end, fps over {long.frames} frames | {long.fps:.2f} | |",
        f"| overlapped against one after another (min, median, max of {len(pairs)} pairs) | "
        f"{ratios[0]:.2f}x, {statistics.median(ratios):.2f}x, {ratios[-1]:.2f}x | >= 1.4x |",
        f"| time outside decoding and the models, one after another | {serial.overhead:.1%} | "
        "< 10 % |",
        f"| peak RSS over the clip {loops} times | {memory.peak_mb:.0f} MB | < 1500 MB |",
        f"| RSS in the last repetition against the second (medians) | {late:.0f} / {early:.0f} MB "
        f"= {late / early:.3f} | flat |",
        "",
        "## Stages, one after another",
        "",
        f"{serial.frames} frames in {serial.wall_s:.1f} s. `segment` counts people, `encode` "
        "silhouettes, `match` tracklets, all others frames.",
        "",
        *stage_table(serial),
        "",
        "## Stages, overlapped",
        "",
        f"{long.frames} frames in {long.wall_s:.1f} s. Stages run at the same time, so shares add "
        "up to more than 100 %, and each is slowed by the others.",
        "",
        *stage_table(long),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
