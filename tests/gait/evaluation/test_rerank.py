from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from gait.evaluation.rerank import RerankConfig, rerank


def naive_rerank(
    distances: NDArray[np.float64], probe: range, gallery: range, k1: int, k2: int, weight: float
) -> NDArray[np.float64]:
    """Zhong et al., CVPR 2017, with sets and loops."""
    size = len(distances)
    scaled = distances / distances.max(axis=1, keepdims=True)

    def near(p: int, k: int) -> list[int]:
        others = sorted((g for g in range(size) if g != p), key=lambda g: (scaled[p, g], g))
        return [p, *others][: k + 1]

    def reciprocal(p: int, k: int) -> set[int]:
        return {g for g in near(p, k) if p in near(g, k)}

    def extended(p: int) -> set[int]:
        base = reciprocal(p, k1)
        result = set(base)
        for q in base:
            circle = reciprocal(q, max(round(k1 / 2), 1))
            if len(circle & base) >= 2 / 3 * len(circle):
                result |= circle
        return result

    first = [{g: math.exp(-scaled[p, g]) for g in extended(p)} for p in range(size)]
    vectors = []
    for p in range(size):
        neighbours = near(p, k2 - 1)
        vectors.append(
            [sum(first[g].get(column, 0) for g in neighbours) / len(neighbours)
             for column in range(size)]
        )  # fmt: skip
    result = np.empty((len(probe), len(gallery)))
    for row, p in enumerate(probe):
        for column, g in enumerate(gallery):
            least = sum(map(min, vectors[p], vectors[g]))
            most = sum(map(max, vectors[p], vectors[g]))
            jaccard = 1 - least / most
            result[row, column] = (1 - weight) * jaccard + weight * scaled[p, g]
    return result


def clustered(seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    points = np.repeat(rng.standard_normal((6, 5)), 6, axis=0) + 0.7 * rng.standard_normal((36, 5))
    distances: NDArray[np.float64] = np.linalg.norm(points[:, None] - points, axis=2)
    order = rng.permutation(36)
    return distances[np.ix_(order, order)]


@pytest.mark.parametrize(("k1", "k2"), [(8, 3), (5, 1), (1, 1), (40, 6), (3, 6)])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("probe", "gallery"),
    [(range(10), range(10, 36)), (range(36), range(36))],
    ids=["apart", "each against all"],
)
def test_it_agrees_with_the_paper_in_sets_and_loops(
    probe: range, gallery: range, k1: int, k2: int, seed: int
) -> None:
    distances = clustered(seed)
    config = RerankConfig(k1=k1, k2=k2, weight=0.3)
    ours = rerank(distances, np.array(probe), np.array(gallery), config)
    expected = naive_rerank(distances, probe, gallery, k1, k2, 0.3)
    np.testing.assert_allclose(ours, expected, atol=2e-6)  # ours is float32


def test_with_all_the_weight_on_the_distance_no_ranking_changes() -> None:
    distances = clustered(2)
    ours = rerank(distances, np.arange(10), np.arange(10, 36), RerankConfig(k1=8, weight=1.0))
    np.testing.assert_array_equal(ours.argsort(axis=1), distances[:10, 10:].argsort(axis=1))


def test_a_match_that_is_mutual_overtakes_a_nearer_stranger_with_friends_of_his_own() -> None:
    match, stranger = 1, 3
    line = np.array([0.0, -1.0, -1.1, 0.9, 1.4, 1.45, 1.5])
    distances = np.abs(line[:, None] - line)
    assert distances[0, stranger] < distances[0, match]
    ours = rerank(distances, np.arange(1), np.arange(1, 7), RerankConfig(k1=3, k2=1))
    assert ours[0, match - 1] < ours[0, stranger - 1]
