from __future__ import annotations

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from gait.data.datasets import DATASETS
from gait.data.layouts import LAYOUTS
from gait.data.pack import PackedDataset
from gait.errors import DataError
from pipeline.commands.data import Benchmark, Layout, app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def draw(seed: int, t: int) -> np.ndarray:
    frame = np.zeros((120, 100), np.uint8)
    cv2.ellipse(frame, (50, 60), (8 + seed, 45), 0, 0, 360, 255, -1)
    cv2.line(frame, (50, 80), (50 + 3 * t, 110), 255, 4)
    return frame


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for seed, key in enumerate(
        ("001/nm-01/000", "001/nm-01/090", "075/nm-05/000", "075/nm-05/090")
    ):
        folder = tmp_path / "raw" / key
        folder.mkdir(parents=True)
        for t in range(6):
            cv2.imwrite(str(folder / f"{t:03}.png"), draw(seed, t))
        cv2.imwrite(str(folder / "006.png"), np.zeros((120, 100), np.uint8))
    return tmp_path / "raw"


def test_the_choices_are_the_librarys() -> None:
    assert [each.value for each in Benchmark] == list(DATASETS)
    assert [each.value for each in Layout] == list(LAYOUTS)


def test_raw_frames_become_a_checked_pack(raw: Path, tmp_path: Path) -> None:
    out, pack = tmp_path / "out", tmp_path / "casia-b.gaitpack"
    result = run("prepare", raw, out, "--dataset", "casia-b", "--workers", 2)
    assert result.exit_code == 0, result.output
    assert "no_pixels" in result.output
    assert json.loads((out / "prepare-report.json").read_text())["skipped"] == {"no_pixels": 4}
    assert run("check", out).exit_code == 0
    result = run("pack", out, pack)
    assert result.exit_code == 0, result.output
    assert "Packed 4 sequences" in result.output
    assert PackedDataset(pack).lengths.tolist() == [6, 6, 6, 6]
    assert run("check", pack).exit_code == 0


def test_check_says_what_is_wrong_and_exits_with_1(raw: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "out", tmp_path / "report.json"
    run("prepare", raw, out, "--dataset", "casia-b", "--workers", 1)
    (out / "001/nm-01/000/000.pkl").write_bytes(pickle.dumps({"not": "an array"}))
    result = run("check", out, "--dataset", "casia-b", "--workers", 1, "--report", report)
    assert result.exit_code == 1
    assert "expected one pickled array, got a dict" in result.output
    assert "CASIA-B has 74 training subjects, got 1" in result.output
    assert len(json.loads(report.read_text())["findings"]) == 4
    assert "4 errors, 0 warnings" in result.output


def test_many_findings_of_a_kind_do_not_hide_the_others(tmp_path: Path) -> None:
    for subject in range(8):
        file = tmp_path / "d" / f"{subject:03}" / "nm-01" / "000" / "000.pkl"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"")
    result = run("check", tmp_path / "d", "--workers", 1)
    assert result.exit_code == 1
    assert result.output.count("damaged file") == 5
    assert "3 more of the kind 'file'" in result.output
    assert "8 subjects to train with have a single sequence" in result.output


def test_frames_without_anybody_end_with_1_and_say_why(tmp_path: Path) -> None:
    folder = tmp_path / "raw/001/nm-01/000"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "000.png"), np.ones((120, 100), np.uint8))
    result = run("prepare", tmp_path / "raw", tmp_path / "out", "--dataset", "ccpg")
    assert result.exit_code == 1
    assert "levels_0_1" in result.output
    assert "no frame gave a silhouette" in result.output


def test_an_undocumented_raw_layout_is_admitted(raw: Path, tmp_path: Path) -> None:
    arguments = ("prepare", raw, tmp_path / "out", "--dataset", "ccpg", "--workers", 1)
    assert "not documented" in run(*arguments).output
    assert "not documented" not in run(*arguments, "--layout", "generic").output
    assert (tmp_path / "out/001/nm-01/000/000-aligned-sils.pkl").is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ("prepare", "raw", "out"),
        ("prepare", "raw", "out", "--dataset", "casia"),
        ("prepare", "raw", "out", "--dataset", "casia-b", "--workers", 0),
        ("pack", "d", "d.gaitpack", "--data-in-use", "1,1"),
        ("check", "d", "--data-in-use", "true"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: tuple[object, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_a_missing_data_set_is_an_error_of_ours(tmp_path: Path) -> None:
    for verb in ("check", "pack"):
        result = run(verb, tmp_path / "none", *([tmp_path / "p"] if verb == "pack" else []))
        assert result.exit_code == 1
        assert isinstance(result.exception, DataError)
        assert str(tmp_path / "none") in str(result.exception)
