"""From a data set on disk to batches, read ahead in threads, the same ones on every run.

Nothing here has a state: batch number i, its frames and its augmentation follow from the seed and
from i alone. So training resumes by a number, and any number of processes share the same batches.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gait.data.augment import Draws
from gait.data.dataset import FolderDataset, GaitDataset, SequenceKey
from gait.data.datasets import DATASETS
from gait.data.pack import PackedDataset
from gait.data.partition import Partition, load_partition, partition_for, some
from gait.data.sampling import IdentitySampler
from gait.errors import ConfigError, DataError
from gait.training.config import DataConfig, TrainingConfig

logger = logging.getLogger(__name__)

# Which draw of a batch: none 0, for numpy's seeds end in any number of zeros alike.
_NUM_FRAMES, _FRAMES, _AUGMENT = 1, 2, 3


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Both sides of a partition.

    Attributes:
        train: Sequences to train with.
        test: Sequences to evaluate with.
        probe: Gait3D's probes; None elsewhere.
    """

    train: GaitDataset
    test: GaitDataset
    probe: frozenset[str] | None


def open_sides(config: DataConfig) -> Sides:
    """Return the sequences of both sides.

    Subjects of the partition that are not on disk are left out, and the other way round; a
    warning says how many.

    Raises:
        ConfigError: The split is no rule and no file is given.
        DataError: The data or the partition cannot be read, or there is nobody to train with.
    """
    dataset = _open(config)
    subjects = sorted({key.subject for key in dataset.keys})
    split = _partition(config, subjects)
    _report_strays(split, subjects, config)
    among = split.among(subjects)
    train = dataset.select(among.train)
    _check_train(train, config)
    return Sides(train, dataset.select(among.test), among.probe)


def _open(config: DataConfig) -> GaitDataset:
    path = Path(config.path)
    if not path.is_dir():
        return PackedDataset(path)
    known = DATASETS.get(config.dataset or "")
    return FolderDataset(path, known.data_in_use if known and known.num_inputs > 1 else None)


def _partition(config: DataConfig, subjects: list[str]) -> Partition:
    if config.partition is not None:
        return load_partition(Path(config.partition))
    if config.dataset is None:
        raise ConfigError(
            "data.partition: expected a JSON file with TRAIN_SET and TEST_SET, as nothing else "
            "says who of your own data trains; got null"
        )
    return partition_for(config.dataset, subjects)


def _report_strays(split: Partition, subjects: list[str], config: DataConfig) -> None:
    listed = {*split.train, *split.test}
    if missing := sorted(listed - set(subjects)):
        logger.warning(
            "%s: %d subjects of the partition are not there: %s",
            config.path, len(missing), some(missing),
        )  # fmt: skip
    if unlisted := sorted(set(subjects) - listed):
        logger.warning(
            "%s: %d subjects are in no side of the partition and are left out: %s",
            config.path, len(unlisted), some(unlisted),
        )  # fmt: skip


def _check_train(train: GaitDataset, config: DataConfig) -> None:
    counts = Counter(key.subject for key in train.keys)
    single = [subject for subject, count in counts.items() if count == 1]
    if len(counts) < 2 or len(single) == len(counts):
        raise DataError(
            f"{config.path}: expected at least two subjects to train with, one of them with two "
            f"sequences, got {len(counts)} subjects, {len(single)} of them with one sequence; "
            "check the partition"
        )
    if single:
        logger.warning(
            "%s: %d training subjects have one sequence, which is repeated: %s",
            config.path, len(single), some(single),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """This process's part of a batch.

    Attributes:
        number: Of the batch, from 0.
        silhouettes: Shape (N, T, 64, 44 or 64), uint8, on the CPU.
        labels: Shape (N,), int64: index of the subject among the sorted training subjects.
        keys: Which sequences.
        draws: How each is changed.
    """

    number: int
    silhouettes: torch.Tensor
    labels: torch.Tensor
    keys: Sequence[SequenceKey]
    draws: Draws


class BatchReader:
    """Reads the batches of one process."""

    def __init__(
        self, dataset: GaitDataset, config: TrainingConfig, *, rank: int = 0, world_size: int = 1
    ) -> None:
        """Take over the training sequences.

        Raises:
            ConfigError: The batch cannot be shared among the processes.
        """
        self._dataset = dataset
        self._config = config
        self._rank, self._world_size = rank, world_size
        self._sampling = config.sampling.build()
        self._augmentation = config.augment.build()
        subjects = [key.subject for key in dataset.keys]
        self.subjects, labels = np.unique(subjects, return_inverse=True)
        self._labels = labels.astype(np.int64)
        try:
            self._sampler = IdentitySampler(
                self._labels,
                num_ids=config.batch.num_ids,
                per_id=config.batch.per_id,
                seed=config.seed,
                rank=rank,
                world_size=world_size,
            )
        except ValueError as error:
            raise ConfigError(f"batch: {error}") from error

    @property
    def class_num(self) -> int:
        """Training subjects."""
        return len(self.subjects)

    def batches(self, start: int) -> Generator[Batch, None, None]:
        """Yield the batches from number `start`, without end, read ahead of their use.

        Raises:
            DataError: A sequence cannot be read; the message names it.
        """
        workers, ahead = self._config.data.workers, self._config.data.ahead
        with ThreadPoolExecutor(workers, thread_name_prefix="batches") as pool:
            waiting: deque[Future[Batch]] = deque()
            try:
                number = start
                while True:
                    while len(waiting) < ahead:
                        waiting.append(pool.submit(self.read, number))
                        number += 1
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def read(self, number: int) -> Batch:
        """Return the batch of that number.

        Raises:
            DataError: A sequence cannot be read; the message names it.
        """
        places = slice(self._rank, None, self._world_size)
        positions = self._sampler.batch(number)[places]
        keys = [self._dataset.keys[int(position)] for position in positions]
        sequences = [self._dataset[int(position)] for position in positions]
        _check_sizes(sequences, keys)
        silhouettes = self._taken(number, sequences)
        return Batch(
            number,
            torch.from_numpy(silhouettes),
            torch.from_numpy(self._labels[positions]),
            keys,
            self._draws(number, silhouettes.shape[3], places),
        )

    def _taken(self, number: int, sequences: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return the frames of the batch, each copied once: (N, T, H, W)."""
        sampling = self._sampling.for_batch(self._rng(number, _NUM_FRAMES))
        indices = [
            sampling.indices(len(silhouettes), self._rng(number, _FRAMES, place))
            for place, silhouettes in zip(self._places(), sequences, strict=True)
        ]
        shape = (len(sequences), len(indices[0]), *sequences[0].shape[1:])
        taken = np.empty(shape, np.uint8)
        for silhouettes, frames, out in zip(sequences, indices, taken, strict=True):
            # "clip" writes straight into `out`; the frames are all there
            np.take(silhouettes, frames, axis=0, out=out, mode="clip")
        return taken

    def _places(self) -> range:
        """Return which places of the whole batch are this process's."""
        batch = self._config.batch
        return range(self._rank, batch.num_ids * batch.per_id, self._world_size)

    def _draws(self, number: int, width: int, places: slice) -> Draws:
        """Return this process's part of the draws that all processes make alike."""
        batch, rng = self._config.batch, self._rng(number, _AUGMENT)
        whole = self._augmentation.draw(batch.num_ids * batch.per_id, width, rng)
        return Draws(**{field.name: getattr(whole, field.name)[places] for field in fields(Draws)})

    def _rng(self, *what: int) -> np.random.Generator:
        return np.random.default_rng([self._config.seed, *what])


def _check_sizes(sequences: list[NDArray[np.uint8]], keys: Sequence[SequenceKey]) -> None:
    size = sequences[0].shape[1:]
    for silhouettes, key in zip(sequences, keys, strict=True):
        if silhouettes.shape[1:] != size:
            raise DataError(
                f"{key}: expected frames of the size of {keys[0]}, {size}, got "
                f"{silhouettes.shape[1:]}; `trackletgait data check` finds all that differ"
            )
