"""`trackletgait track-eval` and `tune`, as people use them, on people who cross."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from gait.errors import ConfigError, DataError
from pipeline.cli import app
from pipeline.config import load_config
from pipeline.evaluation.tracking import followers, named_tracker
from pipeline.evaluation.tracking_search import ranges
from tests.trackers import crossing_boxes as crossing

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    for seed in range(2):
        config = crossing.CrossingConfig(people=5, frames=80, fps=10.0, seed=seed)
        crossing.cross(config).write(folder / f"walk-{seed}")
    return folder


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def judged(*arguments: object) -> Any:
    return json.loads(run("track-eval", *arguments, "--json").stdout)


def test_a_perfect_detector_of_people_apart_leaves_nothing_to_lose(tmp_path: Path) -> None:
    config = crossing.CrossingConfig(people=1, frames=60, errors=crossing.PERFECT)
    crossing.cross(config).write(tmp_path / "alone")
    figures = judged(tmp_path, "-t", "bytetrack,confirm_frames=1")["bytetrack,confirm_frames=1"]
    assert figures["all"]["switches"] == 0
    assert figures["all"]["purity"] == 1.0
    assert figures["all"]["idf1"] > 0.95


def test_every_tracker_is_judged_unless_some_are_named(scenes: Path) -> None:
    figures = judged(scenes)
    assert list(figures) == followers()
    for one in figures.values():
        assert set(one["sequences"]) == {"walk-0", "walk-1"}
        assert 0.3 < one["all"]["hota"] <= 1
        assert one["all"]["us_per_frame"] > 0


def test_what_was_written_is_judged_the_same_when_it_is_read(scenes: Path, tmp_path: Path) -> None:
    ours = judged(scenes, "-t", "bytetrack", "--out", tmp_path)["bytetrack"]["all"]
    read = judged(scenes, "--results", tmp_path / "bytetrack")["bytetrack"]["all"]
    assert read["hota"] == pytest.approx(ours["hota"], abs=1e-3)
    assert (read["switches"], read["us_per_frame"]) == (ours["switches"], None)


def test_the_table_fits_a_terminal_and_names_what_it_shows(scenes: Path) -> None:
    said = run("track-eval", scenes, "-t", "bytetrack", "--each").stdout
    assert all(len(line) <= 80 for line in said.splitlines())
    for words in ("2 recordings", "HOTA", "purity", "usable", "walk-1"):
        assert words in said


def test_what_the_detector_finds_in_a_rendered_scene_is_written_once(tmp_path: Path) -> None:
    scene = ("--people", "2", "--cameras", "1", "--duration", "1", "--fps", "5")
    assert run("synth", "video", tmp_path / "scene", *scene).exit_code == 0
    with pytest.raises(DataError, match=r"`track-eval --detect` writes it"):
        run("track-eval", tmp_path / "scene")
    figures = judged(tmp_path / "scene", "-t", "bytetrack", "--detect")
    (file,) = tmp_path.glob("scene/**/det.txt")
    written = file.stat().st_mtime_ns
    assert (
        judged(tmp_path / "scene", "-t", "bytetrack", "--detect")["bytetrack"]["all"]["hota"]
        == (figures["bytetrack"]["all"]["hota"])
    )
    assert file.stat().st_mtime_ns == written


def test_a_tracker_that_needs_features_says_so(scenes: Path, tmp_path: Path) -> None:
    pytest.importorskip("deep_sort_realtime")
    for name in ("walk-0", "walk-1"):
        text = (scenes / name / "det" / "det.txt").read_text()
        (tmp_path / f"{name}.txt").write_text(text)
    with pytest.raises(ConfigError, match=r"frame \d+: .*features"):
        run("track-eval", scenes, "-t", "deepsort", "--detections", tmp_path)


@pytest.mark.parametrize(
    ("tracker", "words"),
    [
        ("bytetrak", "did you mean bytetrack"),
        ("bytetrack,lost=3", "unknown key"),
        ("bytetrack,lost_s=-1", "lost_s: expected"),
        ("missing.yaml", "cannot read the configuration"),
    ],
)
def test_a_tracker_that_cannot_be_is_refused(scenes: Path, tracker: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        run("track-eval", scenes, "-t", tracker)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected NAME/gt/gt\.txt"):
        run("track-eval", tmp_path)


def test_ranges_end_where_shares_end_and_leave_out_what_is_fixed() -> None:
    config = named_tracker("bytetrack")[1]
    space = ranges(config, {"lost_s"}, {"box_margin": (0.0, 0.1)})
    assert space["box_margin"] == (0.0, 0.1)
    assert "lost_s" not in space
    assert "kind" not in space
    assert space["min_low_overlap"][1] <= 1
    with pytest.raises(ConfigError, match="speed: no parameter of bytetrack"):
        ranges(config, (), {"speed": (0.0, 1.0)})


def test_a_range_that_is_none_is_refused(scenes: Path) -> None:
    with pytest.raises(ConfigError, match="expected NAME=LOW:HIGH"):
        run("tune", scenes, "--range", "lost_s=5")


def test_a_full_disk_ends_a_search_in_words(scenes: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    limit = (3000, 3000)  # bytes: some trials
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "tune", scenes, "-o", tmp_path / "a.yaml"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "cannot keep the trials there" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_search_is_written_goes_on_and_repeats_itself(scenes: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    options = ("-t", "bytetrack,confirm_frames=2", "--objective", "hota")
    run("tune", scenes, *options, "--trials", 4, "-o", first)
    run("tune", scenes, *options, "--trials", 4, "-o", second)
    assert yaml.safe_load(first.read_text()) == yaml.safe_load(second.read_text())
    config = load_config(first)
    assert config.tracker.kind == "bytetrack"
    assert config.tracker.confirm_frames == 2
    assert "5 sets tried" in run("tune", scenes, *options, "--trials", 5, "-o", first).stdout
    before = judged(scenes, "-t", "bytetrack,confirm_frames=2")["bytetrack,confirm_frames=2"]
    after = judged(scenes, "-t", first)["a"]
    assert after["all"]["hota"] >= before["all"]["hota"] - 1e-3  # written with four digits
    with pytest.raises(DataError, match="holds a search with another objective"):
        run("tune", scenes, *options[:2], "--objective", "idf1", "--trials", 6, "-o", first)
