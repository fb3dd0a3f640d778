"""Compare the paper's ingredients on SynthGait: `make ablations`.

Trains every configuration `configs/gait/synthgait_ablation*.yaml` with every seed, evaluates each
network on the test side of the first one's data, and writes docs/synthgait-ablations.md. Stop it
when you like: it goes on where it stopped, and leaves out what is done.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gait.data.atomic import write_atomically
from gait.errors import GaitError
from gait.model.trackletgait import TrackletGait, TrackletGaitConfig
from gait.training.batches import open_sides
from gait.training.checkpoints import MODEL_FILE, Checkpoints, load_trained, read_card
from gait.training.config import TrainingConfig, differences, load_config
from gait.training.observers import Observer
from gait.training.processes import Processes, joined
from gait.training.trainer import CHECKPOINTS, Trainer
from gait.training.validation import validate
from pipeline.commands.console import Console

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs" / "gait"
PAGE = ROOT / "docs" / "synthgait-ablations.md"
BASE = "synthgait_ablation"
PROTOCOL = "gait3d"
SHOWN = {
    "rank-1": "Rank-1",
    "mAP": "mAP",
    "unseen/rank-1": "unseen views: Rank-1",
    "unseen/mAP": "mAP",
}
UNSEEN = "partition-unseen-views.json"
TEACHER = f"{BASE}-wide"  # one seed is enough: every taught network learns from that one

ROWS = {
    BASE: "nano: RTS, Haar wavelet, hardness exclusion, segmentation noise",
    f"{BASE}-ordered": "ordered sampling instead of RTS",
    f"{BASE}-max": "max pooling instead of the wavelet",
    f"{BASE}-strided": "strided convolutions instead of the wavelet",
    f"{BASE}-plain-triplets": "plain triplets, no hardness exclusion",
    f"{BASE}-clean": "trained without segmentation noise",
    f"{BASE}-gaitbase": "GaitBase, narrowed; ordered, plain triplets",
    f"{BASE}-deepgaitv2-p3d": "DeepGaitV2-P3D, narrowed; ordered, plain triplets",
    TEACHER: "wide: the first row with more channels",
    f"{BASE}-taught": "nano, distilled from wide (seed 0)",
}


HEAD = """\
Written by `scripts/ablate.py` (`make ablations`); do not edit by hand. Every row is trained with
the same budget of {base.iterations} steps of {base.batch.num_ids} x {base.batch.per_id} sequences,
the same schedule and the same seeds, from nothing, and tested on the same people, who are not in
training: seen from the side and from at most 15 degrees above, in one set of clothes, by masks as
a segmenter makes them (the data: [training.md](training.md)). Unseen views: probes of who walks
towards the camera or away from it, seen from up to 40 degrees above, as nobody is in training.
Either probes are looked for among all other walks of the people who test. On SynthGait-Wild itself
so few steps learn nothing.
Percent, mean over the seeds ± standard deviation between them. Differences smaller than the spread
mean nothing; so few steps say which ingredient learns faster, not which is better in the end."""


class TimeIsUp(Exception):
    """The budget is used up; what is done is on disk."""


@dataclass(frozen=True, slots=True)
class Job:
    """One network to train.

    Attributes:
        config: With its seed.
        folder: Of the run.
        result: File of its figures; there once it is done.
    """

    config: TrainingConfig
    folder: Path
    result: Path


class Deadline(Observer):
    """Ends a run, after its next checkpoint, when the time is up."""

    def __init__(self, at_s: float) -> None:
        self._at_s = at_s

    def saved(self, checkpoint: Path) -> None:
        """Raise if the time is up.

        Raises:
            TimeIsUp: It is.
        """
        if time.monotonic() > self._at_s:
            raise TimeIsUp


def jobs(
    out: Path, seeds: Sequence[int], overrides: Sequence[str], only: Sequence[str]
) -> Iterator[Job]:
    """Yield what there is to train, every configuration once before any a second time."""
    for seed in seeds:
        for name in ROWS:
            if only and name.removeprefix(f"{BASE}-") not in only:
                continue
            if name == TEACHER and seed != 0:
                continue
            config = configuration(name, seed, overrides, out)
            yield Job(config, out / f"{name}-{seed}", out / f"{name}-{seed}.json")


def configuration(name: str, seed: int, overrides: Sequence[str], out: Path) -> TrainingConfig:
    """Return what a row is trained with; who is taught, by the teacher in the same folder."""
    config = load_config(CONFIGS / f"{name}.yaml", [*overrides, f"seed={seed}"])
    if config.distillation is None:
        return config
    checkpoint = out / f"{TEACHER}-0" / CHECKPOINTS / f"{config.iterations:08d}"
    taught = config.distillation.model_copy(update={"teacher": str(checkpoint / MODEL_FILE)})
    return config.model_copy(update={"distillation": taught})


def run(job: Job, base: TrainingConfig, deadline_s: float, device: torch.device) -> None:
    """Train a network to the end, evaluate it and write its figures.

    Raises:
        GaitError: The data cannot be read, or a file cannot be written.
        TimeIsUp: The deadline has passed.
    """
    processes = Processes(device)
    started = time.monotonic()
    Trainer(job.config, job.folder, processes, [Deadline(deadline_s)]).run()
    newest = Checkpoints(job.folder / CHECKPOINTS).newest()
    assert newest is not None  # the trainer saves at the end
    network = load_trained(newest, read_card(newest)).to(device)
    metrics = {}
    assert base.data.partition is not None
    partition = str(Path(base.data.partition).with_name(UNSEEN))
    unseen = base.data.model_copy(update={"partition": partition})
    for prefix, data in (("", base.data), ("unseen/", unseen)):
        found = validate(network, open_sides(data), PROTOCOL, processes)
        assert found is not None  # one process
        metrics.update({prefix + k: v for k, v in found.metrics.items() if math.isfinite(v)})
    content = {
        "name": job.config.name,
        "seed": job.config.seed,
        "iterations": job.config.iterations,
        "seconds": round(time.monotonic() - started, 1),
        "config": job.config.model_dump(mode="json"),
        "metrics": metrics,
    }
    write_atomically(job.result, json.dumps(content, indent=1).encode())


def operations_a_frame(config: TrackletGaitConfig) -> float:
    """Return additions and multiplications a frame of 64x44, in units of 10^9."""
    from torch.utils.flop_counter import FlopCounterMode

    frames = 16
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        TrackletGait(config).eval()(torch.empty(1, frames, 64, 44))
    return float(counter.get_total_flops()) / frames / 1e9


def page(results: Sequence[dict[str, Any]], base: TrainingConfig) -> str:
    """Return the page in Markdown."""
    lines = [
        "# Ablations on SynthGait",
        "",
        HEAD.format(base=base),
        "",
        "| | GFLOP a frame | " + " | ".join(SHOWN.values()) + " | seeds |",
        "|---|---|" + "---|" * len(SHOWN) + "---|",
    ]
    for name, meaning in ROWS.items():
        own = [each for each in results if each["name"] == name]
        figures = [_told([each["metrics"][key] for each in own]) for key in SHOWN]
        config = load_config(CONFIGS / f"{name}.yaml").network
        operations = f"{operations_a_frame(config):.2f}"
        seeds = ", ".join(map(str, sorted(each["seed"] for each in own)))
        lines.append(
            f"| {meaning} | {operations} | {' | '.join(figures)} | {seeds or 'none yet'} |"
        )
    return "\n".join([*lines, ""])


def _told(values: Sequence[float]) -> str:
    """Return mean and spread in percent."""
    if not values:
        return "–"
    mean = 100 * statistics.fmean(values)
    if len(values) == 1:
        return f"{mean:.1f}"
    return f"{mean:.1f} ± {100 * statistics.stdev(values):.1f}"


def read_results(out: Path, wanted: Callable[[str, int], TrainingConfig]) -> list[dict[str, Any]]:
    """Return the figures that are there, of networks trained as `wanted` by name and seed only."""
    found = []
    for path in sorted(out.glob(f"{BASE}*.json")):
        with suppress(ValueError, KeyError, TypeError):  # of another version, or damaged: anew
            each = json.loads(path.read_bytes())
            config = TrainingConfig.model_validate_json(json.dumps(each["config"]))
            if config.name not in ROWS or not SHOWN.keys() <= each["metrics"].keys():
                continue
            now = wanted(config.name, config.seed)
            if config.iterations == now.iterations and not differences(config, now):
                found.append(each)
    return found


def main() -> int:
    """Run what the time allows; 0 when all is done, 3 when something is left."""
    args = _arguments()
    console = Console(stderr=True, highlight=False)
    torch.set_num_threads(args.threads or torch.get_num_threads())
    try:
        with joined(args.device) as processes:
            _work(args, processes.device, console)
    except TimeIsUp:
        console.print("The time is up; the same command goes on")
        return 3
    except KeyboardInterrupt:
        console.print("Stopped; the same command goes on")
        return 130
    except GaitError as error:
        console.problem(error)
        return 1
    console.print(f"Done: {args.page}")
    return 0


def _work(args: argparse.Namespace, device: torch.device, console: Console) -> None:
    deadline_s = time.monotonic() + 60 * args.minutes
    base = load_config(CONFIGS / f"{BASE}.yaml", args.overrides)
    wanted = partial(configuration, overrides=args.overrides, out=args.out)
    todo = list(jobs(args.out, args.seeds, args.overrides, args.only))
    done = {(each["name"], each["seed"]) for each in read_results(args.out, wanted)}
    left = [job for job in todo if (job.config.name, job.config.seed) not in done]
    for number, job in enumerate(left, 1):
        if time.monotonic() > deadline_s:
            raise TimeIsUp
        console.print(f"{number} of {len(left)}: {job.config.name}, seed {job.config.seed}")
        run(job, base, deadline_s, device)
        write_atomically(args.page, page(read_results(args.out, wanted), base).encode())
    write_atomically(args.page, page(read_results(args.out, wanted), base).encode())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as `trackletgait train`")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="stop at the checkpoint after so long"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    rows = [name.removeprefix(f"{BASE}-") for name in ROWS]
    parser.add_argument("--only", nargs="+", default=[], choices=rows, help="these rows")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "ablations")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
