import math
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.latency import BOUNDS_S, Latencies

SECONDS = st.floats(min_value=1.1e-4, max_value=990.0)


class Hand:
    """A clock that a test sets."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


def filled(values, **choices):
    latencies = Latencies(**choices)
    for value in values:
        latencies.observe("stage", value)
    return latencies


@given(st.lists(SECONDS, min_size=1, max_size=200), st.sampled_from([1, 50, 95, 99, 100]))
def test_percentiles_are_within_5_percent_of_the_exact_ones(values, percent):
    exact = np.percentile(values, percent, method="inverted_cdf")
    assert filled(values).histogram("stage").percentile(percent) == pytest.approx(exact, rel=0.025)


def test_percentiles_of_many_are_those_of_numpy():
    values = np.random.default_rng(0).lognormal(-2, 0.8, 20_000)
    found = filled(values.tolist()).percentiles("stage")
    assert found == pytest.approx(np.percentile(values, [50, 95, 99]), rel=0.05)


def test_nothing_has_no_percentiles():
    assert all(math.isnan(p) for p in Latencies().percentiles("never"))
    assert Latencies().histogram("never").count == 0


def test_the_window_forgets_and_the_total_does_not():
    clock = Hand()
    latencies = filled([1.0] * 10, clock=clock)
    clock.now_s += 54
    latencies.observe("stage", 2.0)
    assert latencies.recent("stage").count == 11
    clock.now_s += 10
    assert latencies.recent("stage").count == 1
    assert latencies.percentiles("stage").p50_s == pytest.approx(2.0, rel=0.025)
    clock.now_s += 100
    assert latencies.recent("stage").count == 0
    assert latencies.histogram("stage").count == 11


def test_memory_does_not_grow_with_time():
    clock = Hand()
    latencies = Latencies(clock=clock)
    for _ in range(1000):
        clock.now_s += 5
        latencies.observe("stage", 0.1)
    assert len(latencies._stages["stage"]._slots) <= 12
    assert latencies.recent("stage").count == 12


@given(st.lists(SECONDS, max_size=50), st.lists(SECONDS, max_size=50))
def test_the_sum_of_two_histograms_is_that_of_all(ours, theirs):
    both = filled(ours).histogram("stage") + filled(theirs).histogram("stage")
    whole = filled(ours + theirs).histogram("stage")
    np.testing.assert_array_equal(both.counts, whole.counts)
    assert both.sum_s == pytest.approx(whole.sum_s)
    assert both.max_s == whole.max_s


def test_prometheus_gets_growing_counts_up_to_exact_bounds():
    values = [0.00001, 0.001, 0.0011, 0.1, 5000.0]
    buckets = filled(values).histogram("stage").cumulative()
    for bound, count in buckets:
        assert count == sum(value <= bound for value in values)
    assert [b for b, _ in buckets if b in (0.001, 0.1, 1.0, 1000.0)] == [0.001, 0.1, 1.0, 1000.0]
    assert buckets[-1] == (math.inf, 5)
    assert len(buckets) == 23


def test_what_lies_outside_the_bounds_is_counted():
    histogram = filled([-3.0, 0.0, 2000.0]).histogram("stage")
    assert histogram.count == 3
    assert histogram.percentile(1) <= BOUNDS_S[0]
    assert histogram.percentile(100) == 2000.0


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_what_is_no_time_is_refused(wrong):
    with pytest.raises(ValueError, match="stage: expected seconds"):
        Latencies().observe("stage", wrong)


def test_a_name_for_every_frame_is_refused_before_memory_is_full():
    latencies = Latencies()
    for index in range(1024):
        latencies.observe(f"frame {index}", 0.1)
    with pytest.raises(ValueError, match="at most 1024 names"):
        latencies.observe("one more", 0.1)
    latencies.forget("frame 0")
    latencies.observe("another", 0.1)


def test_threads_lose_no_observation():
    latencies = Latencies()

    def work():
        for _ in range(2000):
            latencies.observe("stage", 0.01)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert latencies.histogram("stage").count == 8000


def test_a_block_is_timed_also_when_it_fails():
    latencies = Latencies()

    def work():
        with latencies.timed("block"):
            time.sleep(0.02)
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        work()
    assert 0.02 <= latencies.histogram("block").max_s < 20
