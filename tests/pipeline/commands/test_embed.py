from __future__ import annotations

import importlib.util
import json
import pickle
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from gait.model.trackletgait import VARIANTS, TrackletGait
from pipeline.commands.embed import embed

GOLDEN = Path(__file__).parents[2] / "golden"

app = typer.Typer()
app.command()(embed)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.pt"
    model = TrackletGait.random(VARIANTS["small"], torch.Generator().manual_seed(0), 74)
    torch.save({"model": model.state_dict(), "iteration": 1}, path)
    return path


@pytest.fixture
def square() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 64, 64), np.uint8)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments), "--device", "cpu"])


def golden_rules() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_rules", GOLDEN / "golden_rules.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.golden
@pytest.mark.parametrize("variant", ["standard", "small"])
def test_an_authors_checkpoint_embeds_as_in_the_release(variant: str, tmp_path: Path) -> None:
    rules = golden_rules()
    entries = json.loads((GOLDEN / f"state_dict_{variant}.json").read_text())["class_num_74"]
    state = {e["key"]: torch.tensor(rules.weight(e["key"], e["shape"])) for e in entries}
    torch.save({"model": state}, tmp_path / "w.pt")
    np.save(tmp_path / "walk.npy", rules.silhouettes(1, 7)[0] * np.uint8(255))
    out = tmp_path / "e.npz"
    result = run(
        tmp_path / "walk.npy", "--weights", tmp_path / "w.pt", "--out", out, "--dtype", "float64"
    )
    assert result.exit_code == 0, result.output
    expected = np.load(GOLDEN / "model.npz")[f"{variant}_eval_1x7_f64"]
    with np.load(out) as written:
        assert written["embeddings"].dtype == np.float32
        # computed in float64 and rounded once: half a unit of float32 at most
        np.testing.assert_allclose(written["embeddings"], expected, rtol=6e-8, atol=1e-9)


def test_every_kind_of_input_gives_the_same_embedding_and_its_own_name(
    weights: Path, square: np.ndarray, tmp_path: Path
) -> None:
    narrow = square[:, :, 10:54]
    np.save(tmp_path / "a.npy", square)
    np.savez(tmp_path / "b.npz", first=narrow, second=square)
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(narrow))
    (tmp_path / "d").mkdir()
    for index, frame in enumerate(square):
        cv2.imwrite(str(tmp_path / "d" / f"{index}.png"), frame)
    inputs = [tmp_path / name for name in ("a.npy", "b.npz", "c.pkl", "d")]
    out = tmp_path / "new" / "e.npz"
    result = run(*inputs, "--weights", weights, "--out", out)
    assert result.exit_code == 0, result.output
    with np.load(out) as written:
        assert sorted(written.files) == ["embeddings", "names"]
        assert written["embeddings"].shape == (5, 256, 16)
        assert written["embeddings"].dtype == np.float32
        assert (np.abs(written["embeddings"] - written["embeddings"][0]) <= 1e-6).all()
        assert written["names"].tolist() == [
            str(tmp_path / "a.npy"),
            f"{tmp_path / 'b.npz'}:first",
            f"{tmp_path / 'b.npz'}:second",
            str(tmp_path / "c.pkl"),
            str(tmp_path / "d"),
        ]


def test_a_bad_input_among_good_ones_is_reported_and_the_rest_embedded(
    weights: Path, square: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", square)
    np.save(tmp_path / "z.npy", square)
    bad, out = tmp_path / "bad.npy", tmp_path / "e.npz"
    bad.write_text("no array")
    result = run(tmp_path / "a.npy", bad, tmp_path / "z.npy", "--weights", weights, "--out", out)
    assert result.exit_code == 1
    assert str(bad) in result.output
    with np.load(out) as written:
        assert len(written["names"]) == 2


def test_the_tracklets_of_a_results_folder_are_inputs(weights: Path, tmp_path: Path) -> None:
    silhouettes = np.full((3, 64, 44), 255, np.uint8)
    path = tmp_path / "track-000001-f000000.npz"
    np.savez(path, silhouettes=silhouettes, frame_indices=np.arange(3), stream=np.array("door"))
    out = tmp_path / "out.npz"
    result = CliRunner().invoke(app, [str(path), "--weights", str(weights), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert np.load(out)["names"].tolist() == [str(path)]


def test_nothing_readable_leaves_an_earlier_file_alone(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.npz"
    out.write_bytes(b"earlier")
    result = run(tmp_path / "none", "--weights", weights, "--out", out)
    assert result.exit_code == 1
    assert out.read_bytes() == b"earlier"


def test_unusable_weights_are_an_error_that_says_what_to_do(
    square: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", square)
    result = run(tmp_path / "a.npy", "--weights", tmp_path / "none.pt", "--out", tmp_path / "e.npz")
    assert result.exit_code == 1
    assert "check the path" in result.output
    assert not (tmp_path / "e.npz").exists()


def test_an_output_that_cannot_be_written_is_reported_and_leaves_no_part(
    weights: Path, square: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", square)
    (tmp_path / "file").write_text("")
    result = run(tmp_path / "a.npy", "--weights", weights, "--out", tmp_path / "file" / "e.npz")
    assert result.exit_code == 1
    assert "cannot write the embeddings" in result.output
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    "wrong", [["--device", "tpu"], ["--dtype", "float16"], ["--out", "."], ["--none", "1"]]
)
def test_wrong_usage_exits_with_2(wrong: list[str], weights: Path) -> None:
    arguments = ["a.npy", "--weights", str(weights), *wrong]
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_the_network_that_ships_embeds_where_none_is_named(
    square: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "walk.npy", square)
    result = run(tmp_path / "walk.npy", "--out", tmp_path / "e.npz")
    assert result.exit_code == 0, result.output
    assert "trackletgait-nano.safetensors" in result.output
