from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gait.errors import DataError
from gait.evaluation.published import read_rows


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "b.yaml").write_text("published:\n  NM: {rank-1: 98.87}\n  CL: {rank-1: 87.36}\n")
    (folder / "a.yaml").write_text("model: x\npublished: {rank-1: 77.8, mAP: 70.204}\n")
    (folder / "c.yaml").write_text("model: ablation\n")
    return folder


def write_result(tmp_path: Path, age_s: float = 0.0, **changed: object) -> None:
    content = {
        "config": "a",
        "protocol": "gait3d",
        "metric": "euclidean",
        "precision": "float32",
        "reranked": False,
        "metrics": {"rank-1": 0.75, "mAP": None},
    } | changed
    folder = tmp_path / "results" / str(len(list(tmp_path.glob("results/*"))))
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps(content))
    os.utime(folder / "evaluation.json", (1e9 - age_s, 1e9 - age_s))


def reproduced(configs: Path, tmp_path: Path) -> dict[str, float | None]:
    rows = read_rows(configs, tmp_path / "results")
    return {f"{row.config} {row.figure}": row.reproduced for row in rows}


def test_before_any_result_the_table_has_the_papers_figures_only(
    configs: Path, tmp_path: Path
) -> None:
    rows = read_rows(configs, tmp_path / "results")
    assert [(row.config, row.figure, row.published) for row in rows] == [
        ("a", "rank-1", 77.8),
        ("a", "mAP", 70.204),
        ("b", "NM/rank-1", 98.87),
        ("b", "CL/rank-1", 87.36),
    ]
    assert all(row.reproduced is None for row in rows)


def test_a_result_stands_beside_its_figure_in_percent(configs: Path, tmp_path: Path) -> None:
    write_result(tmp_path)
    found = reproduced(configs, tmp_path)
    assert found.pop("a rank-1") == 75
    assert set(found.values()) == {None}


def test_the_newest_result_with_the_figure_counts(configs: Path, tmp_path: Path) -> None:
    write_result(tmp_path, age_s=10, metrics={"rank-1": 0.5, "mAP": 0.25})
    write_result(tmp_path, age_s=0, metrics={"rank-1": 0.6, "mAP": None})
    found = reproduced(configs, tmp_path)
    assert (found["a rank-1"], found["a mAP"]) == (60, 25)


@pytest.mark.parametrize(
    "otherwise",
    [
        {"reranked": True},
        {"metric": "cosine"},
        {"protocol": "each-against-all"},
        {"protocol": "casia-b-cross-view"},
        {"config": "d"},
    ],
)
def test_what_was_not_made_as_published_does_not_count(
    otherwise: dict[str, object], configs: Path, tmp_path: Path
) -> None:
    write_result(tmp_path, **otherwise)
    assert set(reproduced(configs, tmp_path).values()) == {None}


def test_a_configuration_goes_by_its_name_not_its_files(configs: Path, tmp_path: Path) -> None:
    (configs / "a.yaml").rename(configs / "renamed.yaml")
    (configs / "renamed.yaml").write_text("name: a\npublished: {rank-1: 77.8}\n")
    write_result(tmp_path)
    assert reproduced(configs, tmp_path)["a rank-1"] == 75


def test_other_json_files_are_passed_over(configs: Path, tmp_path: Path) -> None:
    write_result(tmp_path)
    (tmp_path / "results" / "features.json").write_text('{"keys": []}')
    (tmp_path / "results" / "broken.json").write_text("{")
    (tmp_path / "results" / "deep.json").write_text("[" * 100_000)
    others: list[dict[str, object]] = [
        {"config": ["a"]},
        {"metrics": [1]},
        {"protocol": {}},
        {"metrics": {"rank-1": "x"}},
    ]
    for odd in others:
        write_result(tmp_path, age_s=-1, **odd)
    assert reproduced(configs, tmp_path)["a rank-1"] == 75


def test_a_published_figure_that_is_no_number_is_named(configs: Path, tmp_path: Path) -> None:
    (configs / "c.yaml").write_text("published: {rank-1: yes}\n")
    with pytest.raises(DataError, match=r"c\.yaml: published: rank-1: expected percent, got True"):
        read_rows(configs, tmp_path)
