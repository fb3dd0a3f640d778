"""Which network recognises people, and at what distance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from gait.model.card import WeightsCard, card_path
from gait.model.checkpoint import save_weights, sha256_of
from gait.model.trackletgait import VARIANTS, TrackletGait
from pipeline import doctor, weights
from pipeline.errors import ModelError
from pipeline.stages import encode
from pipeline.stages.encode import UNTRAINED_THRESHOLDS, EncoderConfig
from pipeline.weights import BundledModel


@pytest.fixture
def nano(tmp_path: Path) -> Path:
    """A network as it ships, weights and card; nobody trained it."""
    path = tmp_path / "trackletgait-nano.safetensors"
    network = TrackletGait.random(VARIANTS["nano"], torch.Generator().manual_seed(3))
    save_weights(network, path, half=True)
    card = WeightsCard(
        name="trackletgait-nano", network="nano", precision="float16", sha256=sha256_of(path),
        model_hash="0", data="none", class_num=1, iterations=0, training={}, threshold=0.125,
    )  # fmt: skip
    card_path(path).write_text(card.model_dump_json())
    path.with_suffix(".md").write_text("# card")
    return path


@pytest.fixture
def bundled(nano: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as if it came with the package."""
    model = BundledModel(nano.name, sha256_of(nano))
    monkeypatch.setattr(weights, "MODELS_FOLDER", nano.parent)
    monkeypatch.setitem(weights.BUNDLED, "trackletgait-nano", model)
    monkeypatch.setattr(weights, "ENCODERS", ("trackletgait-nano",))
    monkeypatch.setattr(weights, "DEFAULT_ENCODER", "trackletgait-nano")
    weights._intact.cache_clear()
    yield nano
    weights._intact.cache_clear()


def test_a_bundled_name_gives_trained_weights_and_their_own_threshold(bundled: Path) -> None:
    config = EncoderConfig(weights="trackletgait-nano")
    encoder = config.build()
    assert encoder.is_trained
    assert config.threshold == 0.125
    for part in ("nano", "trackletgait-nano.safetensors", sha256_of(bundled)[:12], ".md"):
        assert part in encoder.description


def test_a_card_beside_weights_of_ones_own_gives_the_threshold_too(nano: Path) -> None:
    assert EncoderConfig(weights=str(nano)).threshold == 0.125
    card_path(nano).unlink()
    assert EncoderConfig(weights=str(nano)).threshold is None


def test_a_card_of_other_weights_is_refused(nano: Path) -> None:
    card = json.loads(card_path(nano).read_text())
    card_path(nano).write_text(json.dumps({**card, "sha256": "0" * 64}))
    with pytest.raises(ModelError, match="other weights"):
        _ = EncoderConfig(weights=str(nano)).threshold


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("chosen", ["random", None])
def test_random_weights_run_by_choice_and_say_so(chosen: str | None, variant: str) -> None:
    config = EncoderConfig.model_validate({"weights": chosen, "variant": variant})
    assert config.threshold == UNTRAINED_THRESHOLDS[variant]
    assert not config.build().is_trained


def test_the_doctor_names_the_default_encoder_its_threshold_and_card(bundled: Path) -> None:
    (found,) = [each for each in doctor.examine(bundled.parent) if each.subject == "encoder"]
    assert found.verdict == "ok"
    for part in ("trackletgait-nano", sha256_of(bundled)[:12], "0.125", "trackletgait-nano.md"):
        assert part in found.detail
    card_path(bundled).write_text("{}")
    (found,) = [each for each in doctor.examine(bundled.parent) if each.subject == "encoder"]
    assert found.verdict == "problem"


def test_a_bundled_encoder_that_is_damaged_is_refused(bundled: Path) -> None:
    bundled.write_bytes(b"half a download")
    with pytest.raises(ModelError, match="damaged"):
        EncoderConfig(weights="trackletgait-nano").build()


def test_the_default_is_what_ships() -> None:
    assert EncoderConfig().weights == encode.DEFAULT_ENCODER


def test_the_runtime_and_its_precision_are_chosen_by_name(nano: Path) -> None:
    config = EncoderConfig(weights=str(nano), runtime="torch", precision="float32", threads=1)
    encoder = config.build()
    assert "float32 by torch" in encoder.description
    with pytest.raises(ValidationError, match="runtime"):
        EncoderConfig.model_validate({"runtime": "caffe"})
    with pytest.raises(ValidationError, match="precision"):
        EncoderConfig.model_validate({"precision": "float64"})


def test_on_a_cpu_torch_serves_at_once_and_nothing_is_built_for_a_short_run(nano: Path) -> None:
    with EncoderConfig(weights=str(nano), device="cpu").build() as encoder:
        encoder.embed([np.zeros((3, 64, 44), np.uint8)])
        assert encoder.description.endswith(f"float32 by torch {torch.__version__} on cpu")
