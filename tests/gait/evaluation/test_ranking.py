from __future__ import annotations

import numpy as np
import pytest

from gait.evaluation.ranking import (
    NEVER,
    Rows,
    cmc,
    first_match_ranks,
    nearest,
    nearest_match_and_other,
    retrieval,
)


def naive_ranking(rows: Rows, probe: int) -> list[bool]:
    """Return whether each gallery sequence matches, nearest first; ties in gallery order."""
    kept = [j for j in range(rows.distances.shape[1]) if not rows.dropped[probe, j]]
    kept.sort(key=lambda j: (rows.distances[probe, j], j))
    return [bool(rows.same[probe, j]) for j in kept]


def naive_retrieval(rows: Rows, probe: int) -> list[float]:
    ranking = naive_ranking(rows, probe)
    ranks = [place for place, hit in enumerate(ranking, start=1) if hit]
    if not ranks:
        return [np.nan] * 3
    precisions = [found / rank for found, rank in enumerate(ranks, start=1)]
    return [ranks[0], sum(precisions) / len(ranks), len(ranks) / ranks[-1]]


def random_rows(seed: int, *, levels: int, num_subjects: int = 6) -> Rows:
    """Return distances of which many are equal when there are few levels."""
    rng = np.random.default_rng(seed)
    shape = (23, 31)
    same = rng.integers(num_subjects, size=(23, 1)) == rng.integers(num_subjects, size=31)
    distances = rng.integers(levels, size=shape).astype(np.float32)
    return Rows(distances, same, rng.random(shape) < 0.2)


@pytest.fixture(params=[3, 1000], ids=["many ties", "few ties"])
def rows(request: pytest.FixtureRequest) -> Rows:
    return random_rows(request.param, levels=request.param)


def test_ap_and_inp_agree_with_a_naive_loop(rows: Rows) -> None:
    expected = [naive_retrieval(rows, probe) for probe in range(23)]
    np.testing.assert_allclose(retrieval(rows), expected, rtol=1e-12)


def test_the_first_match_agrees_with_a_naive_loop_and_ignores_what_is_dropped(rows: Rows) -> None:
    whole = Rows(rows.distances, rows.same, np.zeros_like(rows.same))
    for probe, rank in enumerate(first_match_ranks(rows)):
        ranking = naive_ranking(whole, probe)
        assert rank == (ranking.index(True) + 1 if True in ranking else NEVER)


def test_the_nearest_match_and_other_agree_with_a_naive_loop(rows: Rows) -> None:
    for probe, (match, other) in enumerate(nearest_match_and_other(rows)):
        kept = [j for j in range(31) if not rows.dropped[probe, j]]
        matches = [rows.distances[probe, j] for j in kept if rows.same[probe, j]]
        others = [rows.distances[probe, j] for j in kept if not rows.same[probe, j]]
        assert match == min(matches, default=np.inf)
        assert other == min(others, default=np.inf)


def test_cmc_agrees_with_a_naive_loop(rows: Rows) -> None:
    first = retrieval(rows)[:, 0]
    counted = [rank for rank in first if not np.isnan(rank)]
    expected = [sum(rank <= k for rank in counted) / len(counted) for k in range(1, 11)]
    np.testing.assert_allclose(cmc(first, 10), expected)


def test_a_probe_without_a_match_is_not_a_number_and_never_a_hit() -> None:
    nobody = random_rows(1, levels=1000)
    nobody = Rows(nobody.distances, np.zeros_like(nobody.same), nobody.dropped)
    assert np.isnan(retrieval(nobody)).all()
    assert (first_match_ranks(nobody) == NEVER).all()
    assert np.isnan(cmc(retrieval(nobody)[:, 0], 5)).all()


def test_an_empty_gallery_has_no_match() -> None:
    empty = np.zeros((2, 0))
    rows = Rows(empty, empty.astype(bool), empty.astype(bool))
    assert (first_match_ranks(rows) == NEVER).all()
    assert np.isnan(retrieval(rows)).all()
    assert np.isinf(nearest_match_and_other(rows)).all()


def test_of_equally_near_sequences_the_first_in_the_data_set_is_nearest() -> None:
    same = np.array([[False, True, False, True]])
    rows = Rows(np.ones((1, 4)), same, np.zeros_like(same))
    assert first_match_ranks(rows).tolist() == [2]
    assert nearest(rows, 3).tolist() == [[0, 1, 2]]
