"""Everything a training run depends on, in one strict YAML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from gait.data.augment import AugmentConfig
from gait.data.datasets import DATASETS
from gait.data.sampling import RandomTrackletConfig, SamplingConfig
from gait.evaluation.protocols import PROTOCOLS
from gait.losses.cross_entropy import CrossEntropyConfig
from gait.losses.triplet import TripletConfig
from gait.model.trackletgait import TrackletGaitConfig
from gait.strict import StrictModel
from gait.yaml_config import load_yaml

Precision = Literal["float32", "bfloat16", "float16"]
Published = dict[str, float | dict[str, float | dict[str, float]]]


class DataConfig(StrictModel):
    """Where the sequences lie and who trains.

    Attributes:
        path: A packed file, or a folder `subject/condition/view/*.pkl`.
        dataset: Which benchmark it is; None for your own data.
        partition: JSON with TRAIN_SET and TEST_SET; None where the benchmark's split is a rule.
        workers: Threads that read batches. More hide slow disks, at the price of memory.
        ahead: Batches read ahead. More even out slow reads, at the price of memory.
    """

    path: str
    dataset: str | None = None
    partition: str | None = None
    workers: int = Field(default=2, ge=1, le=64)
    ahead: int = Field(default=3, ge=1, le=64)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.dataset is not None and self.dataset not in DATASETS:
            raise ValueError(f"dataset: expected one of {', '.join(DATASETS)}, or null")
        return self


class BatchConfig(StrictModel):
    """P identities times K sequences.

    Attributes:
        num_ids: P. More compare an identity with more others, at the price of memory.
        per_id: K. More show more of each identity, at the price of memory.
    """

    num_ids: int = Field(default=32, ge=2)
    per_id: int = Field(default=4, ge=1)


class LossesConfig(StrictModel):
    """What is minimised: the sum of both."""

    triplet: TripletConfig = TripletConfig()
    cross_entropy: CrossEntropyConfig = CrossEntropyConfig()


class DistillationConfig(StrictModel):
    """A trained network whose distances the new one imitates (Park et al., 2019).

    On every batch the distances between all pairs of samples, part by part and relative to their
    mean, are drawn towards the teacher's. The teacher costs a forward pass a batch.

    Attributes:
        teacher: Its weights, .pt or .safetensors; of any size with as many parts.
        weight: Of this loss, added to the others. Higher follows the teacher more closely, at the
            price of listening less to the labels.
    """

    teacher: str
    weight: float = Field(default=10.0, gt=0)


class OptimiserConfig(StrictModel):
    """Stochastic gradient descent with momentum, in steps of falling size (spec b.6).

    Weight decay holds for all parameters, batch norms and biases included; no Nesterov. That is the
    paper's; AdamW, the warm-up and the cosine are for runs of a few hundred to a few thousand
    iterations, which have no time for plateaus.

    Attributes:
        kind: "sgd", or "adamw" (Loshchilov and Hutter, 2019), which scales the step of every
            weight by the size of its gradients: it gets somewhere sooner, at the price of two
            more numbers a weight and, in long runs, often of accuracy. It wants a `rate` of about
            0.001 and a `weight_decay` of about 0.02.
        rate: Learning rate at the start. Higher learns faster, at the price of diverging.
        momentum: Share of the last step that is kept (the first beta of AdamW; the second is
            0.999). Higher smooths, at the price of overshoot.
        weight_decay: Pull of the weights to 0. Higher fits the training set less closely.
        milestones: Iterations after which the rate is multiplied by `gamma`.
        gamma: That factor.
        schedule: "steps" falls at the milestones; "cosine" (Loshchilov and Hutter, 2017) ignores
            them and falls along half a cosine, to 0 at the last iteration. Such a run cannot be
            prolonged: its rates follow from `iterations`.
        warmup: Iterations in which the rate climbs in equal steps to what the schedule says. More
            spares fresh batch norms large steps, at the price of time.
    """

    kind: Literal["sgd", "adamw"] = "sgd"
    rate: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    milestones: list[int] = Field(default=[40_000, 80_000, 100_000])
    gamma: float = Field(default=0.1, gt=0, le=1)
    schedule: Literal["steps", "cosine"] = "steps"
    warmup: int = Field(default=0, ge=0)

    def rate_at(self, iteration: int, iterations: int) -> float:
        """Return the learning rate of the step that follows `iteration` of `iterations` steps."""
        share = min(1.0, (iteration + 1) / (self.warmup + 1))
        if self.schedule == "cosine":
            return share * self.rate * (1 + math.cos(math.pi * iteration / iterations)) / 2
        passed = sum(milestone <= iteration for milestone in self.milestones)
        return share * self.rate * self.gamma**passed


class ComputeConfig(StrictModel):
    """How it is computed; what is learnt hardly depends on it.

    Attributes:
        precision: Of the forward and backward pass; heads, losses and weights stay float32. The
            release used float16. bfloat16 needs no loss scaling and a device that has it; a CPU
            with AVX512-BF16 or AMX then trains two to three times as fast.
        channels_last: Memory format of feature maps: the same sums, faster. A CPU ignores it in
            float32: its batch norms sum such maps in plain float32 and lose three digits, which
            half precision has not.
        compile: Hand the network to `torch.compile`: minutes at the start, faster steps after it.
        accumulate: Batches a step. More imitate more memory, but triplets and batch norms see
            one batch each.
    """

    precision: Precision = "float32"
    channels_last: bool = True
    compile: bool = False
    accumulate: int = Field(default=1, ge=1)


class CheckpointConfig(StrictModel):
    """When the run is saved.

    Attributes:
        every: Iterations from one checkpoint to the next. Fewer lose less when killed, at the
            price of time and disk.
        keep: Newest checkpoints that are kept; None keeps all.
    """

    every: int = Field(default=10_000, ge=1)
    keep: int | None = Field(default=None, ge=1)


class EvaluationConfig(StrictModel):
    """Evaluation during training, on the test side of the partition.

    Attributes:
        protocol: One of `gait.evaluation.PROTOCOLS`; None does not evaluate.
        every: Iterations from one evaluation to the next; there is one at the end too.
    """

    protocol: str | None = None
    every: int = Field(default=10_000, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.protocol is not None and self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol: expected one of {', '.join(PROTOCOLS)}, or null")
        return self


class TrainingConfig(StrictModel):
    """One training run.

    Attributes:
        name: Of the run; by it `trackletgait results` finds the published figures.
        data: Where the sequences lie.
        seed: Weights, batches, frames and augmentation follow from it.
        network: Sizes; see `TrackletGaitConfig`.
        start: Weights of the same network that the run starts from, such as those of a run on other
            data; None starts from scratch. Known classes stay where there are as many subjects.
        sampling: Which frames of a sequence are taken.
        batch: How many sequences of how many identities.
        augment: How sequences are changed.
        losses: What is minimised.
        distillation: A teacher; None learns from labels alone.
        optimiser: How.
        iterations: Steps in all. More fit closer, at the price of time.
        compute: Precision, memory format, accumulation.
        checkpoints: When the run is saved.
        evaluation: When and how it is evaluated.
        log_every: Iterations from one line of the log to the next.
        published: Figures to reproduce, percent, by their name in an evaluation.
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    data: DataConfig
    seed: int = Field(default=0, ge=0)
    network: TrackletGaitConfig = TrackletGaitConfig()
    start: str | None = None
    sampling: SamplingConfig = RandomTrackletConfig()
    batch: BatchConfig = BatchConfig()
    augment: AugmentConfig = AugmentConfig()
    losses: LossesConfig = LossesConfig()
    distillation: DistillationConfig | None = None
    optimiser: OptimiserConfig = OptimiserConfig()
    iterations: int = Field(default=120_000, ge=1)
    compute: ComputeConfig = ComputeConfig()
    checkpoints: CheckpointConfig = CheckpointConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    log_every: int = Field(default=100, ge=1)
    published: Published = Field(default={})


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainingConfig:
    """Return the configuration of a file and its bases, changed by entries `key=value`.

    Raises:
        ConfigError: Naming the place, what was expected, what came and what is known.
    """
    return load_yaml(TrainingConfig, path, overrides, not_inherited=("published",))


# What a resumed run may change: how long it goes on, how it is watched, where the data lies.
_MAY_CHANGE: dict[str, bool | dict[str, bool]] = {
    "iterations": True,
    "log_every": True,
    "checkpoints": True,
    "evaluation": True,
    "published": True,
    "data": {"path": True, "workers": True, "ahead": True},
    "distillation": {"teacher": True},  # the card knows which one it was, wherever it lies
}


def differences(old: TrainingConfig, new: TrainingConfig) -> list[str]:
    """Return the settings with which `new` cannot go on where `old` stopped, a line each."""
    fixed = {"iterations"} if old.optimiser.schedule == "cosine" else set()
    exclude = {key: value for key, value in _MAY_CHANGE.items() if key not in fixed}
    before, after = (_flat(each.model_dump(exclude=exclude)) for each in (old, new))
    return [
        f"{key}: was {before.get(key)!r}, now {after.get(key)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat
