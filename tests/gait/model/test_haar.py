from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from gait.model.haar import fused_kernel, haar


@pytest.mark.golden
@pytest.mark.parametrize(("name", "shape"), [("even", (2, 3, 6, 8)), ("odd", (1, 2, 5, 7))])
@pytest.mark.parametrize(("dtype", "atol"), [("f64", 1e-10), ("f32", 1e-6)])
def test_bands_agree_with_the_release(
    name: str,
    shape: tuple[int, ...],
    dtype: str,
    atol: float,
    golden_dir: Path,
    golden_rules: ModuleType,
) -> None:
    compute = {"f64": np.float64, "f32": np.float32}[dtype]
    x = golden_rules.gen(f"haar/{name}").standard_normal(shape).astype(compute)
    expected = np.load(golden_dir / "haar.npz")[f"dwt2_{name}_{dtype}"]  # (N, band, C, H, W)
    result = haar(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(result, expected.reshape(result.shape), rtol=0, atol=atol)


def test_bands_of_one_block_are_those_of_the_specification() -> None:
    bands = haar(torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]])).flatten()
    assert bands.tolist() == [5.5, -1.5, -2.5, 0.5]


def test_the_fused_kernel_is_the_transform_and_then_the_convolution() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64, generator=generator)
    weight = torch.randn(5, 12, 1, 1, dtype=torch.float64, generator=generator)
    expected = torch.einsum("db,nbhw->ndhw", weight[:, :, 0, 0], haar(x))
    result = torch.nn.functional.conv2d(x, fused_kernel(weight), stride=2)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)


def test_the_transform_keeps_the_energy() -> None:
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert haar(x).square().sum().item() == pytest.approx(x.square().sum().item(), rel=1e-12)
