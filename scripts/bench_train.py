"""Measure training against the naive way and rewrite docs/benchmarks-training.md.

`make bench-train`. Both ways run in turn, in pairs within one run, since machines are shared and
noisy. The naive way: a pickle a sequence, read by DataLoader workers that change frame after frame
with OpenCV; a network of plain 3-D convolutions, eager, in the default memory format.
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, Dataset

from gait.data.augment import AugmentConfig
from gait.data.dataset import FolderDataset
from gait.data.pack import write_pack
from gait.data.sampling import IdentitySampler, RandomTrackletConfig
from gait.model.blocks import FrameConv, TemporalConv
from gait.model.trackletgait import VARIANTS, TrackletGait
from gait.runtimes.machine import describe_machine
from gait.training.batches import Batch, BatchReader, open_sides
from gait.training.config import TrainingConfig
from gait.training.processes import Processes
from gait.training.step import Stepper

ROOT = Path(__file__).resolve().parent.parent
MACS_A_FRAME = {"standard": 2.739e9, "small": 1.543e9}  # at 64x44
ITERATIONS = 120_000
SUBJECTS, TAKES = 48, 4


@dataclass(frozen=True)
class Pair:
    """Seconds of the naive way and of ours, one after the other."""

    naive_s: float
    ours_s: float

    @property
    def ratio(self) -> float:
        """How many times faster ours was."""
        return self.naive_s / self.ours_s


def write_data(root: Path) -> tuple[Path, Path]:
    """Write moving blobs as pickles and as a pack; return the folder and the pack."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :44]
    for subject in range(SUBJECTS):
        for take in range(TAKES):
            folder = root / "tree" / f"{subject:03d}" / f"nm-{take:02d}" / "000"
            folder.mkdir(parents=True)
            centre = rng.uniform(18, 26, size=(int(rng.integers(60, 121)), 1, 1))
            frames = ((x - centre) ** 2 + ((y - 32) / 3) ** 2 < 100).astype(np.uint8) * 255
            (folder / "000.pkl").write_bytes(pickle.dumps(frames))
    write_pack(FolderDataset(root / "tree"), root / "data.gaitpack")
    (root / "partition.json").write_text(
        f'{{"TRAIN_SET": {[f"{s:03d}" for s in range(SUBJECTS)]}, "TEST_SET": []}}'.replace(
            "'", '"'
        )
    )
    return root / "tree", root / "data.gaitpack"


class NaiveDataset(Dataset[tuple[NDArray[np.float32], int]]):
    """One pickle a sequence, frame after frame through OpenCV, as training code usually does."""

    def __init__(self, root: Path, augment: AugmentConfig) -> None:
        self._files = FolderDataset(root).files
        self._augment, self._sampling = augment, RandomTrackletConfig().build()

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], int]:
        file = self._files[index]
        silhouettes = pickle.loads(file.read_bytes())
        rng = np.random.default_rng(random.getrandbits(32))
        taken = silhouettes[self._sampling.indices(len(silhouettes), rng)]
        return self._changed(taken), int(file.parts[-4])

    def __len__(self) -> int:
        return len(self._files)

    def _changed(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        transforms: list[Callable[[NDArray[Any]], NDArray[Any]]] = []
        width, height, settings = 44, 64, self._augment
        if random.random() < settings.perspective:
            left, right = random.randrange(10), width - 1 - random.randrange(10)
            source = np.array([[left, 0], [right, 0], [right, height], [left, height]], np.float32)
            target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
            tilt = cv2.getPerspectiveTransform(source, target)
            transforms.append(lambda f: cv2.warpPerspective(f, tilt, (width, height)))
        transforms.append(lambda f: f / 255.0)
        if random.random() < settings.mirror:
            transforms.append(lambda f: np.ascontiguousarray(f[:, ::-1]))
        if random.random() < settings.rotation:
            angle = random.uniform(-settings.max_degrees, settings.max_degrees)
            turn = cv2.getRotationMatrix2D((32, 22), angle, 1)
            transforms.append(lambda f: cv2.warpAffine(f, turn, (width, height)))
        return np.stack([_through(transforms, frame) for frame in frames]).astype(np.float32)


def _through(
    transforms: list[Callable[[NDArray[Any]], NDArray[Any]]], frame: NDArray[Any]
) -> NDArray[Any]:
    for transform in transforms:
        frame = transform(frame)
    return frame


def naive_batches(
    root: Path, config: TrainingConfig, device: torch.device
) -> Iterator[torch.Tensor]:
    """Yield batches on the device, in as many workers as ours has threads."""
    dataset = NaiveDataset(root, config.augment)
    labels = [key.subject for key in FolderDataset(root).keys]
    sampler = IdentitySampler(
        labels, num_ids=config.batch.num_ids, per_id=config.batch.per_id, seed=0
    )
    loader: DataLoader[Any] = DataLoader(
        dataset, batch_sampler=sampler, num_workers=config.data.workers  # type: ignore[arg-type]
    )  # fmt: skip
    for silhouettes, _ in loader:
        yield silhouettes.to(device)


def host_batches(config: TrainingConfig) -> Iterator[torch.Tensor]:
    """Yield batches as the host hands them to the device: read ahead from the pack, uint8."""
    reader = BatchReader(open_sides(config.data).train, config)
    for batch in reader.batches(0):
        yield batch.silhouettes


def our_batches(config: TrainingConfig, device: torch.device) -> Iterator[torch.Tensor]:
    """Yield batches on the device, changed there."""
    reader = BatchReader(open_sides(config.data).train, config)
    augment = config.augment.build()
    for batch in reader.batches(0):
        yield augment(batch.silhouettes.to(device), batch.draws)


def seconds_for(batches: Iterator[torch.Tensor], count: int, device: torch.device) -> float:
    """Return how long `count` batches take once the first is there."""
    next(batches)
    _wait(device)
    start = time.perf_counter()
    for _ in islice(batches, count):
        pass
    _wait(device)
    return time.perf_counter() - start


class NaiveStepper(Stepper):
    """The same step, eager, plain 3-D convolutions, default memory format."""

    def __init__(self, network: TrackletGait, config: TrainingConfig, processes: Processes) -> None:
        plain = config.compute.model_copy(update={"channels_last": False, "compile": False})
        super().__init__(network, config.model_copy(update={"compute": plain}), processes)
        for module in self.network.modules():
            if isinstance(module, FrameConv | TemporalConv):
                module.forward = nn.Conv3d.forward.__get__(module)


def step_pairs(
    config: TrainingConfig, processes: Processes, batch: Batch, pairs: int, steps: int
) -> tuple[list[Pair], list[float]]:
    """Return paired times of a step, and how far the first losses of both lie apart."""
    made: list[Stepper] = []
    for kind in (NaiveStepper, Stepper):
        generator = torch.Generator().manual_seed(0)
        made.append(
            kind(TrackletGait.random(config.network, generator, SUBJECTS), config, processes)
        )
    losses = [stepper([batch], 0).figures["loss"] for stepper in made]
    for stepper in made:
        stepper([batch], 0)  # warm-up: kernels are chosen, or compiled
    times = []
    for _ in range(pairs):
        naive_s, ours_s = (_timed(stepper, batch, steps, processes.device) for stepper in made)
        times.append(Pair(naive_s, ours_s))
        print(f"step {config.network.name}: {naive_s:.3f} s, {ours_s:.3f} s", flush=True)
    return times, losses


def _timed(stepper: Stepper, batch: Batch, steps: int, device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    for _ in range(steps):
        stepper([batch], 0)
    _wait(device)
    return (time.perf_counter() - start) / steps


def _peak(device: torch.device, options: argparse.Namespace) -> float | None:
    """Return the FLOP/s of a large matrix product on an accelerator; None on a CPU.

    A CPU's convolutions need fewer operations than one counts, and tell nothing by this measure.
    """
    if device.type == "cpu":
        return None
    size, dtype = 8192, {"bfloat16": torch.bfloat16, "float16": torch.float16}
    a = torch.randn(size, size, device=device).to(dtype.get(options.precision, torch.float32))
    seconds = []
    for _ in range(5):
        _wait(device)
        start = time.perf_counter()
        a @ a
        _wait(device)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def bench_config(
    pack: Path, variant: str, options: argparse.Namespace, *, num_ids: int, frames: int
) -> TrainingConfig:
    """Return the released settings, but for size and precision."""
    return TrainingConfig.model_validate(
        {
            "name": "bench",
            "data": {
                "path": str(pack),
                "partition": str(pack.with_name("partition.json")),
                "workers": options.workers,
            },
            "network": VARIANTS[variant].model_dump(),
            "sampling": {
                "kind": "random_tracklet",
                "lengths": [frames // 4, frames // 2, frames],
                "probabilities": [0.2, 0.3, 0.5],
                "total": frames,
            },
            "batch": {"num_ids": num_ids, "per_id": options.per_id},
            "compute": {"precision": options.precision, "compile": options.compile},
        }
    )


def spread(values: list[float], form: str) -> str:
    """Return minimum, median and maximum."""
    three = (min(values), statistics.median(values), max(values))
    return ", ".join(format(value, form) for value in three)


def data_times(
    tree: Path, config: TrainingConfig, device: torch.device, options: argparse.Namespace
) -> list[tuple[float, float, float]]:
    """Return times of the data path alone: naive, ours on the host, ours with augmentation."""
    times = []
    for _ in range(options.pairs):
        ways = (
            naive_batches(tree, config, device), host_batches(config), our_batches(config, device)
        )  # fmt: skip
        naive_s, host_s, ours_s = (seconds_for(way, options.batches, device) for way in ways)
        times.append((naive_s, host_s, ours_s))
        print(f"data: {naive_s:.3f} s, {host_s:.3f} s, {ours_s:.3f} s", flush=True)
    return times


def step_lines(
    variant: str, pairs: list[Pair], losses: list[float], frames: int, peak: float | None
) -> list[str]:
    """Return the rows about one network."""
    rows = [
        f"| {variant}: step, naive, s | {spread([p.naive_s for p in pairs], '.3f')} | |",
        f"| {variant}: step, ours, s | {spread([p.ours_s for p in pairs], '.3f')} | |",
        f"| {variant}: ours faster, pair by pair | {spread([p.ratio for p in pairs], '.2f')} x "
        "| >= 1.3 x |",
        f"| {variant}: loss of the first step, naive and ours | {losses[0]:.6f}, {losses[1]:.6f} "
        "| equal to rounding |",
    ]
    if peak is None:
        return rows
    step_s = statistics.median(pair.ours_s for pair in pairs)
    flops = 3 * 2 * MACS_A_FRAME[variant] * frames / step_s
    share = f"share of the speed of a large matrix product, {peak / 1e12:.0f} TFLOP/s"
    return [*rows, f"| {variant}: {share} | {flops / peak:.0%} | |"]


def report(rows: list[str], projection: list[str], options: argparse.Namespace, on: str) -> str:
    """Return docs/benchmarks-training.md."""
    return "\n".join(
        [
            "# Benchmarks of training",
            "",
            "Written by `make bench-train`; do not edit by hand. Minimum, median, maximum of "
            f"{options.pairs} pairs; both ways of a pair run one after the other.",
            "",
            f"* When: {datetime.now(UTC):%Y-%m-%d}",
            f"* Machine: {on}",
            f"* Data path: batches of {options.num_ids} x {options.per_id} sequences of 32 frames, "
            f"{options.workers} workers (naive: processes, ours: threads). The naive way changes "
            "silhouettes frame by frame on the host; ours leaves that to the device, where a whole "
            "batch is changed at once: an accelerator waits for the host's part only",
            f"* Step: {options.step_ids} x {options.per_id} sequences of {options.step_frames} "
            f"frames, {options.precision}{', compiled' if options.compile else ''}; augmentation, "
            "forward, losses, backward, update",
            "",
            "| figure | measured | target |",
            "|---|---|---|",
            *rows,
            "",
            *projection,
            "",
        ]
    )


def parse() -> argparse.Namespace:
    """Return the options; sizes fit the device."""
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--batches", type=int, default=40, help="batches of a data round")
    parser.add_argument("--steps", type=int, default=10 if on_gpu else 1)
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1))
    # one by default: where others compute too, threads that wait for each other are slower
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU")
    parser.add_argument("--num-ids", type=int, default=32)
    parser.add_argument("--per-id", type=int, default=4)
    parser.add_argument("--step-ids", type=int, default=32 if on_gpu else 2)
    parser.add_argument("--step-frames", type=int, default=32 if on_gpu else 8)
    parser.add_argument("--precision", default="bfloat16" if on_gpu else "float32")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=on_gpu)
    parser.add_argument("--write", type=Path, default=ROOT / "docs" / "benchmarks-training.md")
    return parser.parse_args()


def main() -> None:
    """Measure and write."""
    options = parse()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as scratch:
        tree, pack = write_data(Path(scratch))
        config = bench_config(pack, "standard", options, num_ids=options.num_ids, frames=32)
        rows = _data_rows(data_times(tree, config, device, options), options)
        peak, medians = _peak(device, options), {}
        for variant in ("standard", "small"):
            config = bench_config(
                pack, variant, options, num_ids=options.step_ids, frames=options.step_frames
            )
            batch = BatchReader(open_sides(config.data).train, config).read(0)
            pairs, losses = step_pairs(
                config, Processes(device), batch, options.pairs, options.steps
            )
            medians[variant] = statistics.median(pair.ours_s for pair in pairs)
            frames = options.step_ids * options.per_id * options.step_frames
            rows += step_lines(variant, pairs, losses, frames, peak)
    machine = describe_machine(device=str(device), packages=["torch"], root=ROOT)
    machine += f", torch threads: {torch.get_num_threads()}"
    text = report(rows, _projection(medians["standard"], options), options, machine)
    options.write.write_text(text)
    print(f"wrote {options.write}")


def _data_rows(times: list[tuple[float, float, float]], options: argparse.Namespace) -> list[str]:
    samples = options.batches * options.num_ids * options.per_id
    naive, host, ours = ([samples / seconds for seconds in way] for way in zip(*times, strict=True))
    return [
        f"| data path, naive: read and changed on the host, samples/s | {spread(naive, '.0f')} | |",
        f"| data path, ours: read on the host, samples/s | {spread(host, '.0f')} | |",
        f"| data path, ours: and changed on the device, samples/s | {spread(ours, '.0f')} | |",
        f"| host faster, round by round | {spread([n / h for n, h, _ in times], '.1f')} x "
        "| >= 5 x |",
        f"| all of it faster, round by round | {spread([n / o for n, _, o in times], '.1f')} x | |",
    ]


def _projection(step_s: float, options: argparse.Namespace) -> list[str]:
    if not torch.cuda.is_available():
        return [
            "The device is the same CPU here, one thread of it against the naive way's processes, "
            "so all of it together gains little; steps of seconds never wait for it.",
            "",
            "No accelerator was at hand: bf16 step time at 32 x 4, its share of the matrix "
            "product's speed there and the hours for 120,000 iterations are not measured. The "
            "same command measures and writes them on a machine with a GPU.",
        ]
    return [
        f"At {step_s:.3f} s a step of {options.step_ids} x {options.per_id} sequences, "
        f"{ITERATIONS:,} iterations of the standard network take {step_s * ITERATIONS / 3600:.0f} "
        "hours."
    ]


if __name__ == "__main__":
    sys.exit(main())
