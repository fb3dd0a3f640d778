"""A trained network that another one is taught by."""

from __future__ import annotations

from pathlib import Path

import torch

from gait.errors import ConfigError
from gait.model.checkpoint import load_checkpoint, model_hash
from gait.model.trackletgait import TrackletGaitConfig
from gait.strict import StrictModel
from gait.training.config import DistillationConfig


class TeacherCard(StrictModel):
    """Which network taught.

    Attributes:
        name: Of the network's size.
        file: Name of the weights file.
        sha256: Of the file's bytes.
        model_hash: Of the weights; a run goes on only with the same teacher.
    """

    name: str
    file: str
    sha256: str
    model_hash: str


class Teacher:
    """A frozen network in eval mode.

    Attributes:
        card: Which one it is.
    """

    def __init__(
        self, config: DistillationConfig, student: TrackletGaitConfig, device: torch.device
    ) -> None:
        """Load the weights and move them to `device`.

        Raises:
            CheckpointError: The weights cannot be used.
            ConfigError: The teacher has other parts than the student.
        """
        loaded = load_checkpoint(config.teacher)
        if loaded.model.config.num_parts != student.num_parts:
            raise ConfigError(
                f"distillation.teacher: expected a network with the student's {student.num_parts} "
                f"parts, got {loaded.model.config.num_parts} in {config.teacher}"
            )
        self.card = TeacherCard(
            name=loaded.variant,
            file=Path(config.teacher).name,
            sha256=loaded.sha256,
            model_hash=model_hash(loaded.model),
        )
        self._network = loaded.model.requires_grad_(False).to(device)
        self._network.use_channels_last()

    def __call__(self, silhouettes_NTHW: torch.Tensor) -> torch.Tensor:
        """Return the embeddings (N, C, P), without gradients."""
        with torch.no_grad():
            embeddings_NCP: torch.Tensor = self._network(silhouettes_NTHW)
        return embeddings_NCP
