"""One network taught by another."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gait.errors import CheckpointError, ConfigError
from gait.losses.relation import RelationLoss
from gait.model.checkpoint import load_checkpoint, model_hash, save_checkpoint
from gait.model.trackletgait import TrackletGait
from gait.training.batches import Batch, BatchReader, open_sides
from gait.training.checkpoints import read_card
from gait.training.config import TrainingConfig
from gait.training.model_card import model_card
from gait.training.processes import Processes
from gait.training.step import Stepper
from gait.training.trainer import Trainer

MakeConfig = Callable[..., TrainingConfig]
MakeTrainer = Callable[..., Trainer]


@pytest.fixture
def teacher(tmp_path: Path, make_config: MakeConfig) -> Path:
    """A wider network of the same family, with other weights."""
    network = make_config(network={"name": "wide", "channels": [4, 8, 16, 16]}).network
    path = tmp_path / "teacher.safetensors"
    save_checkpoint(TrackletGait.random(network, torch.Generator().manual_seed(1)), path)
    return path


def batch(config: TrainingConfig, number: int) -> Batch:
    return BatchReader(open_sides(config.data).train, config).read(number)


def stepper(config: TrainingConfig) -> Stepper:
    network = TrackletGait.random(config.network, torch.Generator().manual_seed(7), class_num=6)
    return Stepper(network, config, Processes(torch.device("cpu")))


def test_a_student_that_only_imitates_gets_nearer_to_its_teacher(
    teacher: Path, make_config: MakeConfig
) -> None:
    config = make_config(distillation={"teacher": str(teacher), "weight": 1.0})
    steps, relation = stepper(config), RelationLoss()
    assert steps.teacher is not None
    batches = [batch(config, number) for number in range(7)]
    frames = [each.silhouettes.float() / 255 for each in batches]
    unseen, frames = frames[0], frames[1:]

    def gap() -> float:
        assert steps.teacher is not None
        with torch.no_grad():
            return relation(steps.network.eval()(unseen), steps.teacher(unseen)).loss.item()

    taught = [steps.teacher(each) for each in frames]
    for each in frames:  # settles the batch norms
        steps.network.train()(each)
    before = gap()
    optimiser = torch.optim.SGD(steps.network.parameters(), lr=0.2, momentum=0.9)
    for each, wanted in [*zip(frames, taught, strict=True)] * 5:
        optimiser.zero_grad()
        loss = relation(steps.network.train()(each), wanted).loss
        torch.autograd.backward(loss)
        optimiser.step()
    assert gap() < 0.5 * before


def test_a_step_adds_the_weighted_imitation_and_leaves_the_teacher_alone(
    teacher: Path, make_config: MakeConfig
) -> None:
    alone = stepper(config := make_config())
    taught = stepper(make_config(distillation={"teacher": str(teacher), "weight": 3.0}))
    assert taught.teacher is not None
    one = batch(config, 0)
    silhouettes = config.augment.build()(one.silhouettes, one.draws)
    with torch.no_grad():
        embeddings = alone.network.train()(silhouettes)
        expected = 3 * RelationLoss()(embeddings, taught.teacher(silhouettes)).loss.item()
    plain, found = alone([one], 0).figures, taught([one], 0).figures
    assert found["relation_loss"] == pytest.approx(expected, rel=1e-4)
    assert found["loss"] == pytest.approx(plain["loss"] + expected, rel=1e-4)
    assert model_hash(taught.teacher._network) == model_hash(load_checkpoint(teacher).model)
    assert all(each.grad is None for each in taught.teacher._network.parameters())
    assert not taught.teacher._network.training
    gradients = [each.grad for each in (alone.network.FCs.fc_bin, taught.network.FCs.fc_bin)]
    assert gradients[0] is not None
    assert gradients[1] is not None
    assert not torch.allclose(gradients[0], gradients[1])


def test_a_taught_run_goes_on_wherever_its_teacher_lies_and_with_no_other(
    teacher: Path, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    taught = {"distillation": {"teacher": str(teacher)}}
    make_trainer("whole", **taught).run()
    make_trainer("stopped", iterations=3, **taught).run()
    moved = tmp_path / "moved.safetensors"
    shutil.copy(teacher, moved)
    make_trainer("stopped", distillation={"teacher": str(moved)}).run()
    cards = [read_card(tmp_path / run / "checkpoints/00000006") for run in ("whole", "stopped")]
    assert cards[0].model_hash == cards[1].model_hash
    assert cards[0].teacher is not None
    assert cards[0].teacher.sha256 == load_checkpoint(teacher).sha256
    assert f"wide (`teacher.safetensors`, sha256 {cards[0].teacher.sha256[:12]}" in model_card(
        cards[0]
    )
    other = tmp_path / "other.safetensors"
    network = load_checkpoint(teacher).model
    with torch.no_grad():
        network.FCs.fc_bin.add_(1)
    save_checkpoint(network, other)
    with pytest.raises(CheckpointError, match="expected the teacher this run was begun with"):
        make_trainer("stopped", iterations=9, distillation={"teacher": str(other)})
    with pytest.raises(ConfigError, match="distillation"):
        make_trainer("stopped", iterations=9)


def test_a_teacher_with_other_parts_or_without_a_file_is_refused(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    path = tmp_path / "parts.safetensors"
    network = make_config(network={"num_parts": 8}).network
    save_checkpoint(TrackletGait.random(network, torch.Generator()), path)
    with pytest.raises(ConfigError, match="16 parts, got 8"):
        stepper(make_config(distillation={"teacher": str(path)}))
    with pytest.raises(CheckpointError, match="none"):
        stepper(make_config(distillation={"teacher": str(tmp_path / "none")}))
