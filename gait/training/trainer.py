"""The loop: batches in, steps, evaluations and checkpoints out, resumable at any moment.

config = load_config(Path("configs/gait/trackletgait_gait3d.yaml"))
with joined("auto") as processes:
    Trainer(config, Path("runs/gait3d"), processes).run()
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np

from gait.data.atomic import open_atomically, write_atomically
from gait.errors import ConfigError, TrainingError
from gait.training.batches import Batch, BatchReader, open_sides
from gait.training.checkpoints import Checkpoints, Position, read_card, restore
from gait.training.config import TrainingConfig, differences
from gait.training.observers import JsonLog, Observer, Report
from gait.training.processes import Processes
from gait.training.start import first_network
from gait.training.step import NotFiniteError, Stepped, Stepper
from gait.training.validation import validate

logger = logging.getLogger(__name__)

LOG_FILE = "log.jsonl"
CHECKPOINTS = "checkpoints"

_MAX_SKIPPED = 100
_SPEED_OVER = 50


class Trainer:
    """One run in one folder; a folder with checkpoints is gone on with.

    Attributes:
        class_num: Training subjects.
        position: How far the run has come.
    """

    def __init__(
        self,
        config: TrainingConfig,
        folder: Path,
        processes: Processes,
        observers: Sequence[Observer] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Open the data, build the network, and go to where the run stopped.

        Args:
            config: Everything the run depends on.
            folder: Receives log, checkpoints and evaluations; made if need be.
            processes: This process among those that train together.
            observers: Who watches, besides the log; they are closed at the end.
            clock: Seconds, for the speed.

        Raises:
            ConfigError: The configuration does not fit the data, the weights to start from, or
                the run in the folder.
            DataError: The data cannot be read.
            CheckpointError: The run's newest checkpoint, or the weights to start from, cannot be
                used.
        """
        self._config, self._folder, self._processes = config, folder, processes
        self._clock = clock
        self._sides = open_sides(config.data)
        self._reader = BatchReader(
            self._sides.train, config, rank=processes.rank, world_size=processes.world_size
        )
        self.class_num = self._reader.class_num
        self._stepper = Stepper(first_network(config, self.class_num), config, processes)
        self._checkpoints = Checkpoints(folder / CHECKPOINTS, config.checkpoints.keep)
        self._observers: list[Observer] = []
        if processes.is_first:
            self._observers = [JsonLog(folder / LOG_FILE, config.log_every), *observers]
        self.position = self._resumed()
        _warn(config, processes)

    def run(self) -> None:
        """Train to the last iteration.

        Raises:
            TrainingError: The loss is no number (the batch is saved), or the log cannot be written.
            CheckpointError: A checkpoint cannot be written.
            DataError: A sequence cannot be read.
        """
        with ExitStack() as stack:
            for observer in self._observers:
                stack.callback(observer.close)
                observer.started(self.position.iteration, self._config.iterations)
            batches = stack.enter_context(closing(self._reader.batches(self.position.next_batch)))
            for report in self._steps(batches):
                for observer in self._observers:
                    observer.stepped(report)
                self._at_intervals(report.iteration)

    def _steps(self, batches: Iterator[Batch]) -> Iterator[Report]:
        """Make steps to the last; a skipped one uses its batches up but does not count."""
        size = self._config.batch.num_ids * self._config.batch.per_id
        count, skipped = self._config.compute.accumulate, 0
        times: deque[float] = deque([self._clock()], maxlen=_SPEED_OVER)
        while self.position.iteration < self._config.iterations:
            iteration, next_batch = self.position.iteration, self.position.next_batch + count
            stepped = self._step(list(islice(batches, count)), iteration)
            skipped = 0 if stepped.updated else self._note_skipped(skipped)
            self.position = Position(iteration + stepped.updated, next_batch, self.position.metrics)
            times.append(self._clock())
            if stepped.updated:
                speed = size * count * (len(times) - 1) / max(times[-1] - times[0], 1e-9)
                rate = self._config.optimiser.rate_at(iteration, self._config.iterations)
                yield Report(iteration + 1, next_batch, stepped.figures, rate, speed)
                if self._is_due(iteration + 1):  # evaluating and saving are no training
                    times = deque([self._clock()], maxlen=_SPEED_OVER)

    def _step(self, batches: list[Batch], iteration: int) -> Stepped:
        try:
            return self._stepper(batches, iteration)
        except NotFiniteError as error:
            path = self._save_batch(error)
            raise TrainingError(
                f"the loss became {error.figures['loss']} at iteration {iteration + 1}; the batch "
                f"is in {path}, the weights are as before it. Lower optimiser.rate, or with "
                "float16 use bfloat16 or float32, and go on from an earlier checkpoint"
            ) from error

    def _note_skipped(self, skipped: int) -> int:
        if skipped >= _MAX_SKIPPED:
            raise TrainingError(
                f"float16 gradients overflowed {_MAX_SKIPPED} times in a row, at every loss "
                "scale; use compute.precision=bfloat16 or float32"
            )
        logger.info("float16 gradients overflowed; the step is left out and the scale falls")
        return skipped + 1

    def _save_batch(self, error: NotFiniteError) -> Path:
        batch, rank = error.batch, self._processes.rank
        path = self._folder / f"bad-batch-{batch.number:08d}-rank{rank}.npz"
        with open_atomically(path) as file:
            np.savez_compressed(
                file,
                silhouettes=batch.silhouettes.numpy(),
                labels=batch.labels.numpy(),
                keys=np.array([str(key) for key in batch.keys]),
                figures=np.array(json.dumps(error.figures)),
                **asdict(batch.draws),
            )
        return path

    def _is_due(self, iteration: int) -> bool:
        return self._evaluates_at(iteration) or self._saves_at(iteration)

    def _evaluates_at(self, iteration: int) -> bool:
        settings, is_last = self._config.evaluation, iteration == self._config.iterations
        return settings.protocol is not None and (iteration % settings.every == 0 or is_last)

    def _saves_at(self, iteration: int) -> bool:
        is_last = iteration == self._config.iterations
        return iteration % self._config.checkpoints.every == 0 or is_last

    def _at_intervals(self, iteration: int) -> None:
        if self._evaluates_at(iteration):
            self._evaluate(iteration)
        if self._saves_at(iteration) and self._processes.is_first:
            self._check_weights(iteration)
            saved = self._checkpoints.save(self._stepper, self.position, self._config)
            for observer in self._observers:
                observer.saved(saved)

    def _check_weights(self, iteration: int) -> None:
        """Refuse to save what no gallery could use."""
        weights = self._stepper.network.state_dict().items()
        if bad := [key for key, value in weights if not value.isfinite().all()]:
            raise TrainingError(
                f"after iteration {iteration} the weights {', '.join(bad[:5])} are no numbers; "
                "nothing was saved. Lower optimiser.rate and go on from the newest checkpoint"
            )

    def _evaluate(self, iteration: int) -> None:
        protocol = self._config.evaluation.protocol
        assert protocol is not None
        found = validate(self._stepper.network, self._sides, protocol, self._processes)
        if found is None:
            return
        path = self._folder / "evaluations" / f"{iteration:08d}.json"
        write_atomically(path, found.to_json(config=self._config.name).encode())
        self.position = Position(iteration, self.position.next_batch, found.metrics)
        for observer in self._observers:
            observer.evaluated(iteration, found)

    def _resumed(self) -> Position:
        """Go to the newest checkpoint, if there is one."""
        if self._processes.is_first:
            self._checkpoints.remove_partial()
        newest = self._checkpoints.newest()
        if newest is None:
            return Position()
        if found := differences(read_card(newest).config, self._config):
            raise ConfigError(
                f"{self._folder}: expected the settings this run was begun with, got\n  "
                + "\n  ".join(found)
                + "\nUse another folder for a new run, or the old settings to go on"
            )
        position = restore(newest, self._stepper)
        if position.iteration > self._config.iterations:
            raise ConfigError(
                f"iterations: expected at least the {position.iteration} that the run in "
                f"{self._folder} has made, got {self._config.iterations}; use another folder"
            )
        logger.info("going on from %s", newest)
        return position


def _warn(config: TrainingConfig, processes: Processes) -> None:
    if processes.world_size > 1 and processes.device.type == "cpu":
        logger.warning(
            "batch norms of CPU processes see their own part of a batch only; with GPUs they see "
            "the whole one, as in the paper"
        )
    if processes.device.type == "cpu" and config.compute.precision == "float16":
        logger.warning("float16 is slow on a CPU; compute.precision=float32 is the better choice")
