"""A model's name leads to an intact file, or to words that help."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import weights
from pipeline.errors import ModelError
from pipeline.stages.encode import read_card
from pipeline.weights import BUNDLED, ENCODERS, MODELS_FOLDER, encoder_file, resolve, sha256_of


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_model_resolves_to_a_file_of_the_stated_hash(name: str) -> None:
    assert sha256_of(resolve(name)) == BUNDLED[name].sha256


def test_every_bundled_model_and_its_hash_are_in_the_notice_or_on_a_card() -> None:
    notice = (MODELS_FOLDER / "NOTICE.md").read_text(encoding="utf-8")
    for name, model in BUNDLED.items():
        card = (MODELS_FOLDER / model.file).with_suffix(".md")
        told = card.read_text(encoding="utf-8") if name in ENCODERS else notice
        assert model.file in told
        assert model.sha256 in told


@pytest.mark.parametrize("name", ENCODERS)
def test_a_bundled_encoder_has_a_card_with_a_threshold_and_figures(name: str) -> None:
    card = read_card(name)
    assert card is not None
    assert card.threshold is not None
    assert card.figures


def test_encoders_are_found_by_name_or_path(tmp_path: Path) -> None:
    assert encoder_file(str(tmp_path / "mine.pt")) == tmp_path / "mine.pt"
    assert all(encoder_file(name).parent == MODELS_FOLDER for name in ENCODERS)


def test_a_path_resolves_to_itself(tmp_path: Path) -> None:
    model = tmp_path / "mine.onnx"
    model.write_bytes(b"x")
    assert resolve(str(model)) == model


def test_an_unknown_model_names_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"pose-landmark-full.*no such file.*did you mean ssdlite"):
        resolve("ssdlite-coco-320")
    with pytest.raises(ModelError, match=r"pose-landmark-full; got .*nothing is downloaded$"):
        resolve("yolo11n.pt")


def test_a_mistyped_encoder_is_led_to_its_name_and_a_path_may_not_be_there_yet() -> None:
    with pytest.raises(ModelError, match=r"did you mean trackletgait-nano\?"):
        encoder_file("trackletgait-nanno")
    assert encoder_file("runs/mine.safetensors") == Path("runs/mine.safetensors")


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a folder"):
        resolve(str(tmp_path))


def test_a_damaged_bundled_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / BUNDLED["ssdlite-coco-300"].file).write_bytes(b"half a download")
    monkeypatch.setattr(weights, "MODELS_FOLDER", tmp_path)
    weights._intact.cache_clear()
    try:
        with pytest.raises(ModelError, match="damaged"):
            resolve("ssdlite-coco-300")
        with pytest.raises(ModelError, match="missing"):
            resolve("pose-landmark-full")
    finally:
        weights._intact.cache_clear()
