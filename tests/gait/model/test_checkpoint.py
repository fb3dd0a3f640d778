from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from gait.errors import CheckpointError
from gait.model.checkpoint import (
    export_authors,
    load_checkpoint,
    model_hash,
    save_checkpoint,
    sha256_of,
)
from gait.model.trackletgait import BASELINES, RELEASED, VARIANTS, TrackletGait

Weights = dict[str, torch.Tensor]
GoldenWeights = Callable[[str], Weights]
Build = Callable[[str, torch.dtype], TrackletGait]


@pytest.fixture
def small(golden_weights: GoldenWeights) -> Weights:
    return {
        key: value.float() if value.is_floating_point() else value
        for key, value in golden_weights("small").items()
    }


def as_trained(weights: Weights) -> dict[str, object]:
    """A file as the authors' training loop writes it: model, optimizer, scheduler, iteration."""
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    parameter.grad = torch.ones(3)
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [40, 80], 0.1)
    assert isinstance(scheduler.state_dict()["milestones"], Counter)
    return {
        "model": OrderedDict(weights),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "iteration": 120_000,
    }


def saved(tmp_path: Path, content: object, *, zipped: bool = True) -> Path:
    path = tmp_path / "weights-120000.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def same(model: TrackletGait, weights: Weights) -> bool:
    loaded = model.state_dict()
    return all(torch.equal(loaded[key], weights[key]) for key in loaded)


@pytest.mark.golden
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("variant", RELEASED)
def test_an_authors_training_checkpoint_loads_whole(
    variant: str, zipped: bool, golden_weights: GoldenWeights, tmp_path: Path
) -> None:
    weights = golden_weights(variant)
    path = saved(tmp_path, as_trained(weights), zipped=zipped)
    checkpoint = load_checkpoint(path)
    assert (checkpoint.variant, checkpoint.class_num) == (variant, 74)
    assert list(checkpoint.model.state_dict()) == list(weights)
    assert same(checkpoint.model, weights)
    assert not checkpoint.model.training
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_bare_state_dict_loads(small: Weights, tmp_path: Path) -> None:
    assert same(load_checkpoint(saved(tmp_path, small)).model, small)


def test_a_module_prefix_and_loss_entries_are_set_aside(small: Weights, tmp_path: Path) -> None:
    wrapped = {f"module.{key}": value for key, value in small.items()}
    wrapped["module.loss_aggregator.weight"] = torch.zeros(1)
    assert same(load_checkpoint(saved(tmp_path, {"model": wrapped})).model, small)


def without_neck(weights: Weights) -> Weights:
    return {key: value for key, value in weights.items() if not key.startswith("BNNecks")}


@pytest.mark.parametrize("change", ["missing", "partial", "reshaped", "flat"])
def test_inference_does_without_usable_bnnecks(change: str, small: Weights, tmp_path: Path) -> None:
    weights = without_neck(small)
    if change == "partial":
        weights["BNNecks.fc_bin"] = small["BNNecks.fc_bin"]
    elif change == "reshaped":
        weights |= {key: small[key] for key in small if key.startswith("BNNecks")}
        weights["BNNecks.fc_bin"] = torch.zeros(8, 256, 74)
    elif change == "flat":
        weights["BNNecks.fc_bin"] = torch.zeros(4)
    checkpoint = load_checkpoint(saved(tmp_path, weights))
    assert checkpoint.class_num is None
    assert checkpoint.model.BNNecks is None
    assert same(checkpoint.model, small)


def test_half_precision_weights_are_read_as_float32(small: Weights, tmp_path: Path) -> None:
    half = {k: v.half() if v.is_floating_point() else v for k, v in small.items()}
    checkpoint = load_checkpoint(saved(tmp_path, half))
    assert {p.dtype for p in checkpoint.model.parameters()} == {torch.float32}


def test_our_own_file_holds_the_same_network(small: Weights, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    first = load_checkpoint(saved(tmp_path, small))
    path = tmp_path / "ours.safetensors"
    save_checkpoint(first.model, path)
    second = load_checkpoint(path)
    assert same(second.model, small)
    assert (second.variant, second.class_num) == ("small", 74)
    assert model_hash(second.model) == model_hash(first.model)
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["variant"] == "small"
    assert metadata["class_num"] == "74"
    assert metadata["torch"] == torch.__version__
    assert list(tmp_path.glob("*.part")) == []


def test_saving_into_a_missing_folder_says_so(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    model = TrackletGait.random(VARIANTS["small"], torch.Generator())
    with pytest.raises(CheckpointError, match="cannot write"):
        save_checkpoint(model, tmp_path / "none" / "w.safetensors")


def test_the_model_hash_knows_the_weights_and_not_the_neck_or_the_format(
    small: Weights, tmp_path: Path
) -> None:
    whole = load_checkpoint(saved(tmp_path, small)).model
    bare = load_checkpoint(saved(tmp_path, without_neck(small), zipped=False)).model
    assert model_hash(whole) == model_hash(bare) == model_hash(bare.double())
    small["FCs.fc_bin"] = small["FCs.fc_bin"].clone()
    small["FCs.fc_bin"][3, 2, 1] += 1e-3
    assert model_hash(load_checkpoint(saved(tmp_path, small)).model) != model_hash(whole)


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert "expected" in message
    return message


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "none.pt")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "directory" in refused(tmp_path)


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html> Sign in to download", b"\x00" * 64])
def test_a_file_of_another_kind_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    assert "got" in refused(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0.0001, 0.3, 0.999])
def test_a_truncated_file_is_refused(
    share: float, zipped: bool, small: Weights, tmp_path: Path
) -> None:
    path = saved(tmp_path, small, zipped=zipped)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert "damaged" in refused(path)


def test_a_truncated_safetensors_file_is_refused(small: Weights, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path / "ours.safetensors"
    save_checkpoint(load_checkpoint(saved(tmp_path, small)).model, path)
    path.write_bytes(path.read_bytes()[:-1000])
    assert "truncated" in refused(path)


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("how", ["pickle", "zip", "legacy"])
def test_a_file_that_would_run_code_is_refused_and_nothing_runs(
    how: str, small: Weights, tmp_path: Path
) -> None:
    target = tmp_path / "owned"
    content = {"model": small, "optimizer": Malicious(target)}
    if how == "pickle":
        path = tmp_path / "weights.pt"
        path.write_bytes(pickle.dumps(Malicious(target)))
    else:
        path = saved(tmp_path, content, zipped=how == "zip")
    assert "refused" in refused(path)
    assert not target.exists()


def test_another_network_is_refused_by_name(tmp_path: Path) -> None:
    path = saved(tmp_path, torch.nn.Linear(3, 4).state_dict())
    assert "another network (weight, bias)" in refused(path)


@pytest.mark.parametrize("content", [{}, [1, 2], {"model": {"a": 1}}, {"epoch": 3}, torch.ones(2)])
def test_a_file_without_a_state_dict_is_refused(content: object, tmp_path: Path) -> None:
    refused(saved(tmp_path, content))


def test_missing_unexpected_and_reshaped_weights_are_all_listed(
    small: Weights, tmp_path: Path
) -> None:
    small.pop("layer2.0.th.weight")
    small["layer3.0.conv1.weight"] = torch.zeros(1)
    small["layer6.0.conv1.weight"] = torch.zeros(256, 256, 1, 1)
    message = refused(saved(tmp_path, small))
    assert "missing: layer2.0.th.weight" in message
    assert "unexpected: layer3.0.conv1.weight" in message
    assert "layer6.0.conv1.weight (256, 256, 1, 1) instead of (256, 256, 3, 3)" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("FCs.fc_bin", float("nan")),
        ("layer6.0.conv2.weight", float("inf")),
        ("layer2.0.bn1.running_var", -1.0),
    ],
)
def test_weights_that_are_not_numbers_are_refused_by_name(
    key: str, value: float, small: Weights, tmp_path: Path
) -> None:
    small[key] = small[key].clone()
    small[key].view(-1)[0] = value
    assert key in refused(saved(tmp_path, small))


def test_sparse_weights_are_refused(small: Weights, tmp_path: Path) -> None:
    small["FCs.fc_bin"] = small["FCs.fc_bin"].to_sparse()
    assert "FCs.fc_bin" in refused(saved(tmp_path, small))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float8_e4m3fn, torch.complex64])
def test_weights_of_a_type_no_network_is_saved_in_are_refused(
    dtype: torch.dtype, small: Weights, tmp_path: Path
) -> None:
    small["FCs.fc_bin"] = small["FCs.fc_bin"].to(dtype)
    assert f"{dtype}" in refused(saved(tmp_path, small))


def test_a_files_sha256_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"gait")
    assert sha256_of(path) == hashlib.sha256(b"gait").hexdigest()


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_read_back_from_our_file_by_its_description(
    name: str, tmp_path: Path
) -> None:
    model = TrackletGait.random(BASELINES[name], torch.Generator().manual_seed(0), class_num=3)
    save_checkpoint(model, tmp_path / "b.safetensors")
    checkpoint = load_checkpoint(tmp_path / "b.safetensors")
    assert checkpoint.model.config == BASELINES[name]
    assert same(checkpoint.model, model.state_dict())


def test_networks_of_the_same_shapes_but_another_pooling_have_another_hash() -> None:
    generator = torch.Generator()
    hashes = {
        model_hash(TrackletGait.random(config, generator.manual_seed(0)))
        for kind in ("max", "average")
        for config in [VARIANTS["small"].model_copy(update={"name": "x", "downsampling": kind})]
    }
    assert len(hashes) == 2


def test_a_description_that_makes_no_network_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "w.safetensors"
    save_file({"a": torch.ones(1)}, path, {"network": '{"blocks": [1, 4]}'})
    assert "blocks" in refused(path)


def test_our_file_is_known_whatever_the_length_of_its_header_begins_with(tmp_path: Path) -> None:
    """A header of 128 bytes begins as a pickle does."""
    config = VARIANTS["nano"].model_copy(update={"blocks": (0, 1, 0, 0), "channels": (1, 8, 8, 8)})
    starts = set()
    for length in range(0, 128, 4):  # the name is written twice
        path = tmp_path / f"{length}.safetensors"
        config = config.model_copy(update={"name": "n" * (1 + length)})
        save_checkpoint(TrackletGait.random(config, torch.Generator()), path)
        starts.add(path.read_bytes()[0])
        assert load_checkpoint(path).variant == config.name
    assert 0x80 in starts


@pytest.mark.parametrize(
    "sizes",
    [
        {"num_parts": 2**62},
        {"stem_channels": 2**40},
        {"embedding_channels": 2**70},
        {"temporal_kernel": 2**63 + 1},
        {"channels": [1, 2**40, 2**40, 2**40]},
    ],
)
def test_a_description_of_a_network_beyond_all_sizes_is_refused(
    sizes: dict[str, object], tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "w.safetensors"
    save_file({"a": torch.ones(1)}, path, {"network": json.dumps(sizes)})
    assert str(next(iter(sizes))) in refused(path)


@pytest.mark.golden
@pytest.mark.parametrize("variant", RELEASED)
def test_an_export_has_the_authors_keys_and_loads_back_strictly(
    variant: str, golden_model: Build, golden_dir: Path, tmp_path: Path
) -> None:
    model = golden_model(variant, torch.float32)
    path = tmp_path / "TrackletGait-00060.pt"
    training = {key: as_trained({})[key] for key in ("optimizer", "scheduler")}
    export_authors(model, path, iteration=60, training=training)

    content = torch.load(path, weights_only=True)
    assert list(content) == ["model", "optimizer", "scheduler", "iteration"]
    assert content["iteration"] == 60
    told = json.loads((golden_dir / f"state_dict_{variant}.json").read_text())["class_num_74"]
    found = [
        (k, list(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in content["model"].items()
    ]
    assert found == [(e["key"], e["shape"], e["dtype"]) for e in told]
    assert same(load_checkpoint(path).model, model.state_dict())


def test_what_the_authors_program_cannot_build_is_not_exported(tmp_path: Path) -> None:
    generator, path = torch.Generator(), tmp_path / "x.pt"
    baseline = TrackletGait.random(BASELINES["gaitbase"], generator, class_num=3)
    with pytest.raises(CheckpointError, match="gaitbase"):
        export_authors(baseline, path, iteration=0, training={})
    nano = TrackletGait.random(VARIANTS["nano"], generator, class_num=3)
    with pytest.raises(CheckpointError, match=r"standard or small.*nano"):
        export_authors(nano, path, iteration=0, training={})
    with pytest.raises(CheckpointError, match="BNNecks"):
        export_authors(
            TrackletGait.random(VARIANTS["small"], generator), path, iteration=0, training={}
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "write", [save_checkpoint, partial(export_authors, iteration=0, training={})]
)
def test_a_full_disk_leaves_no_half_file(
    write: Callable[[TrackletGait, Path], None], small: Weights, tmp_path: Path
) -> None:
    model = load_checkpoint(saved(tmp_path, small)).model
    path = tmp_path / "run" / "w"
    path.parent.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="cannot write"):
            write(model, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(path.parent.iterdir()) == []
