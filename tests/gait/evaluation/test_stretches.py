from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gait.evaluation.stretches import StretchConfig, changes, stretches

CONFIG = StretchConfig(span_s=1.0, most_change=0.05, margin_s=0.5)


def worn(*people: tuple[int, int], noise: float = 0.02, seed: int = 0) -> NDArray[np.float32]:
    """Colours of (person, frames) one after the other."""
    rng = np.random.default_rng(seed)
    clothes = np.abs(np.random.default_rng(9).normal(size=(8, 30)))
    rows = [clothes[person] for person, count in people for _ in range(count)]
    return (np.array(rows) + rng.normal(scale=noise, size=(len(rows), 30))).astype(np.float32)


def at_10_fps(count: int) -> NDArray[np.float64]:
    return np.arange(count) / 10


def test_a_track_of_one_person_is_one_stretch() -> None:
    assert stretches(worn((0, 60)), at_10_fps(60), CONFIG) == [(0.0, 5.9)]


def test_a_track_is_cut_where_it_goes_over_to_another_person() -> None:
    found = stretches(worn((0, 40), (1, 50), (0, 30)), at_10_fps(120), CONFIG)
    assert found == [
        (0.0, pytest.approx(3.9 - 0.5)),
        (pytest.approx(4.0 + 0.5), pytest.approx(8.9 - 0.5)),
        (pytest.approx(9.0 + 0.5), 11.9),
    ]


def test_a_higher_limit_cuts_less() -> None:
    colours, times = worn((0, 40), (1, 40)), at_10_fps(80)
    change = changes(colours, times, 1.0).max()
    assert len(stretches(colours, times, StretchConfig(most_change=change * 0.9))) == 2
    assert len(stretches(colours, times, StretchConfig(most_change=change * 1.1))) == 1


def test_people_who_change_while_the_track_is_lost_are_told_apart() -> None:
    times = np.concatenate([at_10_fps(30), 60 + at_10_fps(30)])
    assert len(stretches(worn((0, 30), (1, 30)), times, CONFIG)) == 2


def test_a_change_is_1_minus_the_cosine_of_the_mean_colours() -> None:
    colours, times = worn((0, 12), (1, 14), noise=0.3), at_10_fps(26)
    change = changes(colours, times, span_s=0.5)
    for at in range(26):
        if at < 5 or at > 21:
            assert change[at] == 0
            continue
        before, after = colours[at - 5 : at].mean(0), colours[at : at + 5].mean(0)
        cosine = before @ after / np.sqrt((before @ before) * (after @ after))
        assert change[at] == pytest.approx(1 - cosine, abs=1e-6)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_tracks_of_a_few_frames_have_at_most_one_stretch(count: int) -> None:
    assert len(stretches(worn((0, 3))[:count], at_10_fps(count), CONFIG)) <= 1
