"""What `pipeline.commands.train` runs; apart from it, since torch takes a second to import."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from gait.data.atomic import write_atomically
from gait.evaluation import Evaluation
from gait.model.checkpoint import export_authors as write_authors
from gait.training.checkpoints import Checkpoints, read_card, to_authors
from gait.training.config import TrainingConfig, load_config
from gait.training.model_card import model_card
from gait.training.observers import Observer, Report, TensorBoard
from gait.training.processes import Processes, joined
from gait.training.shipping import Told, read_figures, ship
from gait.training.trainer import CHECKPOINTS, Trainer
from pipeline.commands.console import Console

logger = logging.getLogger("gait.training")

_SHOWN_METRICS = 6


def run_training(
    config: Path, overrides: Sequence[str], out: Path | None, *, device: str, tensorboard: bool
) -> None:
    """Train what `config` says, or go on with it; see `pipeline.commands.train.train`."""
    settings = load_config(config, overrides)
    folder = out if out is not None else Path("runs") / settings.name
    console = Console(stderr=True, highlight=False)
    with joined(device) as processes:
        if processes.is_first and not logger.isEnabledFor(logging.WARNING):
            logger.setLevel(logging.WARNING)  # who is left out of the data set matters to all
        trainer = Trainer(
            settings,
            folder,
            processes,
            _observers(settings, folder, processes, console, tensorboard),
        )
        if processes.is_first:
            _announce(trainer, settings, folder, processes, console)
        try:
            trainer.run()
        except KeyboardInterrupt:
            if processes.is_first:
                newest = Checkpoints(folder / CHECKPOINTS).newest()
                kept = f"goes on from {newest}" if newest else "begins anew: nothing is saved yet"
                console.print(f"Stopped. The same command {escape(kept)}", soft_wrap=True)
            raise
    if processes.is_first:
        Console().print(f"Checkpoints: {escape(str(folder / CHECKPOINTS))}", soft_wrap=True)


def run_export_weights(
    checkpoint: Path, out: Path, figures: Sequence[Path], *, half: bool, **told: Any
) -> None:
    """Write weights as they ship; see `pipeline.commands.train.export_weights`."""
    newest = Checkpoints(checkpoint / CHECKPOINTS).newest() or checkpoint
    card = ship(newest, out, Told(figures=read_figures(figures), **told), half=half)
    console = Console(highlight=False)
    console.print(
        f"Wrote {escape(str(out))} ({out.stat().st_size / 1e6:.1f} MB, {card.precision}) and its "
        f"card {escape(out.with_suffix('.md').name)} and .json",
        soft_wrap=True,
    )
    console.print(f"sha256 {card.sha256}", soft_wrap=True)


def run_export(checkpoint: Path, out: Path | None) -> None:
    """Write a checkpoint for OpenGait; see `pipeline.commands.train.export_authors`."""
    card = read_card(checkpoint)
    path = out if out is not None else Path(f"{card.name}-{card.iteration:05d}.pt")
    model, iteration, training = to_authors(checkpoint)
    write_authors(model, path, iteration=iteration, training=training)
    write_atomically(path.with_suffix(".md"), model_card(card).encode())
    Console().print(
        f"Wrote {escape(str(path))} and its card {escape(path.with_suffix('.md').name)}",
        soft_wrap=True,
    )


def _observers(
    config: TrainingConfig,
    folder: Path,
    processes: Processes,
    console: Console,
    tensorboard: bool,
) -> list[Observer]:
    if not processes.is_first:
        return []
    shown: list[Observer] = [_Bar(console)]
    if tensorboard:
        shown.append(TensorBoard(folder / "tensorboard", config.log_every))
    return shown


def _announce(
    trainer: Trainer,
    config: TrainingConfig,
    folder: Path,
    processes: Processes,
    console: Console,
) -> None:
    done = trainer.position.iteration
    begun = f"going on after iteration {done}" if done else "from the beginning"
    console.print(
        f"[bold]{escape(config.name)}[/bold]: {trainer.class_num} subjects, network "
        f"{escape(config.network.name)}, {config.compute.precision} on "
        f"{processes.world_size} x {processes.device}, {begun}; {escape(str(folder))}",
        soft_wrap=True,
    )


class _Bar(Observer):
    """A progress bar with loss, samples a second and the time that is left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("Training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task: TaskID | None = None

    def started(self, iteration: int, total: int) -> None:
        self._progress.start()
        self._task = self._progress.add_task("", total=total, completed=iteration, told="")

    def stepped(self, report: Report) -> None:
        assert self._task is not None
        told = (
            f"loss {report.figures['loss']:.4f}  rate {report.rate:g}  "
            f"{report.samples_per_s:.1f} samples/s"
        )
        self._progress.update(self._task, completed=report.iteration, told=told)

    def evaluated(self, iteration: int, evaluation: Evaluation) -> None:
        figures = [
            f"{name} {100 * value:.2f} %"
            for name, value in list(evaluation.metrics.items())[:_SHOWN_METRICS]
        ]
        self._console.print(
            f"Iteration {iteration}, {escape(evaluation.title)}: {', '.join(figures)}",
            soft_wrap=True,
        )

    def saved(self, checkpoint: Path) -> None:
        self._console.print(f"Saved {escape(str(checkpoint))}", soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()
