"""Weights as they ship: small, without the head, with a card that tells the truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch

from gait.encoder import Encoder
from gait.errors import CheckpointError, ConfigError
from gait.model.card import card_path, read_weights_card
from gait.model.checkpoint import load_checkpoint, save_checkpoint, save_weights, sha256_of
from gait.model.trackletgait import VARIANTS, TrackletGait
from gait.training.checkpoints import MODEL_FILE, read_card
from gait.training.shipping import Told, read_figures, ship
from gait.training.trainer import Trainer

MakeTrainer = Callable[..., Trainer]


@pytest.fixture
def checkpoint(make_trainer: MakeTrainer, tmp_path: Path) -> Path:
    make_trainer(evaluation={"protocol": "each-against-all"}).run()
    return tmp_path / "run/checkpoints/00000006"


def walk(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (5, 64, 44), np.uint8)


def test_shipped_weights_embed_as_the_checkpoint_does(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "nano.safetensors"
    ship(checkpoint, out, Told())
    full, half = Encoder.from_weights(checkpoint / MODEL_FILE), Encoder.from_weights(out)
    for seed in range(3):
        (expected,), (found,) = full.embed([walk(seed)]), half.embed([walk(seed)])
        assert found.dtype == np.float32
        # float16 has 11 bits, and every layer rounds its weights once
        np.testing.assert_allclose(found, expected, atol=5e-3 * np.abs(expected).max())
    assert half.model_hash != full.model_hash
    assert "card nano.md" in half.description


def test_the_head_is_left_out_and_only_matrices_are_halved(
    checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "nano.safetensors"
    ship(checkpoint, out, Told())
    assert load_checkpoint(out).class_num is None
    with safetensors.safe_open(out, "pt") as file:
        dtypes = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert not any(key.startswith("BNNecks") for key in dtypes)
    for key, value in dtypes.items():
        halved = value.ndim > 1
        assert (value.dtype == torch.float16) == halved, key


def test_nano_ships_in_two_and_a_half_megabytes(tmp_path: Path) -> None:
    out = tmp_path / "nano.safetensors"
    network = TrackletGait.random(VARIANTS["nano"], torch.Generator().manual_seed(0), 1000)
    save_weights(network, out, half=True)
    assert out.stat().st_size < 2.5e6


def test_the_same_checkpoint_gives_the_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    cards = [ship(checkpoint, tmp_path / name, Told()) for name in ("a.safetensors",) * 2]
    assert cards[0].sha256 == cards[1].sha256
    network = load_checkpoint(checkpoint / MODEL_FILE).model
    save_checkpoint(network, tmp_path / "again.safetensors")
    assert sha256_of(tmp_path / "again.safetensors") == sha256_of(checkpoint / MODEL_FILE)


def test_the_card_says_what_was_trained_measured_and_told(checkpoint: Path, tmp_path: Path) -> None:
    evaluation = tmp_path / "evaluation.json"
    evaluation.write_text(json.dumps({"title": "Unseen", "metrics": {"rank-1": 0.5, "x": None}}))
    out = tmp_path / "nano.safetensors"
    told = Told("SynthGait-Wild, seed 7", 0.25, "equal error on it", read_figures([evaluation]))
    shipped = ship(checkpoint, out, told)
    card = read_weights_card(out)
    assert card == shipped
    assert card.sha256 == sha256_of(out)
    assert card.model_hash == Encoder.from_weights(out).model_hash
    assert (card.threshold, card.network, card.precision) == (0.25, "tiny", "float16")
    assert card.training["iterations"] == card.iterations == 6
    assert set(card.figures) == {"each-against-all, during training", "Unseen"}
    text = out.with_suffix(".md").read_text()
    for part in ("SynthGait-Wild, seed 7", "0.25, equal error on it", card.sha256, "## Unseen",
                 "| rank-1 | 50.00 % |", "| x | none |", "| taught by | labels alone |",
                 "Intended use and limits"):  # fmt: skip
        assert part in text, part


def test_full_precision_is_the_checkpoints(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "nano.safetensors"
    ship(checkpoint, out, Told(), half=False)
    assert (
        Encoder.from_weights(out).model_hash
        == Encoder.from_weights(checkpoint / MODEL_FILE).model_hash
    )


def test_weights_beyond_float16_are_refused(tmp_path: Path) -> None:
    network = TrackletGait.random(VARIANTS["nano"], torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.FCs.fc_bin[0, 0, 0] = 1e6
    with pytest.raises(CheckpointError, match=r"FCs\.fc_bin"):
        save_weights(network, tmp_path / "x.safetensors", half=True)
    assert list(tmp_path.iterdir()) == []


def test_bad_names_figures_and_cards_are_refused_by_name(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nano\.pt.*safetensors"):
        ship(checkpoint, tmp_path / "nano.pt", Told())
    for threshold in (float("inf"), float("nan"), -1.0):  # JSON has none of the first two
        with pytest.raises(ConfigError, match="threshold: expected a distance"):
            ship(checkpoint, tmp_path / "nano.safetensors", Told(threshold=threshold))
    with pytest.raises(CheckpointError, match=r"card\.json"):
        ship(tmp_path, tmp_path / "nano.safetensors", Told())
    for content in ("[]", "{", '{"metrics": {"a": "b"}}'):
        (tmp_path / "f.json").write_text(content)
        with pytest.raises(ConfigError, match=r"f\.json"):
            read_figures([tmp_path / "f.json"])
    out = tmp_path / "nano.safetensors"
    assert read_weights_card(out) is None
    card_path(out).write_text('{"name": 1}')
    with pytest.raises(CheckpointError, match=r"nano\.json"):
        read_weights_card(out)


def test_a_card_tells_no_folder_of_the_machine_it_was_trained_on(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    make_trainer(iterations=1).run()
    newest = tmp_path / "run/checkpoints/00000001"
    card = ship(newest, tmp_path / "w.safetensors", Told())
    assert str(tmp_path.parent) not in card.model_dump_json()
    assert card.data == Path(read_card(newest).config.data.path).name
