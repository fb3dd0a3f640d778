from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.gallery.decision import DecisionConfig, Evidence, Heard, Hysteresis
from pipeline.gallery.neighbours import Neighbour

CONFIG = DecisionConfig(windows=3, scale=0.1, switch_margin=0.1, switch_windows=2)
EMBEDDING = np.zeros((256, 16), np.float32)


def heard(uid: str, quality: float = 1.0, **distances: float) -> Heard:
    """Return a window that found people "p1", "p2", ... at these distances."""
    near = [Neighbour(0, int(name[1:]), d) for name, d in distances.items()]
    return Heard.of(uid, quality, EMBEDDING, near)


def evidence(*windows: Heard) -> Evidence:
    gathered = Evidence(CONFIG)
    for window in windows:
        gathered = gathered.after(window, continues=False)
    return gathered


def test_one_window_gives_its_own_distances_nearest_first() -> None:
    ranked = evidence(heard("a", p1=1.5, p2=1.2)).ranked(set())
    assert [person for person, _ in ranked] == [2, 1]
    assert ranked[0][1] == pytest.approx(1.2)


def test_who_is_ruled_out_is_not_ranked() -> None:
    assert [p for p, _ in evidence(heard("a", p1=1.5, p2=1.2)).ranked({2})] == [1]


@given(st.lists(st.floats(0, 3), min_size=1, max_size=3))
def test_a_fused_distance_lies_between_the_nearest_and_the_mean(distances: list[float]) -> None:
    [(_, fused)] = evidence(*(heard(str(n), p1=d) for n, d in enumerate(distances))).ranked(set())
    assert min(distances) - 1e-9 <= fused <= np.mean(distances) + 1e-9


def test_a_poor_window_counts_less() -> None:
    def fused(quality: float) -> float:
        return evidence(heard("a", 1.0, p1=1.5), heard("b", quality, p1=1.0)).ranked(set())[0][1]

    assert fused(0.1) > fused(0.9)


def test_only_the_last_windows_have_a_say() -> None:
    windows = [heard("old", p1=0.0), *(heard(str(n), p1=1.0) for n in range(3))]
    [(person, distance)] = evidence(*windows).ranked(set())
    assert person == 1
    assert distance == pytest.approx(1.0)


def test_a_walk_that_grows_has_one_say_and_so_has_a_window_that_comes_twice() -> None:
    one = evidence(heard("a", p1=1.0))
    assert len(one.after(heard("b", p1=0.5), continues=True).windows) == 1
    assert len(one.after(heard("a", p1=1.0), continues=False).windows) == 1


def test_somebody_too_far_to_be_remembered_counts_as_far_as_the_last() -> None:
    ranked = dict(evidence(heard("a", p1=1.0, p2=1.2), heard("b", p1=1.0, p3=1.6)).ranked(set()))
    assert 1.2 < ranked[2] < 1.6


def shown(*rankings: list[tuple[int, float]], start: int | None = 1) -> list[int | None]:
    hysteresis = Hysteresis(CONFIG)
    answers, now = [], start
    for ranked in rankings:
        now = hysteresis.challenger(now, ranked, 1.3)
        answers.append(now)
    return answers


def test_a_person_is_shown_as_soon_as_they_are_near_enough() -> None:
    assert shown([(2, 1.3)], start=None) == [2]
    assert shown([(2, 1.31)], [], start=None) == [None, None]


def test_somebody_nearer_must_insist() -> None:
    assert shown([(2, 1.0), (1, 1.2)], [(2, 1.0), (1, 1.2)]) == [1, 2]


def test_a_small_lead_changes_nothing() -> None:
    assert shown(*[[(2, 1.0), (1, 1.05)]] * 5) == [1] * 5


def test_leads_that_alternate_change_nothing() -> None:
    two, three = [(2, 1.0), (1, 1.2), (3, 1.25)], [(3, 1.0), (1, 1.2), (2, 1.25)]
    assert shown(two, three, two, three) == [1] * 4
    assert shown(two, [(1, 1.0)], two, [(1, 1.0)]) == [1] * 4


def test_a_person_nobody_else_knows_gives_way_only_well_within_the_threshold() -> None:
    assert shown(*[[(2, 1.25)]] * 3) == [1] * 3
    assert shown(*[[(2, 1.1)]] * 3) == [1, 2, 2]


def test_a_person_stays_a_little_beyond_the_threshold_and_goes_when_far_beyond() -> None:
    assert shown(*[[(1, 1.35)]] * 3) == [1] * 3
    assert shown(*[[(1, 1.5)]] * 3) == [1, None, None]
