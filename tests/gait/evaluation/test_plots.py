from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from gait.data.dataset import SequenceKey
from gait.errors import DataError
from gait.evaluation import Evaluation, evaluate
from gait.evaluation.openset import OpenSetConfig
from gait.evaluation.plots import draw


@pytest.fixture(scope="module")
def found() -> Evaluation:
    keys = [SequenceKey(str(s), f"c{c}", "0") for s in range(20) for c in range(3)]
    rng = np.random.default_rng(0)
    own = np.repeat(rng.standard_normal((20, 16, 4)), 3, axis=0)
    embeddings = (own + rng.standard_normal((60, 16, 4))).astype(np.float32)
    return evaluate("each-against-all", embeddings, keys, open_set=OpenSetConfig(resamples=20))


def test_cmc_and_open_set_are_drawn_as_png_and_svg(found: Evaluation, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files = draw(found, tmp_path)
    assert [file.name for file in files] == ["cmc.png", "cmc.svg", "open-set.png", "open-set.svg"]
    for file in files:
        if file.suffix == ".svg":
            assert ElementTree.parse(file).getroot().tag.endswith("svg")
        else:
            image = cv2.imread(str(file))
            assert image is not None
            assert image.std() > 5


def test_the_same_evaluation_draws_the_same_file(found: Evaluation, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        draw(found, tmp_path / name)
    one, two = ((tmp_path / name / "open-set.svg").read_bytes() for name in ("one", "two"))
    assert one == two


def test_without_matplotlib_it_says_what_to_install(
    found: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(DataError, match=r"trackletgait\[plots\]"):
        draw(found, tmp_path)
