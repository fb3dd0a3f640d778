from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gait.model.trackletgait import RELEASED, VARIANTS, TrackletGait

Build = Callable[[str, torch.dtype], TrackletGait]

TOLERANCES = {"f64": {"rtol": 0.0, "atol": 1e-10}, "f32": {"rtol": 1e-4, "atol": 2e-4}}
DTYPES = {"f64": torch.float64, "f32": torch.float32}


def frames(golden_rules: ModuleType, n: int, t: int, dtype: str) -> torch.Tensor:
    return torch.from_numpy(golden_rules.silhouettes(n, t)).to(DTYPES[dtype])


@pytest.mark.golden
@pytest.mark.parametrize("variant", RELEASED)
@pytest.mark.parametrize(
    ("n", "t", "dtype", "channels_last"),
    [
        (2, 30, "f64", True),
        (2, 30, "f32", True),
        (1, 7, "f64", False),
        (1, 7, "f32", False),
    ],
)
def test_embeddings_agree_with_the_release(
    variant: str,
    n: int,
    t: int,
    dtype: str,
    channels_last: bool,
    golden_model: Build,
    golden_dir: Path,
    golden_rules: ModuleType,
) -> None:
    model = golden_model(variant, DTYPES[dtype])
    if channels_last:
        model.use_channels_last()
    taken = slice(None) if dtype == "f32" else slice(1)  # float64 is slow; one sequence will do
    with torch.inference_mode():
        result = model(frames(golden_rules, n, t, dtype)[taken]).numpy()
    expected = np.load(golden_dir / "model.npz")[f"{variant}_eval_{n}x{t}_{dtype}"][taken]
    np.testing.assert_allclose(result, expected, **TOLERANCES[dtype])


@pytest.mark.golden
@pytest.mark.parametrize("variant", RELEASED)
def test_the_neck_agrees_with_the_release(
    variant: str, golden_model: Build, golden_dir: Path, golden_rules: ModuleType
) -> None:
    model = golden_model(variant, torch.float64)
    golden = np.load(golden_dir / "model.npz")
    with torch.inference_mode():
        features, logits = model.classify(model(frames(golden_rules, 1, 7, "f64")))
    for name, result in (("feature", features), ("logits", logits)):
        expected = golden[f"{variant}_eval_1x7_bnneck_{name}_f64"]
        np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-10)


@pytest.mark.golden
@pytest.mark.parametrize("variant", RELEASED)
def test_every_layer_agrees_with_the_release(
    variant: str, golden_model: Build, golden_dir: Path, golden_rules: ModuleType
) -> None:
    golden = json.loads((golden_dir / "model_intermediates.json").read_text())
    golden = golden[f"{variant}_eval_1x7"]
    model = golden_model(variant, torch.float64)
    seen: dict[str, torch.Tensor] = {}
    for name in set(golden) - {"temporal_max", "HPP"}:
        model.get_submodule(name).register_forward_hook(
            lambda _module, _args, out, name=name: seen.update({name: out})
        )
    with torch.inference_mode():
        model(frames(golden_rules, 1, 7, "f64"))
    assert len(seen) == len(golden) - 2
    for name, result in seen.items():
        told = golden[name]
        # "pooling" is recorded per sequence and computed per frame; one sequence, so t x c.
        if name.endswith("pooling"):
            result = result.unsqueeze(0).transpose(1, 2)
        assert list(result.shape) == told["shape"], name
        flat = result.flatten()
        probes = [flat[i * 7919 % len(flat)].item() for i in range(8)]
        np.testing.assert_allclose(probes, told["probe_values"], rtol=0, atol=1e-10)
        assert flat.std(correction=0).item() == pytest.approx(told["std"], rel=1e-9), name


@pytest.mark.golden
@pytest.mark.parametrize("variant", RELEASED)
@pytest.mark.parametrize("class_num", [74, 3000])
def test_keys_shapes_and_order_are_those_of_the_authors(
    variant: str, class_num: int, golden_dir: Path
) -> None:
    with torch.device("meta"):
        model = TrackletGait(VARIANTS[variant], class_num)
    told = json.loads((golden_dir / f"state_dict_{variant}.json").read_text())
    entries = told[f"class_num_{class_num}"]
    ours = [(key, list(value.shape)) for key, value in model.state_dict().items()]
    assert ours == [(entry["key"], entry["shape"]) for entry in entries]


@pytest.mark.parametrize(("variant", "count"), [("standard", 10_314_688), ("small", 4_798_048)])
def test_the_backbones_have_the_papers_parameter_counts(variant: str, count: int) -> None:
    with torch.device("meta"):
        model = TrackletGait(VARIANTS[variant])
    sizes = {key: value.numel() for key, value in model.named_parameters()}
    assert sum(size for key, size in sizes.items() if not key.startswith("FCs")) == count
    assert sum(sizes.values()) == count + 2_097_152


def flops_a_frame(variant: str) -> float:
    """Multiply-adds twice, as torch counts them."""
    with torch.device("meta"):
        model = TrackletGait(VARIANTS[variant]).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 30, 64, 44))
    return counter.get_total_flops() / 30


def test_nano_needs_a_twelfth_of_standards_operations_at_most() -> None:
    assert flops_a_frame("nano") <= flops_a_frame("standard") / 12


@pytest.mark.parametrize("hw", [(64, 44), (64, 64), (128, 88)])
def test_sizes_the_release_takes_are_taken(hw: tuple[int, int]) -> None:
    model = TrackletGait.random(VARIANTS["small"], torch.Generator().manual_seed(0)).eval()
    with torch.inference_mode():
        assert model(torch.rand(1, 1, *hw)).shape == (1, 256, 16)


@pytest.mark.parametrize("hw", [(64, 46), (64, 45), (62, 44), (32, 22), (64, 42), (0, 44)])
def test_sizes_the_release_fails_on_are_refused_with_a_reason(hw: tuple[int, int]) -> None:
    with torch.device("meta"):
        model = TrackletGait(VARIANTS["small"])
        with pytest.raises(ValueError, match="expected"):
            model(torch.rand(1, 1, *hw))


def test_a_seed_names_one_network_and_leaves_the_global_generator_alone() -> None:
    state = torch.random.get_rng_state()
    first, second, other = (
        TrackletGait.random(VARIANTS["small"], torch.Generator().manual_seed(seed), 10)
        for seed in (3, 3, 4)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key
    assert not torch.equal(first.FCs.fc_bin, other.FCs.fc_bin)


def test_new_weights_follow_the_papers_initialisation() -> None:
    model = TrackletGait.random(VARIANTS["small"], torch.Generator().manual_seed(0), 74)
    weights = model.state_dict()
    assert model.BNNecks is not None
    bounds = {
        "FCs.fc_bin": (6 / (512 * 256 + 16 * 256)) ** 0.5,
        "BNNecks.fc_bin": (6 / (256 * 74 + 16 * 74)) ** 0.5,
        "layer6.0.conv2.weight": (6 / (2 * 512 * 9)) ** 0.5,
        "layer6.0.th.weight": (6 / (128 * 7 + 512 * 7)) ** 0.5,
    }
    for key, bound in bounds.items():
        assert bound * 0.999 < weights[key].abs().max() <= bound, key
    scale = weights["layer6.0.bn2.weight"]
    assert scale.mean().item() == pytest.approx(1, abs=0.005)
    assert scale.std().item() == pytest.approx(0.02, rel=0.15)
    for key in ("pooling1.conv_bn_relu.0.bias", "layer6.0.bn2.bias", "layer6.0.bn2.running_mean"):
        assert not weights[key].any(), key


def test_a_network_without_a_neck_says_so() -> None:
    with torch.device("meta"):
        model = TrackletGait(VARIANTS["small"])
    with pytest.raises(ValueError, match="class_num"):
        model.classify(torch.zeros(1, 256, 16))
