"""Who watches a run: the log on disk and TensorBoard here, a progress bar in the command."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gait.data.atomic import write_atomically
from gait.errors import DataError, TrainingError
from gait.evaluation import Evaluation


@dataclass(frozen=True, slots=True)
class Report:
    """One step, told to those who watch.

    Attributes:
        iteration: Steps made, this one included.
        next_batch: Number of the first batch not yet used.
        figures: The loss and what it is made of.
        rate: Learning rate of the step.
        samples_per_s: Sequences of all processes a second, of the last steps.
    """

    iteration: int
    next_batch: int
    figures: Mapping[str, float]
    rate: float
    samples_per_s: float


class Observer:
    """Base of all that watch a run, in its first process; by itself it ignores everything."""

    def started(self, iteration: int, total: int) -> None:
        """Hear that the run goes on after `iteration` steps of `total`."""

    def stepped(self, report: Report) -> None:
        """Hear of a step."""

    def evaluated(self, iteration: int, evaluation: Evaluation) -> None:
        """Hear of an evaluation after `iteration` steps."""

    def saved(self, checkpoint: Path) -> None:
        """Hear of a checkpoint."""

    def close(self) -> None:
        """Hear that the run is over, well or not."""


class JsonLog(Observer):
    """One JSON object a line; a resumed run cuts off what lies behind its checkpoint."""

    def __init__(self, path: Path, every: int) -> None:
        """Log every `every`-th step to `path`, and all evaluations."""
        self._path, self._every = path, every

    def started(self, iteration: int, total: int) -> None:
        """Cut off what was logged after the checkpoint that the run goes on from."""
        try:
            write_atomically(self._path, _lines_until(self._path, iteration))
        except DataError as error:
            raise TrainingError(str(error)) from error
        except OSError as error:
            raise TrainingError(
                f"{self._path}: expected the log of this run, cannot read it ({error.strerror}); "
                "choose another folder"
            ) from error

    def stepped(self, report: Report) -> None:
        """Add a line, if it is the step's turn."""
        if report.iteration % self._every == 0:
            self._add(
                iteration=report.iteration,
                **report.figures,
                rate=report.rate,
                next_batch=report.next_batch,
                samples_per_s=round(report.samples_per_s, 3),
            )

    def evaluated(self, iteration: int, evaluation: Evaluation) -> None:
        """Add a line."""
        metrics = {
            key: value if math.isfinite(value) else None
            for key, value in evaluation.metrics.items()
        }
        self._add(iteration=iteration, protocol=evaluation.protocol, metrics=metrics)

    def _add(self, **content: Any) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(content) + "\n")
        except OSError as error:
            raise TrainingError(
                f"{self._path}: cannot write the log ({error.strerror}); make room and give the "
                "same command again: it goes on from the newest checkpoint"
            ) from error


class TensorBoard(Observer):
    """Curves for TensorBoard, the package `tensorboard`."""

    def __init__(self, folder: Path, every: int) -> None:
        """Write every `every`-th step and all evaluations to `folder`.

        Raises:
            TrainingError: The package is not installed.
        """
        self._folder, self._every = folder, every
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise TrainingError(
                "TensorBoard is not installed: pip install 'trackletgait[tensorboard]', or train "
                "without it; the log has the same figures"
            ) from error
        self._open: Any = SummaryWriter
        self._writer: Any = None

    def started(self, iteration: int, total: int) -> None:
        """Open the files; curves behind the checkpoint are hidden."""
        self._writer = self._open(str(self._folder), purge_step=iteration + 1)

    def stepped(self, report: Report) -> None:
        """Add a point to each curve, if it is the step's turn."""
        if report.iteration % self._every == 0:
            told = {**report.figures, "rate": report.rate, "samples_per_s": report.samples_per_s}
            for name, value in told.items():
                self._writer.add_scalar(f"training/{name}", value, report.iteration)

    def evaluated(self, iteration: int, evaluation: Evaluation) -> None:
        """Add a point to each curve of the evaluation."""
        for name, value in evaluation.metrics.items():
            self._writer.add_scalar(f"{evaluation.protocol}/{name}", value, iteration)

    def close(self) -> None:
        """Write what is waiting."""
        if self._writer is not None:
            self._writer.close()


def _lines_until(path: Path, iteration: int) -> bytes:
    """Return the lines of steps up to `iteration`; one cut short by a kill is dropped."""
    if not path.exists():
        return b""
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            if json.loads(line)["iteration"] <= iteration:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    return b"".join(kept)
