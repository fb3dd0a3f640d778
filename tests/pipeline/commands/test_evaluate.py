from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from gait.data.dataset import FolderDataset
from gait.data.pack import write_pack
from gait.data.pickles import write_silhouettes
from gait.encoder import Encoder
from gait.model.checkpoint import save_checkpoint
from gait.model.trackletgait import VARIANTS, TrackletGait
from gait.training.checkpoints import CARD_FILE, MODEL_FILE, Card
from gait.training.config import load_config
from pipeline.commands.evaluate import evaluate, results

app = typer.Typer()
app.command("eval")(evaluate)
app.command("results")(results)

CONDITIONS = ("nm-01", "nm-05", "bg-01", "cl-01")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_checkpoint(TrackletGait.random(VARIANTS["small"], torch.Generator().manual_seed(0)), path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CASIA-B in small: a training subject and two test subjects, unlike each other."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for subject in ("001", "080", "081"):
        own = rng.integers(0, 256, (1, 64, 44))
        for condition in CONDITIONS:
            for view in ("000", "090"):
                noise = rng.integers(-20, 20, (2, 64, 44))
                path = root / subject / condition / view / f"{view}.pkl"
                path.parent.mkdir(parents=True)
                write_silhouettes(path, (own + noise).clip(0, 255).astype(np.uint8))
    return root


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    own = np.repeat(rng.standard_normal((9, 4, 2)), 3, axis=0)
    np.savez(
        tmp_path / "mine.npz",
        embeddings=(own + 0.5 * rng.standard_normal((27, 4, 2))).astype(np.float32),
        subjects=[f"{index // 3:04d}" for index in range(27)],
        conditions=[f"camid{index % 3}" for index in range(27)],
        views=["seq0"] * 27,
    )
    return tmp_path / "mine.npz"


def test_weights_and_data_become_tables_json_csv_and_plots(
    weights: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = run(
        "eval", weights, "--data", data, "--protocol", "casia-b", "--device", "cpu", "--out", out
    )
    assert result.exit_code == 0, result.output
    assert "Rank-1 by probe view" in result.output
    content = json.loads((out / "evaluation.json").read_text())
    assert content["config"] == "small"
    assert content["model_hash"] == Encoder.from_weights(weights).model_hash
    assert content["metrics"]["NM/rank-1"] == 1.0  # subjects so unlike that any network tells them
    assert {count["probes"] for count in content["counts"]} == {4}  # 001 trains
    assert (
        "Not comparable with published figures: expected 50 test subjects, got 2" in result.output
    )
    assert "expected 5485 test sequences, got 16" in result.output
    assert "NM,000,100.0000" in (out / "evaluation.csv").read_text()
    assert (out / "open-set.svg").exists() == (importlib.util.find_spec("matplotlib") is not None)


@pytest.fixture
def config(data: Path, tmp_path: Path) -> Path:
    """A training configuration, with the folder of its run as `trackletgait train` leaves it."""
    path = tmp_path / "some.yaml"
    path.write_text(
        f"name: mine\ndata: {{path: {data}, dataset: casia-b}}\nevaluation: {{protocol: casia-b}}\n"
    )
    return path


@pytest.fixture
def trained(config: Path, weights: Path, tmp_path: Path) -> Path:
    for iteration in (10, 9):  # the older one is damaged: nobody may look at it
        checkpoint = tmp_path / "runs" / "mine" / "checkpoints" / f"{iteration:08d}"
        checkpoint.mkdir(parents=True)
        card = Card(
            name="mine", iteration=iteration, next_batch=iteration, class_num=1,
            config=load_config(config), scaler={}, metrics={}, model_hash="", sha256={},
            versions={},
        )  # fmt: skip
        (checkpoint / CARD_FILE).write_text(card.model_dump_json())
        (checkpoint / MODEL_FILE).write_bytes(weights.read_bytes() if iteration == 10 else b"")
    return tmp_path / "runs" / "mine"


def test_a_training_configuration_gives_name_data_and_protocol(
    config: Path, weights: Path, tmp_path: Path
) -> None:
    result = run(
        "eval", config, "--weights", weights, "--device", "cpu", "--no-plots",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (content["config"], content["protocol"]) == ("mine", "casia-b")


@pytest.mark.parametrize("given", ["configuration", "run", "checkpoint", "weights"])
def test_a_run_is_found_by_its_configuration_and_knows_it(
    given: str, config: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = trained / "checkpoints" / "00000010"
    model = {
        "configuration": config,
        "run": trained,
        "checkpoint": checkpoint,
        "weights": checkpoint / MODEL_FILE,
    }[given]
    result = run("eval", model, "--device", "cpu", "--no-plots", "--no-open-set")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "results" / "mine" / "evaluation.json").exists()


def test_a_configuration_nobody_trained_says_so(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("eval", config)
    assert result.exit_code == 2
    assert "train first" in result.output


def test_stored_embeddings_are_the_encoders_and_a_second_run_makes_none(
    weights: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    arguments = ("eval", weights, "--data", data, "--protocol", "casia-b", "--device", "cpu")
    assert run(*arguments, "--out", out, "--no-plots").exit_code == 0
    dataset = FolderDataset(data).select(["080", "081"])
    embeddings = np.load(out / "features" / "embeddings.npy")
    (expected,) = Encoder.from_weights(weights).embed([dataset[3]])
    np.testing.assert_array_equal(embeddings[3], expected)

    def refuse(*_: object) -> None:
        raise AssertionError("embedded again")

    monkeypatch.setattr(Encoder, "embed", refuse)
    assert run(*arguments, "--out", out, "--no-plots").exit_code == 0
    again = ("eval", "--features", out / "features", "--protocol", "casia-b", "--no-plots")
    assert run(*again, "--out", tmp_path / "again").exit_code == 0
    first, second = (
        json.loads((folder / "evaluation.json").read_text())["metrics"]
        for folder in (out, tmp_path / "again")
    )
    assert first == second


def test_a_packed_data_set_gives_the_same_figures(
    weights: Path, data: Path, tmp_path: Path
) -> None:
    write_pack(FolderDataset(data), tmp_path / "data.pack")
    found = []
    for source, out in ((data, tmp_path / "a"), (tmp_path / "data.pack", tmp_path / "b")):
        result = run(
            "eval", weights, "--data", source, "--protocol", "casia-b", "--device", "cpu",
            "--out", out, "--no-plots",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        found.append(json.loads((out / "evaluation.json").read_text())["metrics"])
    assert found[0] == found[1]


def test_the_partition_says_who_tests_and_who_is_looked_for(stored: Path, tmp_path: Path) -> None:
    partition = {
        "TRAIN_SET": ["0000"],
        "TEST_SET": [f"{index:04d}" for index in range(1, 9)],
        "PROBE_SET": [f"{index:04d}-camid0-seq0" for index in range(9)],
    }
    (tmp_path / "p.json").write_text(json.dumps(partition))
    result = run(
        "eval", "--features", stored, "--protocol", "gait3d", "--partition", tmp_path / "p.json",
        "--out", tmp_path / "out", "--no-plots",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "8 probes, 8 counted; gallery 16" in result.output
    assert "mINP" in result.output
    assert "expected 9 probes, got 8" in result.output  # one is of a subject who trains
    assert "test subjects" not in result.output


def test_re_ranked_figures_are_labelled(stored: Path, tmp_path: Path) -> None:
    result = run(
        "eval", "--features", stored, "--protocol", "each-against-all", "--rerank",
        "--out", tmp_path / "out", "--no-plots",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "RE-RANKED" in result.output
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["reranked"] is True


def test_grew_gives_a_submission_plain_and_zipped(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "grew.npz",
        embeddings=rng.standard_normal((26, 4, 2)).astype(np.float32),
        subjects=[f"{index:05d}" for index in range(1, 25)] + ["probe", "probe"],
        conditions=["01"] * 24 + ["03"] * 2,
        views=[f"v{index}" for index in range(26)],
    )
    result = run(
        "eval", "--features", tmp_path / "grew.npz", "--protocol", "grew", "--out", tmp_path
    )
    assert result.exit_code == 0, result.output
    lines = (tmp_path / "submission.csv").read_text().splitlines()
    assert lines[0].startswith("videoId,rank1,")
    assert [line.split(",")[0] for line in lines[1:]] == ["v24", "v25"]
    with zipfile.ZipFile(tmp_path / "submission.zip") as archive:
        assert archive.read("submission.csv") == (tmp_path / "submission.csv").read_bytes()


def test_plots_and_submissions_of_other_figures_do_not_stay_beside_new_ones(
    stored: Path, tmp_path: Path
) -> None:
    old = [tmp_path / name for name in ("cmc.png", "open-set.svg", "submission.zip", "notes.png")]
    for each in old:
        each.write_bytes(b"of other weights")
    result = run(
        "eval", "--features", stored, "--protocol", "each-against-all", "--out", tmp_path,
        "--no-plots",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert [each for each in old if each.exists()] == [tmp_path / "notes.png"]


def test_no_column_is_lost_however_narrow_the_terminal(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    result = run(
        "eval", "--features", stored, "--protocol", "each-against-all", "--out", tmp_path / "o",
        "--no-plots",
    )  # fmt: skip
    assert "…" not in result.output
    assert "Rank-10" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--protocol", "casia-c", "--features", "f.npz"], "casia-b, casia-b-cross-view"),
        (["--protocol", "casia-b"], "either weights"),
        (["w.pt", "--protocol", "casia-b"], "expected the data set"),
        (["--features", "f.npz", "--protocol", "casia-b", "--rerank"], "one gallery"),
        (["--features", "f.npz", "--protocol", "casia-b", "--device", "tpu"], "cpu, cuda"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_expected(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    result = run("eval", *arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_a_protocol_of_another_data_set_fails_in_words(stored: Path, tmp_path: Path) -> None:
    result = run("eval", "--features", stored, "--protocol", "casia-b", "--out", tmp_path / "o")
    assert result.exit_code == 1
    assert "is this the protocol of this data set?" in result.output
    assert not (tmp_path / "o").exists()


def test_results_prints_published_beside_reproduced(stored: Path, tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "gait3d.yaml").write_text("published: {rank-1: 77.80, rank-5: 89.0}\n")
    show = ("results", tmp_path / "results", "--configs", tmp_path / "configs")
    before = run(*show)
    assert before.exit_code == 0
    assert "77.80" in before.output
    assert "0 of 2 published figures reproduced" in before.output
    (tmp_path / "p.json").write_text(
        json.dumps({
            "TRAIN_SET": [],
            "TEST_SET": [f"{index:04d}" for index in range(9)],
            "PROBE_SET": [f"{index:04d}-camid0-seq0" for index in range(9)],
        })
    )  # fmt: skip
    result = run(
        "eval", "--features", stored, "--protocol", "gait3d", "--partition", tmp_path / "p.json",
        "--name", "gait3d", "--out", tmp_path / "results" / "gait3d", "--no-plots",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "results" / "gait3d" / "evaluation.json").read_text())
    after = run(*show).output
    assert "2 of 2 published figures reproduced" in after
    assert f"{100 * content['metrics']['rank-1'] - 77.8:+.2f}" in after


def test_results_without_configurations_is_wrong_usage(tmp_path: Path) -> None:
    assert run("results", "--configs", tmp_path / "none").exit_code == 2
