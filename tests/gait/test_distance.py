from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from gait import distance
from gait.distance import cosine, euclidean

METRICS = {"euc": euclidean, "cos": cosine}


def naive_euclidean(x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.array(
        [
            [
                np.mean([np.linalg.norm(a[:, p] - b[:, p]) for p in range(a.shape[1])])
                for b in y.astype(np.float64)
            ]
            for a in x.astype(np.float64)
        ]
    )


@pytest.fixture
def embeddings() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((7, 256, 16)).astype(np.float32)


@pytest.mark.golden
@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_distances_agree_with_the_release(
    name: str, dtype: str, golden_dir: Path, golden_rules: ModuleType
) -> None:
    x = golden_rules.gen("dist/x").standard_normal((5, 16, 4))
    y = golden_rules.gen("dist/y").standard_normal((7, 16, 4))
    compute = {"f64": np.float64, "f32": np.float32}[dtype]
    expected = np.load(golden_dir / "evaluation.npz")[f"dist_{name}_{dtype}"]
    result = METRICS[name](x.astype(compute), y.astype(compute), dtype=compute)
    assert result.dtype == compute
    # The release sums the parts in float32 whatever it is given: its float64 numbers, too, are
    # float32 ones. The naive loop below holds ours to 1e-12.
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


def test_euclidean_agrees_with_a_naive_loop(embeddings: NDArray[np.float32]) -> None:
    x, y = embeddings[:3], embeddings[3:]
    np.testing.assert_allclose(euclidean(x, y), naive_euclidean(x, y), rtol=1e-12)


def test_it_is_not_the_distance_of_the_concatenation() -> None:
    x, y = np.zeros((1, 4, 2)), np.zeros((1, 4, 2))
    y[0, 0] = 3.0, 4.0
    assert euclidean(x, y)[0, 0] == 3.5


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_blocks_do_not_change_the_result(
    metric: Callable[..., NDArray[np.floating]],
    embeddings: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = metric(embeddings, embeddings)
    monkeypatch.setattr(distance, "_BLOCK", 3)
    np.testing.assert_allclose(metric(embeddings, embeddings), whole, rtol=1e-12, atol=1e-6)


def test_an_embedding_is_next_to_nothing_from_itself_and_never_nan(
    embeddings: NDArray[np.float32],
) -> None:
    same = np.diag(euclidean(embeddings, embeddings))
    assert same.max() < 2e-6  # parts of length 16: sqrt(float64's epsilon) * 16, a few times
    assert np.isfinite(euclidean(embeddings, embeddings, dtype=np.float32)).all()


def test_a_tiny_difference_is_measured_and_not_drowned(embeddings: NDArray[np.float32]) -> None:
    near = embeddings + np.float32(1e-3)
    expected = np.diag(naive_euclidean(embeddings, near))
    np.testing.assert_allclose(np.diag(euclidean(embeddings, near)), expected, rtol=1e-6)


def test_a_part_of_zeros_has_cosine_distance_one_and_no_nan() -> None:
    zeros = np.zeros((1, 4, 2))
    assert cosine(zeros, np.ones((1, 4, 2)))[0, 0] == 1.0


def test_float16_rounds_every_step_as_mixed_precision_does(
    embeddings: NDArray[np.float32],
) -> None:
    half = np.float16
    x, y = embeddings[:3].astype(half), embeddings[3:].astype(half)
    expected = np.zeros((3, 4), np.float32)
    for i, j, part in np.ndindex(3, 4, 16):
        a, b = x[i, :, part], y[j, :, part]
        a_squared, b_squared = (half((each * each).astype(np.float32).sum()) for each in (a, b))
        product = half((a.astype(np.float32) * b).sum(dtype=np.float32))
        square = half(half(a_squared + b_squared) - half(2) * product)
        expected[i, j] += np.sqrt(np.maximum(square, half(0)))
    result = euclidean(x, y, dtype=half)
    assert result.dtype == np.float32
    # A sum in another order may fall on the other side of a float16 step: 2^-11 of a part.
    np.testing.assert_allclose(result, expected / 16, rtol=2**-11 / 2)
    assert np.abs(result - euclidean(x, y)).max() > 1e-4  # it does round
    np.testing.assert_allclose(result, euclidean(x, y), rtol=2e-3)


def test_float16_cosines_are_coarse_but_right(embeddings: NDArray[np.float32]) -> None:
    result = cosine(embeddings, embeddings, dtype=np.float16)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, cosine(embeddings, embeddings), atol=2e-3)


def test_embeddings_too_large_for_float16_are_refused_not_ranked() -> None:
    large = np.full((2, 256, 16), 30.0)
    with pytest.raises(ValueError, match="too large for float16"):
        euclidean(large, -large, dtype=np.float16)


def test_an_empty_gallery_gives_an_empty_row(embeddings: NDArray[np.float32]) -> None:
    assert euclidean(embeddings, embeddings[:0]).shape == (7, 0)


@pytest.mark.parametrize("shape", [(256, 16), (2, 16, 256), (2, 4096)])
def test_embeddings_of_other_shapes_are_refused(
    shape: tuple[int, ...], embeddings: NDArray[np.float32]
) -> None:
    with pytest.raises(ValueError, match="expected shapes"):
        euclidean(embeddings, np.zeros(shape))
