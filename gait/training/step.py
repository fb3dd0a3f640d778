"""One step of training: forward, losses, backward, update."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gait.losses.gathered import Gathered, gather
from gait.losses.relation import RelationLoss
from gait.model.trackletgait import TrackletGait
from gait.training.batches import Batch
from gait.training.config import OptimiserConfig, Precision, TrainingConfig
from gait.training.distillation import Teacher
from gait.training.processes import Processes

_DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

_ADAM_BETA2 = 0.999


class NotFiniteError(Exception):
    """The loss of a batch is NaN or infinite; nothing was updated.

    Attributes:
        batch: This process's part of the batch.
        figures: The figures of the step that failed.
    """

    def __init__(self, batch: Batch, figures: dict[str, float]) -> None:
        super().__init__(f"loss of batch {batch.number}: {figures['loss']}")
        self.batch = batch
        self.figures = figures


@dataclass(frozen=True, slots=True)
class Stepped:
    """What one step did.

    Attributes:
        figures: The loss and what the losses tell, means over the batches of the step.
        updated: False when float16 gradients overflowed: the weights stayed, the loss scale fell.
    """

    figures: dict[str, float]
    updated: bool


def build_optimiser(
    parameters: Iterable[nn.Parameter], config: OptimiserConfig
) -> torch.optim.Optimizer:
    """Return the optimiser of a configuration, at the rate of the start."""
    if config.kind == "adamw":
        return torch.optim.AdamW(
            parameters,
            lr=config.rate,
            betas=(config.momentum, _ADAM_BETA2),
            weight_decay=config.weight_decay,
        )
    return torch.optim.SGD(
        parameters,
        lr=config.rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )


class WithNeck(nn.Module):
    """Embeddings and class cosines in one call, as wrappers for many processes need it."""

    def __init__(self, network: TrackletGait) -> None:
        super().__init__()
        self.network = network

    def forward(self, silhouettes_NTHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embeddings (N, C, P) and cosines (N, K, P)."""
        embeddings_NCP = self.network(silhouettes_NTHW)
        return embeddings_NCP, self.network.classify(embeddings_NCP)[1]


class Stepper:
    """Makes steps on one network.

    Attributes:
        network: With the weights being trained.
        optimiser: What changes its weights.
        scaler: Scales the loss of float16; idle otherwise.
        teacher: The network whose distances are imitated, or None.
    """

    def __init__(self, network: TrackletGait, config: TrainingConfig, processes: Processes) -> None:
        """Take over a network with BNNecks; it is moved to the processes' device.

        Raises:
            CheckpointError: The teacher's weights cannot be used.
            ConfigError: The teacher does not fit the network.
        """
        self._config, self._processes = config, processes
        self.network = self._placed(network)
        self._forward = self._wrapped()
        self._augment = config.augment.build()
        self._triplet = Gathered(config.losses.triplet.build())
        self._cross_entropy = config.losses.cross_entropy.build()
        self.teacher, self._relation = self._taught(), RelationLoss()
        self.optimiser = build_optimiser(self.network.parameters(), config.optimiser)
        is_half = config.compute.precision == "float16"
        self.scaler = torch.amp.GradScaler(processes.device.type, enabled=is_half)

    def __call__(self, batches: Sequence[Batch], iteration: int) -> Stepped:
        """Make the step that follows `iteration` steps.

        Args:
            batches: As many as are accumulated.
            iteration: Steps made so far.

        Raises:
            NotFiniteError: A loss is NaN or infinite, in any process.
        """
        self.network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self._config.optimiser.rate_at(iteration, self._config.iterations)
        self.optimiser.zero_grad(set_to_none=True)
        found = [
            self._backward(batch, len(batches), is_last=batch is batches[-1]) for batch in batches
        ]
        figures = {key: sum(each[key] for each in found) / len(found) for key in found[0]}
        return Stepped(figures, self._update())

    def _backward(self, batch: Batch, num_batches: int, *, is_last: bool) -> dict[str, float]:
        with self._gradients_shared(is_last):
            loss, figures = self._loss(batch)
            # of the whole batch, so that all processes stop or none does
            if not math.isfinite(figures["loss"]):
                raise NotFiniteError(batch, figures)
            torch.autograd.backward(self.scaler.scale(loss / num_batches))
        return figures

    def _loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """Return what to differentiate, and the figures of the whole batch."""
        device = self._processes.device
        on_device = batch.silhouettes.to(device, non_blocking=True)
        silhouettes_NTHW = self._augment(on_device, batch.draws)
        with self._autocast():
            embeddings_NCP, logits_NKP = self._forward(silhouettes_NTHW)
        # Alone, labels stay on the host, which then need not wait to count pairs.
        shared = self._processes.world_size > 1
        labels = batch.labels.to(device) if shared else batch.labels
        triplet = self._triplet(embeddings_NCP, labels)
        cross_entropy = self._cross_entropy(logits_NKP, labels)
        named = {f"triplet_{key}": value for key, value in triplet.stats.scalars().items()}
        for key, value in cross_entropy.stats.scalars().items():
            # each process has the mean of its own samples
            named[f"class_{key}"] = gather(value.reshape(1)).mean()
        loss, told = triplet.loss + cross_entropy.loss, named["triplet_loss"] + named["class_loss"]
        if (relation := self._imitation(embeddings_NCP, silhouettes_NTHW)) is not None:
            loss, told = loss + relation * self._processes.world_size, told + relation.detach()
            named["relation_loss"] = relation.detach()
        named = {"loss": told, **named}
        values = torch.stack([value.float() for value in named.values()]).tolist()
        return loss, dict(zip(named, values, strict=True))

    def _imitation(
        self, embeddings_NCP: torch.Tensor, silhouettes_NTHW: torch.Tensor
    ) -> torch.Tensor | None:
        """Return the weighted loss against the teacher over the whole batch, if there is one."""
        settings = self._config.distillation
        if self.teacher is None or settings is None:
            return None
        with self._autocast():
            teacher_NCP = self.teacher(silhouettes_NTHW)
        return settings.weight * self._relation(gather(embeddings_NCP), gather(teacher_NCP)).loss

    def _update(self) -> bool:
        """Step unless float16 overflowed; then only the scale falls (spec b.6)."""
        before = self.scaler.get_scale()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return self.scaler.get_scale() >= before

    def _placed(self, network: TrackletGait) -> TrackletGait:
        network, compute = network.to(self._processes.device), self._config.compute
        is_cpu = self._processes.device.type == "cpu"
        if self._processes.world_size > 1 and not is_cpu:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        if compute.channels_last and not (is_cpu and compute.precision == "float32"):
            network.use_channels_last()
        return network

    def _taught(self) -> Teacher | None:
        settings = self._config.distillation
        if settings is None:
            return None
        return Teacher(settings, self._config.network, self._processes.device)

    def _wrapped(self) -> Any:
        module: nn.Module = WithNeck(self.network)
        if self._config.compute.compile:
            module.compile()
        if self._processes.world_size > 1:
            module = DistributedDataParallel(module)
        return module

    def _autocast(self) -> torch.autocast:
        precision = self._config.compute.precision
        return torch.autocast(
            self._processes.device.type,
            dtype=_DTYPES[precision],
            enabled=precision != "float32",
        )

    def _gradients_shared(self, is_last: bool) -> contextlib.AbstractContextManager[None]:
        """Exchange gradients after the last batch of a step only."""
        if is_last or not isinstance(self._forward, DistributedDataParallel):
            return contextlib.nullcontext()
        return self._forward.no_sync()
