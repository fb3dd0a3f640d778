from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gait.encoder import Encoder
from gait.errors import CheckpointError, ConfigError, TrainingError
from gait.model.checkpoint import export_authors
from gait.training.checkpoints import CARD_FILE, MODEL_FILE, TRAINING_FILE, read_card, to_authors
from gait.training.model_card import model_card
from gait.training.observers import Observer, Report
from gait.training.trainer import Trainer

MakeTrainer = Callable[..., Trainer]

SMALL = {"name": "small", "blocks": [0, 1, 1, 0], "channels": [64, 256, 512, 512],
         "stem_channels": 16, "embedding_channels": 256}  # fmt: skip


class Stop(Exception):
    """Stands for whatever ends a run."""


class StopAfter(Observer):
    def __init__(self, iteration: int) -> None:
        self.iteration, self.closed = iteration, False

    def stepped(self, report: Report) -> None:
        if report.iteration == self.iteration:
            raise Stop

    def close(self) -> None:
        self.closed = True


def curve(folder: Path) -> list[dict[str, Any]]:
    """The log without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "samples_per_s"} for line in lines]


def checkpoint(folder: Path, iteration: int) -> Path:
    return folder / "checkpoints" / f"{iteration:08d}"


def same_weights(one: Path, other: Path) -> bool:
    """Compare tensors, not files: safetensors writes its metadata in any order."""
    for name in (MODEL_FILE, TRAINING_FILE):
        a, b = load_file(one / name), load_file(other / name)
        if a.keys() != b.keys() or not all(torch.equal(a[key], b[key]) for key in a):
            return False
    return True


def test_a_stopped_run_goes_on_bit_for_bit(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    make_trainer("whole").run()
    stop = StopAfter(5)
    with pytest.raises(Stop):
        make_trainer("stopped", [stop]).run()
    assert stop.closed
    assert curve(tmp_path / "stopped") == curve(tmp_path / "whole")[:5]
    resumed = make_trainer("stopped")
    assert resumed.position.iteration == 3  # the newest checkpoint
    resumed.run()
    assert curve(tmp_path / "stopped") == curve(tmp_path / "whole")
    assert same_weights(checkpoint(tmp_path / "stopped", 6), checkpoint(tmp_path / "whole", 6))


def test_evaluating_leaves_no_trace_in_training(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    make_trainer("plain").run()
    make_trainer("watched", evaluation={"protocol": "each-against-all", "every": 2}).run()
    watched = curve(tmp_path / "watched")
    assert [line for line in watched if "loss" in line] == curve(tmp_path / "plain")
    assert [line["iteration"] for line in watched if "metrics" in line] == [2, 4, 6]
    assert same_weights(checkpoint(tmp_path / "plain", 6), checkpoint(tmp_path / "watched", 6))
    told = json.loads((tmp_path / "watched/evaluations/00000006.json").read_text())
    assert told["config"] == "tiny"
    card = read_card(checkpoint(tmp_path / "watched", 6))
    assert card.metrics["rank-1"] == told["metrics"]["rank-1"]


def test_a_finished_run_may_be_prolonged(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    make_trainer("once", iterations=9).run()
    make_trainer("twice", iterations=6).run()
    make_trainer("twice", iterations=9).run()
    assert curve(tmp_path / "twice") == curve(tmp_path / "once")


def test_a_run_that_is_longer_is_not_passed_off_as_a_shorter_one(make_trainer: MakeTrainer) -> None:
    make_trainer(iterations=3).run()
    with pytest.raises(ConfigError, match=r"at least the 3 .* got 2"):
        make_trainer(iterations=2)


def test_another_seed_gives_another_curve(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    make_trainer("a", iterations=1).run()
    make_trainer("b", iterations=1, seed=1).run()
    assert curve(tmp_path / "a")[0]["loss"] != curve(tmp_path / "b")[0]["loss"]


def test_accumulation_uses_up_its_batches(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    make_trainer(iterations=2, compute={"accumulate": 3}).run()
    assert [line["next_batch"] for line in curve(tmp_path / "run")] == [3, 6]


def test_a_run_with_other_settings_is_not_gone_on_with(make_trainer: MakeTrainer) -> None:
    make_trainer().run()
    with pytest.raises(ConfigError, match=r"seed: was 0, now 1"):
        make_trainer(seed=1)


def test_only_the_newest_checkpoints_are_kept(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    make_trainer(checkpoints={"every": 1, "keep": 2}).run()
    assert sorted(p.name for p in (tmp_path / "run/checkpoints").iterdir()) == [
        "00000005",
        "00000006",
    ]


def test_what_a_kill_left_half_written_is_removed_and_not_read(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    make_trainer(iterations=3).run()
    partial = tmp_path / "run/checkpoints/.00000006.1.part"
    shutil.copytree(checkpoint(tmp_path / "run", 3), partial)
    (partial / MODEL_FILE).write_bytes(b"half")
    with (tmp_path / "run/log.jsonl").open("a") as log:
        log.write('{"iteration": 4, "loss": 9}\n{"iterat')
    resumed = make_trainer(iterations=6)
    resumed.run()
    assert not partial.exists()
    assert [line["iteration"] for line in curve(tmp_path / "run")] == list(range(1, 7))


@pytest.mark.parametrize("name", [MODEL_FILE, TRAINING_FILE, CARD_FILE])
def test_a_damaged_checkpoint_is_refused_by_its_file(
    name: str, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    make_trainer(iterations=3).run()
    file = checkpoint(tmp_path / "run", 3) / name
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=name):
        make_trainer(iterations=6)


def test_a_full_disk_ends_the_run_and_leaves_earlier_checkpoints(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    make_trainer(iterations=3).run()
    before = {p: p.read_bytes() for p in checkpoint(tmp_path / "run", 3).iterdir()}
    trainer = make_trainer()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"00000006.*(make room|has room)"):
            trainer.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    left = list((tmp_path / "run/checkpoints").iterdir())
    assert left == [checkpoint(tmp_path / "run", 3)]
    assert {p: p.read_bytes() for p in left[0].iterdir()} == before
    make_trainer().run()  # with room again, it goes on
    assert checkpoint(tmp_path / "run", 6).exists()


def poison(trainer: Trainer) -> None:
    with torch.no_grad():
        trainer._stepper.network.FCs.fc_bin[0, 0, 0] = torch.nan


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_batch(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    trainer = make_trainer()
    poison(trainer)
    with pytest.raises(TrainingError, match=r"iteration 1.*bad-batch-00000000-rank0\.npz"):
        trainer.run()
    saved = np.load(tmp_path / "run/bad-batch-00000000-rank0.npz")
    assert saved["silhouettes"].shape == (8, 4, 64, 44)
    assert [str(key)[:3] for key in saved["keys"]] == [f"{n:03d}" for n in saved["labels"]]
    assert np.isnan(json.loads(str(saved["figures"]))["loss"])
    assert saved["degrees"].shape == (8,)
    assert not (tmp_path / "run/checkpoints").exists()


def test_weights_that_are_no_numbers_are_not_saved(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    class PoisonLater(Observer):
        def stepped(self, report: Report) -> None:
            if report.iteration == 3:
                poison(trainer)

    trainer = make_trainer(observers=[PoisonLater()])
    with pytest.raises(TrainingError, match=r"FCs\.fc_bin"):
        trainer.run()
    assert not (tmp_path / "run/checkpoints").exists()


def test_steps_that_overflow_do_not_count(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(iterations=3, compute={"precision": "float16"})
    scaler = trainer._stepper.scaler
    scaler.load_state_dict({**scaler.state_dict(), "scale": 2.0**40})
    trainer.run()
    lines = curve(tmp_path / "run")
    assert [line["iteration"] for line in lines] == [1, 2, 3]
    assert lines[0]["next_batch"] > 10  # the scale had to fall first
    card = read_card(checkpoint(tmp_path / "run", 3))
    assert card.scaler["scale"] < 2.0**40
    assert card.next_batch == lines[-1]["next_batch"]


def test_overflow_without_end_is_told(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gait.training.trainer._MAX_SKIPPED", 12)
    trainer = make_trainer(compute={"precision": "float16"})
    scaler = trainer._stepper.scaler
    scaler.load_state_dict({**scaler.state_dict(), "scale": 2.0**120, "backoff_factor": 1.0 - 1e-6})
    with pytest.raises(TrainingError, match="bfloat16"):
        trainer.run()


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_a_bfloat16_run_goes_on_bit_for_bit(
    kind: str, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    changes = {
        "compute": {"precision": "bfloat16"},
        "optimiser": {"kind": kind, "rate": 0.001, "schedule": "cosine", "warmup": 2},
    }
    make_trainer("whole", **changes).run()
    with pytest.raises(Stop):
        make_trainer("stopped", [StopAfter(4)], **changes).run()
    make_trainer("stopped", **changes).run()
    assert curve(tmp_path / "stopped") == curve(tmp_path / "whole")


def test_a_float16_run_goes_on_with_its_loss_scale(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    make_trainer("whole", compute={"precision": "float16"}).run()
    with pytest.raises(Stop):
        make_trainer("stopped", [StopAfter(4)], compute={"precision": "float16"}).run()
    make_trainer("stopped", compute={"precision": "float16"}).run()
    assert curve(tmp_path / "stopped") == curve(tmp_path / "whole")


def test_a_checkpoint_embeds_and_its_card_says_what_it_is(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    make_trainer(evaluation={"protocol": "each-against-all"}).run()
    path = checkpoint(tmp_path / "run", 6)
    encoder = Encoder.from_weights(path / MODEL_FILE)
    card = read_card(path)
    assert encoder.model_hash == card.model_hash
    assert encoder.embed([np.full((3, 64, 44), 255, np.uint8)])[0].shape == (8, 16)
    assert card.config == make_trainer("other")._config.model_copy(
        update={"evaluation": card.config.evaluation}
    )
    text = model_card(card)
    assert card.model_hash in text
    assert f"| rank-1 | {100 * (card.metrics['rank-1'] or 0):.2f} % |" in text


@pytest.mark.slow
def test_an_exported_run_goes_on_in_the_authors_kind_of_loop(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    """Their loop loads model, SGD and MultiStepLR; one more step must then be ours."""
    make_trainer(
        iterations=2, network=SMALL, optimiser={"milestones": [1]}, checkpoints={"every": 1}
    ).run()
    model, iteration, training = to_authors(checkpoint(tmp_path / "run", 1))
    export_authors(model, tmp_path / "x-00001.pt", iteration=iteration, training=training)
    content = torch.load(tmp_path / "x-00001.pt", weights_only=True)
    assert content["iteration"] == 1
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimiser, [1], 0.1)
    model.load_state_dict(content["model"], strict=True)
    optimiser.load_state_dict(content["optimizer"])
    scheduler.load_state_dict(content["scheduler"])
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0.005)

    shutil.copytree(checkpoint(tmp_path / "run", 1), checkpoint(tmp_path / "run2", 1))
    ours = make_trainer("run2", iterations=2, network=SMALL, optimiser={"milestones": [1]})
    batch = ours._reader.read(1)
    model.train()
    embeddings = model(ours._stepper._augment(batch.silhouettes, batch.draws))
    loss = ours._stepper._triplet(embeddings, batch.labels).loss
    loss = loss + ours._stepper._cross_entropy(model.classify(embeddings)[1], batch.labels).loss
    loss.backward()
    optimiser.step()
    ours._stepper([batch], 1)
    for key, parameter in ours._stepper.network.named_parameters():
        torch.testing.assert_close(parameter, model.get_parameter(key), msg=key)
