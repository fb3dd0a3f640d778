"""A model's name leads to an intact file, or to words that help."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import weights
from pipeline.errors import ModelError
from pipeline.weights import BUNDLED, MODELS_FOLDER, resolve, sha256_of


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_model_resolves_to_a_file_of_the_stated_hash(name: str) -> None:
    assert sha256_of(resolve(name)) == BUNDLED[name].sha256


def test_every_bundled_model_and_its_hash_are_in_the_notice() -> None:
    notice = (MODELS_FOLDER / "NOTICE.md").read_text(encoding="utf-8")
    for model in BUNDLED.values():
        assert model.file in notice
        assert model.sha256 in notice


def test_a_path_resolves_to_itself(tmp_path: Path) -> None:
    model = tmp_path / "mine.onnx"
    model.write_bytes(b"x")
    assert resolve(str(model)) == model


def test_an_unknown_model_names_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"pose-landmark-full.*no such file.*did you mean ssdlite"):
        resolve("ssdlite-coco-320")


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
