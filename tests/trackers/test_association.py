"""Overlap against a loop, assignment against every possible one."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from trackers.association import (
    UNMATCHED,
    Matching,
    Pairs,
    assign,
    expand,
    iou_matrix,
    overlapping,
)

Floats = NDArray[np.float64]


def naive_iou(a: Floats, b: Floats) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def corners_to_boxes(corners: Floats) -> Floats:
    return np.concatenate(
        [np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])],
        axis=1,
    )


some_boxes = st.integers(0, 5).flatmap(
    lambda n: arrays(np.float64, (n, 4), elements=st.integers(0, 20).map(float))
)


@given(some_boxes, some_boxes)
def test_overlap_equals_the_naive_loop(first: Floats, second: Floats) -> None:
    first, second = corners_to_boxes(first), corners_to_boxes(second)
    expected = np.array([[naive_iou(a, b) for b in second] for a in first])
    expected = expected.reshape(len(first), len(second))
    np.testing.assert_allclose(iou_matrix(first, second), expected, atol=1e-12)


@given(some_boxes, some_boxes)
def test_the_pairs_that_overlap_are_those_of_the_naive_loop(first: Floats, second: Floats) -> None:
    first, second = corners_to_boxes(first), corners_to_boxes(second)
    expected = {
        (i, j): naive_iou(a, b)
        for i, a in enumerate(first)
        for j, b in enumerate(second)
        if naive_iou(a, b) > 0
    }
    pairs = overlapping(first, second)
    found = zip(pairs.rows.tolist(), pairs.columns.tolist(), strict=True)
    assert dict(zip(found, pairs.overlap.tolist(), strict=True)) == pytest.approx(expected)


def best_gain(similarity: Floats, above: float) -> float:
    """Try every one-to-one assignment, with every pair left out that is not allowed."""
    gain = np.maximum(similarity - above, 0.0)
    if gain.shape[0] > gain.shape[1]:
        gain = gain.T
    n, m = gain.shape
    return max(float(sum(gain[i, p[i]] for i in range(n))) for p in permutations(range(m), n))


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.integers(0, 10).map(lambda i: i / 10))
    ),
    st.sampled_from([0.0, 0.25, 0.5]),
)
def test_the_assignment_is_the_best_of_all_and_never_uses_a_forbidden_pair(
    similarity: Floats, above: float
) -> None:
    rows, columns = assign(similarity, above)
    assert len(set(rows.tolist())) == len(rows)
    assert len(set(columns.tolist())) == len(columns)
    assert (similarity[rows, columns] > above).all()
    gain = (similarity[rows, columns] - above).sum()
    assert gain == pytest.approx(best_gain(similarity, above), abs=1e-9)


def test_a_forbidden_pair_cannot_buy_a_worse_pair_elsewhere() -> None:
    # With a huge cost for forbidden pairs both rows would be matched, at 0.3 and 0.3.
    similarity = np.array([[0.9, 0.3], [0.3, 0.0]])
    rows, columns = assign(similarity, above=0.2)
    assert (rows.tolist(), columns.tolist()) == ([0], [0])


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nobody_is_assigned_to_nobody(shape: tuple[int, int]) -> None:
    rows, columns = assign(np.empty(shape), 0.1)
    assert len(rows) == len(columns) == 0


def test_boxes_are_widened_by_their_own_size() -> None:
    boxes = np.array([[10.0, 20.0, 20.0, 40.0], [0.0, 0.0, 2.0, 2.0]])
    wide = np.array([[8.0, 16.0, 22.0, 44.0], [-0.4, -0.4, 2.4, 2.4]])
    np.testing.assert_allclose(expand(boxes, 0.2), wide)
    np.testing.assert_allclose(expand(boxes, np.array([0.2, 0.0]))[1], boxes[1])


def test_a_crowd_is_assigned_as_the_solver_alone_would() -> None:
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(0)
    for people in (3, 30, 100):
        left = rng.uniform(0, 40 * people**0.5, (people, 2))
        boxes = np.concatenate([left, left + np.array([40, 100])], axis=1)
        gain = np.maximum(iou_matrix(boxes, boxes + rng.normal(0, 8, boxes.shape)) - 0.1, 0)
        rows, columns = assign(gain + 0.1, above=0.1)
        expected = gain[linear_sum_assignment(gain, maximize=True)].sum()
        assert gain[rows, columns].sum() == pytest.approx(expected)


def test_who_is_matched_in_one_stage_is_left_alone_by_the_next() -> None:
    matching = Matching(3, 3)
    pairs = Pairs(np.array([0, 1, 1, 2]), np.array([0, 0, 1, 2]), np.array([0.6, 0.9, 0.5, 0.3]))
    everybody = np.ones(3, dtype=np.bool_)
    only_first = np.array([True, False, False])
    matching.stage(pairs, pairs.overlap, 0.4, everybody, only_first)
    assert matching.detection_of.tolist() == [UNMATCHED, 0, UNMATCHED]
    matching.stage(pairs, pairs.overlap, 0.4, everybody, everybody)
    assert matching.detection_of.tolist() == [UNMATCHED, 0, UNMATCHED]
    matching.stage(pairs, pairs.overlap, 0.2, everybody, everybody)
    assert matching.detection_of.tolist() == [UNMATCHED, 0, 2]
    assert matching.is_taken.tolist() == [True, False, True]
