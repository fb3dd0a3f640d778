"""The folded network is the trained one: the same sums in fewer and larger steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gait.model.checkpoint import load_checkpoint
from gait.model.folded import fold
from gait.model.trackletgait import BASELINES, RELEASED, VARIANTS, TrackletGait, TrackletGaitConfig
from gait.training.config import load_config

ROOT = Path(__file__).parents[3]
NANO = ROOT / "pipeline/models/trackletgait-nano.safetensors"
TOLERANCES = {torch.float32: 5e-5, torch.float64: 1e-12}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)


def walked(
    config: TrackletGaitConfig, dtype: torch.dtype, hw: tuple[int, int] = (64, 44)
) -> TrackletGait:
    """A network whose batch norms have seen some batches, so that they are not the identity."""
    generator = torch.Generator().manual_seed(0)
    model = TrackletGait.random(config, generator).to(dtype).train()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # norms and biases start as ones and zeros
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
        for _ in range(2):
            model(silhouettes((2, 3, *hw), dtype))
    return model.eval()


def silhouettes(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def thin(config: TrackletGaitConfig) -> TrackletGaitConfig:
    """The same layers with few channels."""
    changes = {"channels": (4, 8, 12, 16), "stem_channels": 4, "embedding_channels": 8}
    return config.model_copy(update=changes)


def of_all_yamls() -> dict[str, TrackletGaitConfig]:
    """Every network that a configuration names, thinned; those alike in it once."""
    networks = {}
    for path in sorted((ROOT / "configs/gait").glob("*.yaml")):
        network = thin(load_config(path).network)
        networks.setdefault(network.model_copy(update={"name": ""}).model_dump_json(), network)
    return {network.name: network for network in networks.values()}


THIN = of_all_yamls() | {name: thin(config) for name, config in (VARIANTS | BASELINES).items()}


@torch.inference_mode()
def assert_folds(model: TrackletGait, input_NTHW: torch.Tensor) -> None:
    expected_NDP = model(input_NTHW)
    tolerance = TOLERANCES[expected_NDP.dtype] * max(1.0, expected_NDP.abs().max().item())
    torch.testing.assert_close(fold(model)(input_NTHW), expected_NDP, rtol=0, atol=tolerance)


def test_every_shape_of_network_that_we_train_is_among_those_tested() -> None:
    assert len(THIN) >= 10
    assert {config.downsampling for config in THIN.values()} == {
        "haar", "max", "average", "strided",
    }  # fmt: skip


@DTYPES
@pytest.mark.parametrize("name", THIN)
def test_every_configurations_network_folds_without_a_difference(
    name: str, dtype: torch.dtype
) -> None:
    assert_folds(walked(THIN[name], dtype), silhouettes((2, 9, 64, 44), dtype))


@DTYPES
def test_the_trained_network_folds_without_a_difference(dtype: torch.dtype) -> None:
    assert_folds(load_checkpoint(NANO).model.to(dtype), silhouettes((2, 9, 64, 44), dtype))


@pytest.mark.golden
@pytest.mark.parametrize("variant", RELEASED)
@DTYPES
def test_the_folded_network_agrees_with_the_release(
    variant: str,
    dtype: torch.dtype,
    golden_model: Callable[[str, torch.dtype], TrackletGait],
    golden_dir: Path,
    golden_rules: ModuleType,
) -> None:
    model = golden_model(variant, dtype)
    input_NTHW = torch.from_numpy(golden_rules.silhouettes(1, 7)).to(dtype)
    name, tolerances = {
        torch.float32: ("f32", {"rtol": 1e-4, "atol": 2e-4}),
        torch.float64: ("f64", {"rtol": 0.0, "atol": 1e-10}),
    }[dtype]  # those of the explicit network, see tests/golden/README.md
    with torch.inference_mode():
        result = fold(model)(input_NTHW).numpy()
    expected = np.load(golden_dir / "model.npz")[f"{variant}_eval_1x7_{name}"]
    np.testing.assert_allclose(result, expected, **tolerances)
    assert_folds(model, input_NTHW[:, :2])


def networks() -> st.SearchStrategy[TrackletGaitConfig]:
    """Anything the configuration accepts, of few channels and for pictures of 16 x 12."""
    groups = st.sampled_from([1, 2])
    return groups.flatmap(
        lambda groups: st.builds(
            TrackletGaitConfig,
            blocks=st.tuples(*[st.integers(0, 2)] * 4).filter(any),
            channels=st.tuples(*[st.integers(1, 3).map(lambda n: n * groups)] * 4),
            stem=st.sampled_from(["pixel", "conv3x3"]),
            stem_channels=st.integers(1, 4),
            downsampling=st.sampled_from(["haar", "max", "average", "strided"]),
            temporal_kernel=st.sampled_from([None, 1, 3, 7]),
            temporal_groups=st.just(groups),
            num_parts=st.sampled_from([1, 3, 4]),
            embedding_channels=st.integers(1, 3),
        )
    )


@settings(max_examples=30, deadline=None)
@given(config=networks(), num_frames=st.integers(1, 9))
def test_whatever_the_configuration_accepts_can_be_folded(
    config: TrackletGaitConfig, num_frames: int
) -> None:
    model = walked(config, torch.float64, (16, 12))
    assert_folds(model, silhouettes((2, num_frames, 16, 12), torch.float64))


@DTYPES
@pytest.mark.parametrize("name", ["nano", "gaitbase", "deepgaitv2-p3d"])
def test_what_follows_the_end_of_a_sequence_has_no_effect(name: str, dtype: torch.dtype) -> None:
    folded = fold(walked(THIN[name], dtype))
    padded_NTHW = silhouettes((3, 9, 64, 44), dtype)  # noise behind the ends, too
    lengths = [4, 9, 1]
    with torch.inference_mode():
        together_NDP = folded(padded_NTHW, torch.tensor(lengths))
        for index, length in enumerate(lengths):
            alone_DP = folded(padded_NTHW[index : index + 1, :length])[0]
            torch.testing.assert_close(
                together_NDP[index], alone_DP, rtol=0, atol=TOLERANCES[dtype]
            )


def test_folding_leaves_the_network_as_it_was_and_shares_nothing_with_it() -> None:
    model = walked(THIN["nano"], torch.float32)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    folded = fold(model)
    for parameter in folded.parameters():
        parameter.data.zero_()
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_nothing_is_left_but_two_dimensional_convolutions_and_one_product() -> None:
    folded = fold(walked(THIN["standard"], torch.float32))
    kinds = {type(module) for module in folded.modules() if not list(module.children())}
    assert nn.Conv3d not in kinds
    assert not any(issubclass(kind, nn.modules.batchnorm._BatchNorm) for kind in kinds)
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert not folded.training


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_the_head_and_the_direction_of_embeddings(dtype: torch.dtype) -> None:
    model = load_checkpoint(NANO).model
    input_NTHW = silhouettes((1, 5, 64, 44), torch.float32)
    with torch.inference_mode():
        exact_NDP = fold(model)(input_NTHW)
        rounded_NDP = fold(model).round_to(dtype)(input_NTHW)
    assert rounded_NDP.dtype == torch.float32
    assert nn.functional.cosine_similarity(exact_NDP, rounded_NDP, dim=1).min() > 0.999
    assert not torch.equal(exact_NDP, rounded_NDP)
