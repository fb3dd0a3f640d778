from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.clock import FrameClock

MS = Fraction(1, 1000)


def times(pts: list[int | None], origin_pts: int | None = None) -> tuple[list[float], int]:
    clock = FrameClock(MS, 25.0, Counter(), origin_pts)
    return [clock.tick(p) for p in pts], clock.segment


def test_rising_timestamps_are_believed() -> None:
    assert times([7, 47, 1000]) == ([0.0, 0.04, 0.993], 0)


def test_a_duplicate_moves_half_a_frame_on_and_the_next_is_right_again() -> None:
    assert times([0, 40, 40, 80]) == ([0.0, 0.04, 0.06, 0.08], 0)


def test_a_missing_timestamp_falls_one_period_after_the_last() -> None:
    assert times([0, None, 80]) == ([0.0, 0.04, 0.08], 0)


def test_timestamps_that_begin_late_continue_the_count() -> None:
    np.testing.assert_allclose(times([None, None, 500, 540])[0], [0, 0.04, 0.08, 0.12], atol=1e-12)


def test_a_clock_that_starts_again_continues_in_a_new_segment() -> None:
    seconds, segment = times([0, 4000, 0, 40])
    np.testing.assert_allclose(seconds, [0, 4.0, 4.04, 4.08], atol=1e-12)
    assert segment == 1


def test_departures_are_counted_in_words() -> None:
    oddities: Counter[str] = Counter()
    clock = FrameClock(MS, 25.0, oddities)
    for pts in (0, 0, None, 3):
        clock.tick(pts)
    assert sum(oddities.values()) == 3


@given(st.lists(st.none() | st.integers(-(10**7), 10**7), max_size=40))
def test_time_always_rises_from_zero(pts: list[int | None]) -> None:
    seconds, _ = times(pts)
    assert seconds[:1] in ([], [0.0])
    assert np.all(np.diff(seconds) > 0)
