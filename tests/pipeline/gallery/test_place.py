from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from gait.tracklet import Box, Tracklet
from pipeline.gallery.place import Place, log_odds, places

HEIGHT = 100.0


def at(x: float, speed: float = 0.0, y: float = 0.0) -> Place:
    return Place(0.0, x, y, HEIGHT, (speed, 0.0))


def box(x: float) -> Box:
    return x - 20, 0.0, x + 20, HEIGHT


def test_who_goes_on_as_he_went_is_found_where_he_is_expected() -> None:
    left = at(0.0, speed=50.0)
    expected, stopped, turned = (
        log_odds(left, came, 3.0) for came in (at(150.0, 50.0), at(0.0), at(-150.0, -50.0))
    )
    assert expected > 2
    assert expected > stopped > turned
    assert turned < -0.5


def test_places_are_compared_in_heights_of_the_person() -> None:
    near = Place(0.0, 0.0, 0.0, 200.0, (0.0, 0.0)), Place(0.0, 300.0, 0.0, 200.0, (0.0, 0.0))
    assert log_odds(*near, 2.0) == pytest.approx(log_odds(at(0.0), at(150.0), 2.0))


def test_the_longer_nobody_was_seen_the_less_the_place_says() -> None:
    here, there = at(0.0), at(800.0)
    for came in (here, there):
        said = [abs(log_odds(at(0.0), came, gap_s)) for gap_s in (1.0, 4.0, 16.0, 120.0)]
        assert said == sorted(said, reverse=True)
        assert said[-1] < 0.01


def test_who_was_there_at_the_same_time_is_no_matter_of_place() -> None:
    assert log_odds(at(0.0), at(0.0), -0.1) == 0.0


def test_a_tracklet_tells_where_the_feet_were_and_how_they_went(
    tracklet: Callable[..., Tracklet],
) -> None:
    found = places(tracklet(start_s=2.0, num=30, boxes=(box(100.0), box(158.0))))
    assert found is not None
    came, left = found
    assert (came.x, came.y, came.height, came.time_s) == (100.0, HEIGHT, HEIGHT, 2.0)
    assert (left.x, left.time_s) == (158.0, 4.9)
    assert left.speed == pytest.approx((20.0, 0.0))


def test_of_a_moment_no_speed_is_taken(tracklet: Callable[..., Tracklet]) -> None:
    found = places(tracklet(num=2, boxes=(box(100.0), box(110.0))))
    assert found is not None
    assert found[0].speed == (0.0, 0.0)


@pytest.mark.parametrize("gap_s", [0.0, 1e300, float("inf"), float("nan")])
def test_whatever_a_stranger_sends_the_answer_is_a_number(
    tracklet: Callable[..., Tracklet], gap_s: float
) -> None:
    point, far = (5.0, 5.0, 5.0, 5.0), (-1e6, -1e6, 1e6, 1e6)
    found = places(tracklet(boxes=(point, far)))
    assert found is not None
    assert all(math.isfinite(log_odds(one, other, gap_s)) for one in found for other in found)
    assert places(tracklet(boxes=(point, (0.0, 0.0, 1e300, 1e300)))) is None


def test_where_nobody_knows_there_are_no_places(tracklet: Callable[..., Tracklet]) -> None:
    assert places(tracklet()) is None
    assert places(tracklet(num=0)) is None
