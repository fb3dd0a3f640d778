"""Ablations and baselines: options of the one network class."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from gait.model.blocks import Downsampling, FrameConv, Halving, ResidualUnit, UnitConfig
from gait.model.trackletgait import BASELINES, VARIANTS, TrackletGait, TrackletGaitConfig

SMALL = VARIANTS["small"]


def seeded(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def small(**changes: object) -> TrackletGaitConfig:
    return TrackletGaitConfig.model_validate(SMALL.model_dump() | changes)


def backbone_size(config: TrackletGaitConfig) -> int:
    with torch.device("meta"):
        model = TrackletGait(config)
    return sum(p.numel() for key, p in model.named_parameters() if not key.startswith("FCs"))


@pytest.mark.parametrize("downsampling", ["haar", "max", "average", "strided"])
def test_every_downsampling_gives_an_embedding_and_gradients(downsampling: Downsampling) -> None:
    config = small(downsampling=downsampling)
    model = TrackletGait.random(config, torch.Generator().manual_seed(0), class_num=5).train()
    embeddings = model(torch.rand(2, 3, 64, 44, generator=torch.Generator().manual_seed(1)))
    assert embeddings.shape == (2, 256, 16)
    model.classify(embeddings)[1].square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("downsampling", "block"), [("max", lambda b: max(b)), ("average", lambda b: sum(b) / 4)]
)
def test_the_pooling_ablations_keep_one_number_of_each_block(
    downsampling: Downsampling, block: Callable[[list[float]], float]
) -> None:
    halving = Halving(downsampling, 2, 3).double().eval()
    x_FCHW = seeded((1, 2, 4, 6))
    kept = torch.empty(1, 2, 2, 3, dtype=torch.float64)
    for c, i, j in np.ndindex(2, 2, 3):
        kept[0, c, i, j] = block(
            x_FCHW[0, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten().tolist()
        )
    conv, bn, relu = halving.conv_bn_relu
    read = torch.einsum("dc,fchw->fdhw", conv.weight[:, :, 0, 0], kept)
    expected = relu(bn(read + conv.bias[:, None, None]))
    torch.testing.assert_close(halving(x_FCHW), expected, rtol=0, atol=1e-12)


def test_only_the_convolution_over_the_bands_grows_with_the_wavelet() -> None:
    whole, one_band = backbone_size(SMALL), backbone_size(small(downsampling="max"))
    assert whole - one_band == 3 * (16 * 256 + 256 * 512)


def test_a_strided_unit_is_the_resnet_block_of_its_paper() -> None:
    """Against plain torch: conv3x3/2, BN, ReLU, conv3x3, BN, plus conv1x1/2, BN."""
    unit = ResidualUnit(UnitConfig("layer2", 3, 4, downsampling="strided")).double().eval()
    x_NCTHW = seeded((2, 3, 5, 8, 6))
    frames = x_NCTHW.transpose(1, 2).reshape(10, 3, 8, 6)
    y = functional.relu(functional.conv2d(frames, unit.conv1.weight, stride=2, padding=1) / _BN)
    y = functional.conv2d(y, unit.conv2.weight, padding=1) / _BN
    shortcut = functional.conv2d(frames, unit.downsample[0].weight[:, :, 0], stride=2) / _BN
    expected = functional.relu(y + shortcut).reshape(2, 5, 4, 4, 3).transpose(1, 2)
    torch.testing.assert_close(unit(x_NCTHW), expected, rtol=0, atol=1e-12)


_BN = (1 + 1e-5) ** 0.5  # a fresh batch norm in eval mode


@pytest.mark.parametrize(("size", "groups"), [(1, 1), (3, 1), (5, 2), (7, 4)])
def test_the_temporal_branch_is_a_grouped_convolution_over_time(size: int, groups: int) -> None:
    config = UnitConfig("layer3", 8, 8, temporal_kernel=size, temporal_groups=groups)
    branch = ResidualUnit(config).double().th
    x_NCTHW = seeded((1, 8, 6, 2, 3))
    expected = functional.conv3d(x_NCTHW, branch.weight, padding=(size // 2, 0, 0), groups=groups)
    assert branch.weight.shape == (8, 8 // groups, size, 1, 1)
    torch.testing.assert_close(branch(x_NCTHW), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (1, 2), (3, 1)])
def test_a_frame_convolution_agrees_with_torchs_own(size: int, stride: int) -> None:
    layer = FrameConv(2, 3, size, stride=stride, bias=True).double()
    x_NCTHW = seeded((2, 2, 4, 8, 6))
    expected = torch.nn.Conv3d.forward(layer, x_NCTHW)
    torch.testing.assert_close(layer(x_NCTHW), expected, rtol=0, atol=1e-12)


def test_without_a_temporal_branch_frames_do_not_see_each_other() -> None:
    config = small(temporal_kernel=None)
    model = TrackletGait.random(config, torch.Generator().manual_seed(0)).double().eval()
    walk = seeded((1, 4, 64, 44)).abs()
    with torch.inference_mode():
        torch.testing.assert_close(model(walk), model(walk[:, [2, 0, 3, 1]]), rtol=0, atol=1e-12)


def test_block_counts_keep_the_released_names_where_these_suffice() -> None:
    def names(*blocks: int) -> list[str]:
        return [u.name for u in TrackletGaitConfig(blocks=blocks).units]  # type: ignore[arg-type]

    assert names(1, 4, 4, 1) == [f"layer{i}" for i in range(1, 11)]
    assert names(1, 1, 1, 1) == ["layer1", "layer2", "layer6", "layer10"]
    assert names(0, 1, 1, 0) == ["layer2", "layer6"]
    assert names(1, 6, 1, 1) == [f"layer{i}" for i in (1, *range(2, 8), 8, 10)]


def test_the_baselines_have_the_sizes_of_their_papers_layers() -> None:
    """Counted by hand from the papers' tables: 3x3 convolutions, shortcuts, batch norms."""
    c = (64, 128, 256, 512)
    stem = 9 * 64 + 2 * 64
    first = [9 * i * o + 9 * o * o + 4 * o for i, o in zip((64, *c), c, strict=False)]
    shortcuts = [i * o + 2 * o for i, o in itertools.pairwise(c)]
    gaitbase = stem + sum(first) + sum(shortcuts)
    assert backbone_size(BASELINES["gaitbase"]) == gaitbase
    more = sum(count * (18 * o * o + 4 * o) for count, o in ((3, 128), (3, 256)))
    along_time = sum(count * (3 * o * o + 2 * o) for count, o in ((4, 128), (4, 256), (1, 512)))
    deepgait = backbone_size(BASELINES["deepgaitv2-p3d"])
    assert deepgait == gaitbase + more + along_time
    assert round(deepgait / 1e6, 1) == 11.1  # as Fan et al. 2023 print it


@pytest.mark.parametrize("name", BASELINES)
def test_the_baselines_embed(name: str) -> None:
    model = TrackletGait.random(BASELINES[name], torch.Generator().manual_seed(0)).eval()
    with torch.inference_mode():
        assert model(torch.rand(1, 2, 64, 44)).shape == (1, 256, 16)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"blocks": [0, 0, 0, 0]}, "blocks"),
        ({"blocks": [1, -1, 1, 1]}, "blocks"),
        ({"blocks": [1, 10**9, 1, 1]}, "blocks"),
        ({"temporal_kernel": 4}, "odd"),
        ({"temporal_groups": 3}, "divisor"),
        ({"channels": [64, 0, 1, 1]}, "channels"),
        ({"downsampling": "db2"}, "haar"),
        ({"kernel": 3}, "kernel"),
    ],
)
def test_sizes_that_cannot_be_are_refused(change: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        TrackletGaitConfig.model_validate(change)
