from __future__ import annotations

import errno
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gait.data.pack import PackedDataset
from gait.errors import ConfigError, DataError
from gait.synthetic.recipes import RECIPES
from pipeline.cli import app, main
from pipeline.commands.synth import RecipeName

SMALL = ("--people", 1, "--test-people", 1, "--sequences", 2, "--frames", 3, "--workers", 1)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["synth", "silhouettes", *map(str, arguments)])


def exit_code(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["trackletgait", "synth", "silhouettes", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def test_the_choices_are_the_librarys() -> None:
    assert {each.value for each in RecipeName} == set(RECIPES)


def test_a_small_set_is_made_and_told_about(tmp_path: Path) -> None:
    result = run(tmp_path / "out", *SMALL, "--pack")
    assert result.exit_code == 0, result.output
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert recipe["digest"] in result.output
    assert recipe["recipe"]["people"] == 1
    assert "partition-unseen-views.json" in result.output
    assert len(PackedDataset(tmp_path / "out" / "wild.gaitpack")) == 2 + 4


def test_lab_and_exact_masks_can_be_asked_for(tmp_path: Path) -> None:
    result = run(
        tmp_path / "out",
        "--recipe",
        "lab",
        "--people",
        2,
        "--frames",
        1,
        "--pitch",
        10,
        "--pack",
        "--workers",
        1,
    )
    assert result.exit_code == 0, result.output
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())["recipe"]
    assert (recipe["pitch"], recipe["noise"]) == (10.0, False)


@pytest.mark.parametrize(
    "wrong",
    [
        ("--people", 0),
        ("--frames", 0),
        ("--pitch", "10,50"),
        ("--pitch", "steep"),
        ("--pitch", "10"),
        ("--recipe", "moon"),
        ("--seed", -1),
        ("--recipe", "lab", "--sequences", 3),
        ("--recipe", "lab", "--people", 125),
        ("--device", "abacus"),
    ],
)
def test_what_cannot_be_made_is_wrong_usage(
    wrong: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exit_code(monkeypatch, tmp_path / "out", *wrong) == 2
    assert not (tmp_path / "out").exists()


def test_the_message_names_the_option(tmp_path: Path) -> None:
    result = run(tmp_path / "out", "--people", 0)
    assert isinstance(result.exception, ConfigError)
    assert "people" in str(result.exception)


def test_a_folder_of_other_things_fails_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    assert exit_code(monkeypatch, tmp_path, *SMALL) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["mine.txt"]


def test_a_full_disk_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    result = run(tmp_path / "out", *SMALL)
    assert isinstance(result.exception, DataError)
    assert "No space left" in str(result.exception)


def test_the_help_does_not_load_torch() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "SynthGait" in result.output or "synthetic walkers" in result.output
