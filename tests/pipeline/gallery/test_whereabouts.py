from __future__ import annotations

import numpy as np
import pytest

from pipeline.gallery.whereabouts import Presence, Way, Whereabouts, WhereaboutsConfig


def seen(stream: str, start_s: float, end_s: float, origin_s: float | None = 0.0) -> Presence:
    return Presence(stream, start_s, end_s, origin_s)


def learnt(config: WhereaboutsConfig | None = None) -> Whereabouts:
    """Return what was learnt of people who need 20 s from a to b, and of others."""
    whereabouts = Whereabouts(config or WhereaboutsConfig())
    for _ in range(60):
        ways = {1: Way("a", "b", 6), 2: Way("b", "b", 2), 3: Way("a", "b", 9)}
        whereabouts.learn(ways, {1: 9.0})
    return whereabouts


def test_nobody_is_in_two_places_at_once() -> None:
    whereabouts = Whereabouts(WhereaboutsConfig())
    way = whereabouts.way(seen("yard", 10, 20), [seen("door", 5, 15)])
    assert whereabouts.rules_out(way)


def test_a_clock_that_is_a_little_wrong_rules_nobody_out() -> None:
    whereabouts = Whereabouts(WhereaboutsConfig(clock_error_s=1.0))
    way = whereabouts.way(seen("yard", 10, 20), [seen("door", 5, 10.9)])
    assert not whereabouts.rules_out(way)


def test_without_a_common_clock_nothing_is_said_across_cameras() -> None:
    whereabouts = Whereabouts(WhereaboutsConfig())
    assert whereabouts.way(seen("yard", 10, 20, None), [seen("door", 5, 15, None)]) is None
    assert whereabouts.way(seen("yard", 10, 20, None), [seen("yard", 5, 8, None)]) is not None


def test_clocks_are_compared_and_not_what_they_read() -> None:
    whereabouts = Whereabouts(WhereaboutsConfig())
    way = whereabouts.way(seen("yard", 10, 20, 1000.0), [seen("door", 5, 15, 2000.0)])
    assert way is None  # it was later


def test_cameras_that_are_said_to_overlap_rule_nobody_out() -> None:
    config = WhereaboutsConfig(overlapping=[["yard", "door"]])
    whereabouts = Whereabouts(config)
    way = whereabouts.way(seen("yard", 10, 20), [seen("door", 5, 15)])
    assert not whereabouts.rules_out(way)
    assert whereabouts.rules_out(whereabouts.way(seen("hall", 10, 20), [seen("door", 5, 15)]))


TOGETHER = Way("a", "b", 0)


def test_cameras_that_overlap_are_found_out() -> None:
    whereabouts = Whereabouts(WhereaboutsConfig())
    assert whereabouts.rules_out(TOGETHER)
    for _ in range(10):
        whereabouts.learn({1: TOGETHER, 2: Way("a", "b", 5), 3: TOGETHER}, {1: 6.0, 2: 0.3})
    assert not whereabouts.rules_out(TOGETHER)
    assert not whereabouts.rules_out(Way("b", "a", 0)), "whichever of the two comes first"
    assert whereabouts.rules_out(Way("c", "b", 0))


def test_strangers_who_look_a_little_alike_do_not_make_cameras_overlap_in_the_long_run() -> None:
    whereabouts = Whereabouts(WhereaboutsConfig())
    rng = np.random.default_rng(0)
    for _ in range(3000):  # the person came from elsewhere; everybody else is a stranger
        odds = dict(enumerate(rng.lognormal(-1.5, 1.0, 9).tolist())) | {9: 4.0}
        ways = {who: TOGETHER for who in range(4)} | {who: Way("a", "b", 5) for who in range(4, 10)}
        whereabouts.learn(ways, odds)
        assert whereabouts.rules_out(TOGETHER)


def test_a_camera_that_is_turned_is_found_out_though_it_overlapped_for_years() -> None:
    whereabouts = Whereabouts(WhereaboutsConfig())
    ways = {1: TOGETHER, 2: Way("a", "b", 5)}
    for odds, turns in (({1: 6.0}, False), ({2: 6.0}, True)):
        for _ in range(1000):
            whereabouts.learn(ways, odds)
        assert whereabouts.rules_out(TOGETHER) is turns
        for _ in range(60):
            whereabouts.learn(ways, {2: 6.0} if not turns else {1: 6.0})
        assert whereabouts.rules_out(TOGETHER) is not turns


def test_who_cannot_be_it_has_no_share_in_what_is_learnt() -> None:
    learnt_with, without = (Whereabouts(WhereaboutsConfig()) for _ in range(2))
    usual, odd = Way("a", "b", 5), Way("b", "b", 8)
    for _ in range(30):
        learnt_with.learn({1: usual, 2: odd, 3: TOGETHER}, {1: 3.0, 2: 0.1, 3: 0.5})
        without.learn({1: usual, 2: odd}, {1: 3.0, 2: 0.1})
    assert learnt_with.log_odds(usual) == without.log_odds(usual) > 0


def test_many_strangers_alone_say_nothing() -> None:
    whereabouts = Whereabouts(WhereaboutsConfig())
    for _ in range(500):
        whereabouts.learn({1: Way("a", "b", 5), 2: Way("a", "b", 5), 3: Way("b", "b", 2)}, {})
    assert whereabouts.log_odds(Way("a", "b", 5)) == pytest.approx(0, abs=0.01)


def test_ways_say_nothing_before_anything_is_learnt() -> None:
    assert Whereabouts(WhereaboutsConfig()).log_odds(Way("a", "b", 4)) == 0.0
    assert Whereabouts(WhereaboutsConfig()).log_odds(None) == 0.0


def test_usual_ways_speak_for_a_person_and_unusual_ones_against() -> None:
    whereabouts = learnt()
    assert whereabouts.log_odds(Way("a", "b", 6)) > 0.5
    assert whereabouts.log_odds(Way("a", "b", 9)) < -0.5
    assert whereabouts.log_odds(Way("b", "b", 2)) < -0.5


def test_ways_say_no_more_than_they_may() -> None:
    whereabouts = learnt(WhereaboutsConfig(most_odds=0.25))
    assert whereabouts.log_odds(Way("a", "b", 6)) == 0.25
    assert learnt(WhereaboutsConfig(most_odds=0)).log_odds(Way("a", "b", 6)) == 0.0


def test_new_habits_are_learnt_although_there_were_others_for_years() -> None:
    whereabouts = Whereabouts(WhereaboutsConfig())
    for step in (3, 8):
        for _ in range(5000):
            whereabouts.learn({1: Way("a", "b", step), 2: Way("a", "b", 11 - step)}, {1: 9.0})
    assert whereabouts.log_odds(Way("a", "b", 8)) > 0
    assert whereabouts.log_odds(Way("a", "b", 3)) < 0


@pytest.mark.parametrize(("gap_s", "step"), [(0.0, 1), (0.9, 1), (1.5, 2), (20.0, 6), (1e6, 10)])
def test_times_are_counted_in_steps_of_two(gap_s: float, step: int) -> None:
    way = Whereabouts(WhereaboutsConfig()).way(seen("b", 100 + gap_s, 2e6), [seen("a", 90, 100)])
    assert way == Way("a", "b", step)
