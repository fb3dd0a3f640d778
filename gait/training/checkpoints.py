"""Training runs on disk: a folder a checkpoint, whole or not there.

checkpoints/00010000/model.safetensors      the network, as `gait.encoder.Encoder` reads it
checkpoints/00010000/training.safetensors   what the optimiser remembers of each weight
checkpoints/00010000/card.json              what it is and everything to go on from it
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError

from gait.errors import CheckpointError
from gait.model.checkpoint import load_checkpoint, model_hash, save_checkpoint, sha256_of
from gait.model.trackletgait import TrackletGait
from gait.strict import StrictModel
from gait.training.config import TrainingConfig
from gait.training.distillation import TeacherCard
from gait.training.step import Stepper, build_optimiser

MODEL_FILE = "model.safetensors"
TRAINING_FILE = "training.safetensors"
CARD_FILE = "card.json"

# What optimisers remember of a weight, by the names in the file.
_MEMORIES = {
    "sgd": {"momentum": "momentum_buffer"},
    "adamw": {"mean": "exp_avg", "square": "exp_avg_sq", "step": "step"},
}


class Card(StrictModel):
    """What a checkpoint is, and what a run needs besides weights and momentum to go on.

    All randomness follows from the seed in `config` and from `next_batch`; no other generator or
    sampler has a state.

    Attributes:
        format: Of this file.
        name: Of the run.
        iteration: Steps made.
        next_batch: Number of the first batch not yet used.
        class_num: Training subjects.
        config: Everything the run depends on.
        scaler: State of the float16 loss scale; empty without one.
        metrics: The last evaluation, fractions by name; empty before the first.
        model_hash: Of the weights; embeddings compare only if it agrees.
        teacher: Which network taught this one; None if it learnt from labels alone.
        sha256: Of the files beside this one.
        versions: Of what wrote it.
    """

    format: str = "trackletgait-run-1"
    name: str
    iteration: int = Field(ge=0)
    next_batch: int = Field(ge=0)
    class_num: int = Field(ge=1)
    config: TrainingConfig
    scaler: dict[str, float | int] = Field(default={})
    metrics: dict[str, float | None] = Field(default={})
    model_hash: str
    teacher: TeacherCard | None = None
    sha256: dict[str, str]
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a run has come.

    Attributes:
        iteration: Steps made.
        next_batch: Number of the first batch not yet used.
        metrics: The last evaluation.
    """

    iteration: int = 0
    next_batch: int = 0
    metrics: Mapping[str, float] | None = None


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, keep: int | None = None) -> None:
        """Look at a folder, which need not exist; of those saved, the newest `keep` stay."""
        self._folder, self._keep = folder, keep

    def newest(self) -> Path | None:
        """Return the newest checkpoint, or None."""
        found = self._all()
        return found[-1] if found else None

    def save(self, stepper: Stepper, position: Position, config: TrainingConfig) -> Path:
        """Write a checkpoint, whole or not at all, and remove those that are not kept.

        Raises:
            CheckpointError: It cannot be written; earlier checkpoints are untouched.
        """
        path = self._folder / f"{position.iteration:08d}"
        with _whole_folder(path) as partial:
            save_checkpoint(stepper.network, partial / MODEL_FILE)
            _write_memory(stepper, config.optimiser.kind, partial / TRAINING_FILE)
            card = _card(stepper, position, config, partial)
            _write(partial / CARD_FILE, card.model_dump_json(indent=1).encode())
        for old in self._all()[: -self._keep] if self._keep else []:
            shutil.rmtree(old)
        return path

    def remove_partial(self) -> None:
        """Remove what processes left behind that were killed while saving."""
        for partial in self._folder.glob(".*.part"):
            shutil.rmtree(partial, ignore_errors=True)

    def _all(self) -> list[Path]:
        return sorted(each for each in self._folder.glob("[0-9]*") if each.name.isdigit())


def read_card(checkpoint: Path) -> Card:
    """Return the card of a checkpoint.

    Raises:
        CheckpointError: It is missing, damaged or of another version.
    """
    path = checkpoint / CARD_FILE
    try:
        return Card.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CheckpointError(
            f"{path}: expected the card of a training checkpoint, cannot read it "
            f"({error.strerror}); give a folder such as checkpoints/00010000"
        ) from error
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise CheckpointError(
            f"{path}: expected the card of a training checkpoint, got a damaged one or one of "
            f"another version ({place}: {problem['msg']}); use another checkpoint"
        ) from error


def restore(checkpoint: Path, stepper: Stepper) -> Position:
    """Put a checkpoint's weights, optimiser and loss scale into `stepper`.

    Raises:
        CheckpointError: A file is missing or damaged, or the network is another.
    """
    card = read_card(checkpoint)
    model = load_trained(checkpoint, card)
    wanted = {key: value.shape for key, value in stepper.network.state_dict().items()}
    found = {key: value.shape for key, value in model.state_dict().items()}
    if wanted != found:
        raise CheckpointError(
            f"{checkpoint}: expected the weights of {len(wanted)} tensors for this run's network "
            f"and its subjects, got others ({card.class_num} subjects); the data set changed "
            "since: use another folder for a new run"
        )
    _check_teacher(stepper, card, checkpoint)
    stepper.network.load_state_dict(model.state_dict())
    _remember(stepper.optimiser, stepper.network, checkpoint, card)
    if card.scaler:
        stepper.scaler.load_state_dict(dict(card.scaler))
    metrics = {key: value for key, value in card.metrics.items() if value is not None}
    return Position(card.iteration, card.next_batch, metrics)


def _check_teacher(stepper: Stepper, card: Card, checkpoint: Path) -> None:
    given = stepper.teacher.card.model_hash if stepper.teacher else None
    wanted = card.teacher.model_hash if card.teacher else None
    if given != wanted:
        raise CheckpointError(
            f"{checkpoint}: expected the teacher this run was begun with (model hash {wanted}), "
            f"got {given}; give its weights as distillation.teacher"
        )


def load_trained(checkpoint: Path, card: Card) -> TrackletGait:
    """Return the network of a checkpoint.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    return load_checkpoint(_checked(checkpoint, MODEL_FILE, card)).model


def _remember(
    optimiser: torch.optim.Optimizer, network: TrackletGait, checkpoint: Path, card: Card
) -> None:
    """Give an optimiser of the network's weights what the checkpoint's remembered of them.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    from safetensors.torch import load_file

    loaded = load_file(_checked(checkpoint, TRAINING_FILE, card))
    for name, state in _MEMORIES[card.config.optimiser.kind].items():
        for key, parameter in network.named_parameters():
            if (value := loaded.get(f"{name}.{key}")) is not None:
                on_device = value if value.ndim == 0 else value.to(parameter.device)
                optimiser.state[parameter][state] = on_device


def _checked(checkpoint: Path, name: str, card: Card) -> Path:
    path = checkpoint / name
    if sha256_of(path) != card.sha256.get(name):
        raise CheckpointError(
            f"{path}: expected the file its card was written for (SHA-256 "
            f"{card.sha256.get(name)}), got a damaged or exchanged one; use another checkpoint"
        )
    return path


def _card(stepper: Stepper, position: Position, config: TrainingConfig, folder: Path) -> Card:
    neck = stepper.network.BNNecks
    assert neck is not None  # the trainer builds it so
    return Card(
        name=config.name,
        iteration=position.iteration,
        next_batch=position.next_batch,
        class_num=neck.fc_bin.shape[2],
        config=config,
        scaler=stepper.scaler.state_dict(),
        metrics=_finite(position.metrics or {}),
        model_hash=model_hash(stepper.network),
        teacher=stepper.teacher.card if stepper.teacher else None,
        sha256={name: sha256_of(folder / name) for name in (MODEL_FILE, TRAINING_FILE)},
        versions={
            "trackletgait": importlib.metadata.version("trackletgait"),
            "torch": torch.__version__,
        },
    )


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Return figures with None for NaN, which JSON has not."""
    return {key: value if value == value else None for key, value in metrics.items()}


def _write_memory(stepper: Stepper, kind: str, path: Path) -> None:
    from safetensors.torch import save

    remembered: dict[Any, Any] = stepper.optimiser.state
    values = {
        f"{name}.{key}": remembered[parameter][state].cpu().contiguous()
        for name, state in _MEMORIES[kind].items()
        for key, parameter in stepper.network.named_parameters()
        if remembered[parameter].get(state) is not None
    }
    _write(path, save(values))


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _whole_folder(path: Path) -> Iterator[Path]:
    """Give a hidden neighbour to fill, which becomes `path` at the end, or goes.

    Raises:
        CheckpointError: The system refuses to write.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.mkdir(parents=True)
        yield partial
        if path.exists():
            shutil.rmtree(path)
        partial.replace(path)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot write the checkpoint ({error.strerror or error}); make room or choose "
            "another folder, and give the same command again: it goes on from the newest one"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def to_authors(checkpoint: Path) -> tuple[TrackletGait, int, dict[str, Any]]:
    """Return network, iteration and training state as `export_authors` takes them.

    Their loop knows stochastic gradient descent: a run of AdamW gives its weights alone.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    card = read_card(checkpoint)
    model, settings = load_trained(checkpoint, card), card.config.optimiser
    if settings.kind != "sgd":
        return model, card.iteration, {}
    optimiser = build_optimiser(model.parameters(), settings)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimiser, settings.milestones, settings.gamma)
    _remember(optimiser, model, checkpoint, card)
    rate = settings.rate_at(card.iteration, card.config.iterations)
    optimiser.param_groups[0]["lr"] = rate
    scheduler.load_state_dict(
        {"last_epoch": card.iteration, "_step_count": card.iteration + 1, "_last_lr": [rate]}
    )
    training = {"optimizer": optimiser.state_dict(), "scheduler": scheduler.state_dict()}
    return model, card.iteration, training
