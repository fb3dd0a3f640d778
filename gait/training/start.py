"""The network a run begins with: fresh, or with the weights of another run."""

from __future__ import annotations

import logging

import torch

from gait.errors import ConfigError
from gait.model.checkpoint import load_checkpoint
from gait.model.trackletgait import TrackletGait, TrackletGaitConfig
from gait.training.config import TrainingConfig

logger = logging.getLogger(__name__)


def first_network(config: TrainingConfig, class_num: int) -> TrackletGait:
    """Return the network of step 0, with BNNecks for `class_num` subjects.

    Everything `config.start` does not hold, such as BNNecks of as many subjects, is drawn from the
    seed.

    Raises:
        CheckpointError: The weights to start from cannot be used.
        ConfigError: They are of another network.
    """
    generator = torch.Generator().manual_seed(config.seed)
    network = TrackletGait.random(config.network, generator, class_num)
    if config.start is not None:
        _take_over(network, config.start)
    return network


def _take_over(network: TrackletGait, path: str) -> None:
    loaded = load_checkpoint(path).model
    if found := _differences(network.config, loaded.config):
        raise ConfigError(
            f"start: expected weights of the configured network, got {path} with "
            + ", ".join(found)
            + "; change network or start"
        )
    fresh, given = network.state_dict(), loaded.state_dict()
    fitting = {key: value for key, value in given.items() if value.shape == fresh[key].shape}
    network.load_state_dict(fresh | fitting)
    logger.info("starting from %s: %d of %d tensors", path, len(fitting), len(fresh))


def _differences(ours: TrackletGaitConfig, theirs: TrackletGaitConfig) -> list[str]:
    """Return what is different, besides the name, as `setting: theirs`."""
    before, after = ours.model_dump(exclude={"name"}), theirs.model_dump(exclude={"name"})
    return [f"{key}: {after[key]}" for key in before if before[key] != after[key]]
