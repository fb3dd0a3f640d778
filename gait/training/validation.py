"""Evaluation during training, shared among the processes."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gait.data.dataset import GaitDataset
from gait.encoder import Encoder
from gait.errors import DataError
from gait.evaluation import Evaluation, evaluate
from gait.model.trackletgait import TrackletGait
from gait.training.batches import Sides
from gait.training.processes import Processes

_EMBEDDED_AT_ONCE = 64


def validate(
    network: TrackletGait, sides: Sides, protocol: str, processes: Processes
) -> Evaluation | None:
    """Evaluate as `trackletgait eval` does, each process embedding a part of the test set.

    The network is not changed: a copy is evaluated, for the encoder sets memory formats of its
    own, and training must go on bit for bit as if nothing had been evaluated.

    Returns:
        What was found, in the first process; None elsewhere.

    Raises:
        DataError: The test set lacks what the protocol compares, or cannot be read.
    """
    test = sides.test
    if len(test) < processes.world_size:
        raise DataError(
            f"evaluation: expected at least {processes.world_size} test sequences, one a process, "
            f"got {len(test)}; check the partition"
        )
    own = _embed(network, test, processes)
    parts = processes.gather(own)
    if not processes.is_first:
        return None
    embeddings = np.empty((len(test), *own[0].shape), np.float32)
    for rank, part in enumerate(parts):
        embeddings[rank :: processes.world_size] = part
    return evaluate(protocol, embeddings, test.keys, probe_set=sides.probe)


def _embed(
    network: TrackletGait, test: GaitDataset, processes: Processes
) -> list[NDArray[np.floating[Any]]]:
    """Return the embeddings of this process's part: every `world_size`-th sequence."""
    encoder = Encoder(
        copy.deepcopy(network),
        description="in training",
        is_trained=True,
        device=str(processes.device),
    )
    positions = range(processes.rank, len(test), processes.world_size)
    embeddings = []
    for start in range(0, len(positions), _EMBEDDED_AT_ONCE):
        chunk = positions[start : start + _EMBEDDED_AT_ONCE]
        embeddings += encoder.embed([test[position] for position in chunk])
    return embeddings
