"""The ablations: what is trained, that it goes on where it stopped, and the table."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch

from gait.model.trackletgait import VARIANTS
from gait.training.config import OptimiserConfig, TrainingConfig, differences, load_config

ROOT = Path(__file__).parents[2]


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look up their annotations
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def ablate() -> ModuleType:
    return load("ablate", ROOT / "scripts" / "ablate.py")


def shipped(name: str) -> TrainingConfig:
    return load_config(ROOT / "configs" / "gait" / f"{name}.yaml")


@pytest.fixture
def tiny(tmp_path: Path) -> TrainingConfig:
    """A run of four steps on moving shapes, with somebody to probe for."""
    shapes = load("moving_shapes", ROOT / "tests" / "gait" / "training" / "moving_shapes.py")
    data, partition = shapes.write_tree(tmp_path / "tree", 4, 3)
    split = json.loads(partition.read_text())
    split["PROBE_SET"] = [f"{subject}-nm-00-000" for subject in split["TEST_SET"]]
    partition.write_text(json.dumps(split))
    partition.with_name("partition-unseen-views.json").write_text(json.dumps(split))
    return TrainingConfig.model_validate({
        "name": "synthgait_ablation",
        "data": {"path": str(data), "partition": str(partition)},
        "network": {
            "name": "tiny", "blocks": [0, 1, 1, 0], "channels": [4, 4, 8, 8], "stem_channels": 4,
            "embedding_channels": 8,
        },
        "sampling": {
            "kind": "random_tracklet", "lengths": [2, 4], "probabilities": [0.5, 0.5], "total": 4,
        },
        "batch": {"num_ids": 2, "per_id": 2},
        "iterations": 4,
        "checkpoints": {"every": 2, "keep": 1},
    })  # fmt: skip


def test_every_row_differs_from_the_first_in_what_it_says_and_shares_the_budget(
    ablate: ModuleType,
) -> None:
    base = shipped(ablate.BASE)
    assert base.network == VARIANTS["nano"]
    on_disk = {path.stem for path in ablate.CONFIGS.glob(f"{ablate.BASE}*.yaml")}
    assert set(ablate.ROWS) == on_disk
    for name in on_disk - {ablate.BASE}:
        config = shipped(name)
        changed = {line.partition(":")[0].split(".")[0] for line in differences(base, config)}
        changed |= {"data"} if config.data != base.data else set()
        is_baseline = name.endswith(("gaitbase", "p3d"))
        wanted = {"network", "sampling", "losses"} if is_baseline else set()
        assert changed - {"name"} == wanted or (not wanted and len(changed) == 2), name


@pytest.mark.parametrize("name", ["max", "strided", "gaitbase", "deepgaitv2-p3d"])
def test_other_networks_have_nanos_operations_a_frame(ablate: ModuleType, name: str) -> None:
    found = ablate.operations_a_frame(shipped(f"{ablate.BASE}-{name}").network)
    assert found == pytest.approx(0.074, rel=0.15)  # nano's, in 10^9


def test_seeds_are_gone_through_one_after_the_other(ablate: ModuleType, tmp_path: Path) -> None:
    listed = list(ablate.jobs(tmp_path, [0, 1], ["iterations=9"], ["max", "ordered"]))
    assert [(job.config.name[len(ablate.BASE) + 1 :], job.config.seed) for job in listed] == [
        ("ordered", 0), ("max", 0), ("ordered", 1), ("max", 1),
    ]  # fmt: skip
    assert {job.config.iterations for job in listed} == {9}
    assert len({job.result for job in listed}) == 4


def test_the_teacher_is_trained_once_and_before_those_it_teaches(
    ablate: ModuleType, tmp_path: Path
) -> None:
    listed = list(ablate.jobs(tmp_path, [0, 1], ["iterations=9"], ["taught", "wide"]))
    assert [(job.config.name, job.config.seed) for job in listed] == [
        (ablate.TEACHER, 0), (f"{ablate.BASE}-taught", 0), (f"{ablate.BASE}-taught", 1),
    ]  # fmt: skip
    taught = listed[1].config.distillation
    assert taught is not None
    assert Path(taught.teacher) == listed[0].folder / "checkpoints/00000009/model.safetensors"
    by_hand = shipped(f"{ablate.BASE}-taught").distillation  # `trackletgait train` with the file
    assert by_hand is not None
    assert by_hand.teacher.startswith(str(Path("runs/ablations") / listed[0].folder.name))


def test_a_run_whose_time_is_up_goes_on_and_ends_with_figures(
    ablate: ModuleType, tiny: TrainingConfig, tmp_path: Path
) -> None:
    job = ablate.Job(tiny, tmp_path / "run", tmp_path / "synthgait_ablation-0.json")
    with pytest.raises(ablate.TimeIsUp):
        ablate.run(job, tiny, time.monotonic(), torch.device("cpu"))
    assert not job.result.exists()
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["00000002"]
    ablate.run(job, tiny, time.monotonic() + 600, torch.device("cpu"))
    (found,) = ablate.read_results(tmp_path, lambda name, seed: tiny)
    assert found["iterations"] == 4
    assert all(0 <= found["metrics"][key] <= 1 for key in ablate.SHOWN)


def test_figures_of_other_settings_and_damaged_ones_do_not_count(
    ablate: ModuleType, tiny: TrainingConfig, tmp_path: Path
) -> None:
    figures = {"metrics": dict.fromkeys(ablate.SHOWN, 0.5), "config": tiny.model_dump(mode="json")}
    result = tmp_path / "synthgait_ablation-0.json"
    result.write_text(json.dumps(figures))
    assert ablate.read_results(tmp_path, lambda name, seed: tiny) == [figures]
    for change in ({"iterations": 5}, {"optimiser": OptimiserConfig(rate=0.01)}):
        other = tiny.model_copy(update=change)
        assert ablate.read_results(tmp_path, lambda name, seed, other=other: other) == []
    for damaged in ("{", "[]", "{}"):
        result.write_text(damaged)
        assert ablate.read_results(tmp_path, lambda name, seed: tiny) == []


def test_the_table_shows_mean_and_spread_in_percent_and_what_is_missing(
    ablate: ModuleType,
) -> None:
    base = shipped(ablate.BASE)
    others = {"mAP": 0.9, "unseen/rank-1": 0.5, "unseen/mAP": 0.4}
    results = [
        {"name": ablate.BASE, "seed": seed, "metrics": {"rank-1": rank_1, **others}}
        for seed, rank_1 in ((2, 0.6), (0, 0.5), (1, 0.7))
    ]
    results.append({**results[0], "name": f"{ablate.BASE}-max", "seed": 0})
    text = ablate.page(results, base)
    # 0.1 is the sample standard deviation of 0.5, 0.6 and 0.7
    assert "| 60.0 ± 10.0 | 90.0 ± 0.0 | 50.0 ± 0.0 | 40.0 ± 0.0 | 0, 1, 2 |" in text
    assert "max pooling instead of the wavelet | 0.07 | 60.0 | 90.0 | 50.0 | 40.0 | 0 |" in text
    assert "| – | – | – | – | none yet |" in text
    assert f"{base.iterations} steps of 16 x 4" in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--device", "cuda:99"], "device: expected"),
        (["optimser.rate=1"], "did you mean optimiser"),
        (["data.path=/nowhere", "--only", "max"], "/nowhere: cannot read the pack"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(
    ablate: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    told: str,
) -> None:
    where = ["--out", str(tmp_path), "--page", str(tmp_path / "page.md")]
    monkeypatch.setattr(sys, "argv", ["ablate.py", *where, *words])
    assert ablate.main() == 1
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_mistyped_row_is_no_empty_page(
    ablate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    monkeypatch.setattr(sys, "argv", ["ablate.py", "--only", "mix", "--page", str(page)])
    with pytest.raises(SystemExit, match="2"):
        ablate.main()
    assert not page.exists()
