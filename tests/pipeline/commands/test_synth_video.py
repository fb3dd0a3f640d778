from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from gait.errors import ConfigError, DataError
from pipeline.commands.synth_video import video_command

app = typer.Typer()
app.command()(video_command)

SMALL = ("--people", 2, "--duration", 1, "--fps", 4, "--size", "320x240")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_a_folder_of_videos_and_ground_truth_comes_out(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(out, *SMALL, "--layout", "apart", "--colours", "changing", "--uncalibrated")
    assert result.exit_code == 0, result.output
    assert "frames/s" in result.output
    described = json.loads((out / "scene.json").read_text())
    assert (described["layout"], described["colours"]) == ("apart", "changing")
    assert [each["index"] for each in described["people"]] == [900_000, 900_001]
    for camera in described["cameras"]:
        assert camera["calibration"] is None
        for name in (camera["file"], f"{camera['name']}/gt/gt.txt", f"{camera['name']}/masks.json"):
            assert (out / name).is_file()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (("--people", 0), "people: expected greater than or equal to 1"),
        (("--colours", "changing"), "choose layout apart"),
        (("--size", "641x480"), "width: expected a multiple of 2"),
        (("--duration", "nan"), "duration_s: expected"),
    ],
)
def test_impossible_parameters_are_configuration_errors(
    tmp_path: Path, wrong: tuple[object, ...], words: str
) -> None:
    result = run(tmp_path / "out", *wrong)
    assert isinstance(result.exception, ConfigError)
    assert words in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_size_is_two_numbers(tmp_path: Path) -> None:
    result = run(tmp_path / "out", "--size", "big")
    assert result.exit_code == 2
    assert "expected a size such as 640x480" in result.output


def test_existing_folders_and_bad_backgrounds_are_errors_of_ours(tmp_path: Path) -> None:
    result = run(tmp_path, *SMALL)
    assert isinstance(result.exception, DataError)
    assert "exists already" in str(result.exception)
    result = run(tmp_path / "out", *SMALL, "--background", tmp_path / "none.png")
    assert isinstance(result.exception, DataError)
    assert "expected a picture or a video" in str(result.exception)
    assert not [*tmp_path.iterdir()]


def test_the_command_line_starts_without_torch() -> None:
    code = "import sys, pipeline.commands.synth_video; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
