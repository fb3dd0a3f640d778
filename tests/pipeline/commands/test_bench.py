from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from gait.model.checkpoint import save_checkpoint
from gait.model.trackletgait import TrackletGait, TrackletGaitConfig
from gait.runtimes.turns import Turns
from pipeline.commands.bench import app

TINY = TrackletGaitConfig(
    name="tiny", blocks=(0, 1, 1, 0), channels=(8, 8, 8, 8), stem_channels=4, temporal_groups=2
)
QUICK = ["--device", "cpu", "--threads", "1", "--seconds", "0.01", "--rounds", "2"]
SMALL = ["--batch", "1,2", "--frames", "4", *QUICK]
TORCH = ["--runtime", "torch", "--precision", "float32"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_checkpoint(TrackletGait.random(TINY, torch.Generator().manual_seed(0)), path)
    return path


@pytest.fixture(scope="module", autouse=True)
def _served_by_torch() -> Iterator[None]:
    """Nothing is exported for the row "served", which would take longer than all tests."""
    from gait.runtimes import choose

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choose, "ORDER", {"cpu": ("torch",)})
        yield


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def printed(weights: Path) -> str:
    """What `--json -` prints with a runtime that runs here and one that does not."""
    runtimes = [*TORCH, "--runtime", "tensorrt"]
    result = run(
        "encoder", weights, *SMALL, *runtimes, "--against", "original-graph", "--json", "-"
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def test_json_to_stdout_is_one_object_and_nothing_else(printed: str) -> None:
    found = json.loads(printed)
    assert found["format"] == 1
    assert found["interrupted"] is False
    assert found["against"] == "original-graph"
    assert found["speedup"] > 0
    assert found["gflop"]["4"] > 0
    (peak,) = found["peaks"]
    assert peak["precision"] == "float32"
    assert peak["gflops"] == pytest.approx(
        max(each["gflops"] for each in peak["candidates"]), rel=0.9
    )
    assert peak["kernel"] in [each["name"] for each in peak["candidates"]]


def test_every_row_has_all_figures_or_says_why_not(printed: str) -> None:
    rows = json.loads(printed)["rows"]
    assert [(row["runtime"], row["batch"]) for row in rows] == [
        ("tensorrt", None),
        ("original-graph", 1),
        ("served", 1),
        ("torch", 1),
        ("original-graph", 2),
        ("served", 2),
        ("torch", 2),
    ]
    lacking, *measured = rows
    assert "GPU" in lacking["problem"]
    figures = ("sequences_per_s", "frames_per_s", "p50_ms", "p95_ms", "gflops", "fraction_of_peak")
    for row in measured:
        assert row["problem"] is None
        assert all(row[name] > 0 for name in (*figures, "speedup"))
        assert row["frames_per_s"] == pytest.approx(4 * row["sequences_per_s"])
        assert row["p50_ms"] <= row["p95_ms"]
        if row["runtime"] != "original-graph":
            assert row["parity"] >= 0.99999
            assert row["gate"].startswith("passed")


def test_the_table_the_file_and_the_plot_are_made(weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out, plot = tmp_path / "new" / "bench.json", tmp_path / "bench.svg"
    result = run("encoder", weights, *SMALL, *TORCH, "--json", out, "--plot", plot)
    assert result.exit_code == 0, result.output
    assert "frames/s" in result.stdout
    assert "speedup" not in result.stdout
    assert json.loads(out.read_text())["speedup"] is None
    drawn = plot.read_text()
    assert "</svg>" in drawn


def test_a_stop_prints_what_was_measured_and_exits_with_130(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_turns, rounds = Turns.run, []

    def stop_in_the_third(self: Turns, **options: Any) -> None:
        rounds.append(options)
        if len(rounds) == 3:  # the first are of the products of matrices
            raise KeyboardInterrupt
        run_turns(self, **options)

    monkeypatch.setattr(Turns, "run", stop_in_the_third)
    result = run("encoder", weights, *SMALL, *TORCH, "--json", "-")
    assert result.exit_code == 130
    found = json.loads(result.stdout)
    assert found["interrupted"] is True
    assert {row["batch"] for row in found["rows"]} == {1, 2}
    assert all(row["frames_per_s"] > 0 for row in found["rows"])


def test_a_random_network_needs_no_weights() -> None:
    lacking = ["--runtime", "tensorrt", "--precision", "float32"]
    result = run("encoder", "--random", "--variant", "nano", *SMALL, *lacking, "--json", "-")
    assert result.exit_code == 0, result.output
    assert "UNTRAINED" in json.loads(result.stdout)["network"]


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (["--batch", "1,x"], "with commas"),
        (["--batch", "0"], "whole numbers of 1 to"),
        (["--frames", "100000"], "whole numbers of 1 to 720"),
        (["--runtime", "tflite"], "onnxruntime"),
        (["--precision", "int4"], "bfloat16"),
        (["--against", "yesterday"], "original-graph"),
        (["--device", "tpu"], "expected auto, cpu"),
        (["--plot", "picture.gif"], ".png or .svg"),
        (["--plot", "."], "got the folder"),
        (["--random"], "--variant"),
        (["--variant", "nano"], "--random"),
        (["weights.pt", "--random", "--variant", "nano"], "--random"),
        (["--threads", "0"], "--threads"),
    ],
)
def test_wrong_usage_names_the_choices_and_exits_with_2(wrong: list[str], expected: str) -> None:
    result = run("encoder", *wrong)
    assert result.exit_code == 2
    assert expected in " ".join(result.output.replace("│", " ").split())


def test_a_plot_without_matplotlib_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("encoder", "--plot", tmp_path / "bench.png")
    assert result.exit_code == 1
    assert "trackletgait[plots]" in str(result.exception)


def test_streaming_is_compared_with_windows_at_every_stride(weights: Path) -> None:
    options = ["--stride", "1,4", "--window", "6", "--history", "20", *QUICK]
    result = run("streaming", weights, *options, "--json", "-")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    ways = ["streaming", "streaming, late", "window of 6 anew", "whole history anew"]
    assert [(row["way"], row["stride"]) for row in found["rows"]] == [
        (way, stride) for stride in (1, 4) for way in ways
    ]
    for row in found["rows"]:
        assert row["frames_per_s"] == pytest.approx(1000 * row["stride"] / row["p50_ms"])
        assert row["streaming_ratio"] > 0
    assert found["lag"] == 6
    table = run("streaming", weights, *options)
    assert "streaming is faster by" in table.stdout
