from __future__ import annotations

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from gait.errors import ConfigError
from pipeline.gallery.coarse import CoarseConfig
from pipeline.gallery.matrix import ExemplarMatrix
from pipeline.gallery.neighbours import Row

ROWS = 3000
CONFIG = CoarseConfig(above=2000, candidates=100)


def people(count: int) -> NDArray[np.float32]:
    """Return people of five rows each, of few directions, as encoders give them."""
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((16, 24, 256)) * (0.9 ** np.arange(24))[:, np.newaxis]
    weights = rng.standard_normal((count // 5, 16, 24)).repeat(5, axis=0)
    weights = weights + 0.4 * rng.standard_normal(weights.shape)
    stored = np.matmul(weights.transpose(1, 0, 2), directions).transpose(1, 2, 0).astype(np.float16)
    return np.asarray(stored, np.float32)


@pytest.fixture(scope="module")
def embeddings() -> NDArray[np.float32]:
    return people(ROWS)


def test_without_faiss_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match="trackletgait\\[coarse\\]"):
        ExemplarMatrix(coarse=CONFIG)


def test_candidates_hold_the_nearest_and_follow_every_change(
    embeddings: NDArray[np.float32],
) -> None:
    pytest.importorskip("faiss")
    exact, coarse = ExemplarMatrix(), ExemplarMatrix(coarse=CONFIG)
    for matrix in (exact, coarse):
        matrix.extend([Row(n, n // 5, 1.0) for n in range(ROWS)], embeddings)
        for key in range(0, 500, 5):
            matrix.remove(key)
        for key in range(1, 500, 5):
            matrix.remove(key)
            row = Row(10_000 + key, key // 5, 1.0)
            matrix.extend([row], embeddings[key : key + 1] + 0.5)
        matrix.extend([Row(20_000, 7, 1.0)], embeddings[:1])
    probes = list(embeddings[:1000:7] + 0.01)
    barred = [{n % 11} for n in range(len(probes))]
    for found, expected in zip(
        coarse.search_owners(probes, barred=barred),
        exact.search_owners(probes, barred=barred),
        strict=True,
    ):
        assert found[0] == expected[0]
    assert coarse.search([embeddings[0]]) == exact.search([embeddings[0]])


def test_where_candidates_do_not_suffice_everything_is_searched(
    embeddings: NDArray[np.float32],
) -> None:
    pytest.importorskip("faiss")
    few = CoarseConfig(above=2000, candidates=3)
    matrix, exact = ExemplarMatrix(coarse=few), ExemplarMatrix()
    for each in (matrix, exact):
        each.extend([Row(n, n // 5, 1.0) for n in range(ROWS)], embeddings)
    probe = embeddings[40]
    assert matrix.search([probe], k=20) == exact.search([probe], k=20)
    assert matrix.search([probe], barred=[[8]]) == exact.search([probe], barred=[[8]])


def test_below_its_size_nothing_is_left_to_chance(
    embeddings: NDArray[np.float32],
) -> None:
    pytest.importorskip("faiss")
    useless = CoarseConfig(above=2000, candidates=1)
    matrix, exact = ExemplarMatrix(coarse=useless), ExemplarMatrix()
    for each in (matrix, exact):
        each.extend([Row(n, n // 5, 1.0) for n in range(2000)], embeddings[:2000])
        each.remove(1234)
    probes = list(embeddings[2000:2100])
    assert matrix.search(probes) == exact.search(probes)
