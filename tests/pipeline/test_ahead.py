import threading
import time

import pytest

from pipeline.ahead import Ahead
from tests.threads import no_thread_left

LONG_S = 20.0  # for what takes a moment where nobody else wants the processor


def test_items_arrive_in_order_whatever_the_depth():
    for depth in (0, 1, 3):
        with Ahead(iter(range(50)), depth=depth) as numbers:
            assert list(numbers) == list(range(50))


def test_no_more_than_depth_items_are_computed_before_they_are_wanted():
    made = []

    def numbers():
        for n in range(100):
            made.append(n)
            yield n

    with Ahead(numbers(), depth=2) as ahead:
        first = next(iter(ahead))
        deadline = time.monotonic() + LONG_S
        while len(made) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert first == 0
        # one taken, two queued, one in the hands of the thread that waits to queue it
        assert len(made) == 4


def test_an_error_reaches_the_reader_after_what_came_before_it():
    def three_then_error():
        yield from range(3)
        raise RuntimeError("stage failed on item 3")

    def read(depth, seen):
        with Ahead(three_then_error(), depth=depth) as items:
            for item in items:
                seen.append(item)

    for depth in (0, 2):
        seen = []
        with pytest.raises(RuntimeError, match="item 3"):
            read(depth, seen)
        assert seen == [0, 1, 2]


def test_a_step_works_on_the_next_item_while_the_following_step_works_on_this_one():
    # While item n is in the second step, item n + 1 must be in the first: they meet at a barrier,
    # which one after another they never could.
    barrier = threading.Barrier(2, timeout=LONG_S)

    def first_step():
        for n in range(5):
            if n > 0:
                barrier.wait()
            yield n

    def second_step(numbers):
        for n in numbers:
            if n < 4:
                barrier.wait()
            yield n

    with (
        Ahead(first_step(), depth=1) as numbers,
        Ahead(second_step(numbers), depth=1) as again,
    ):
        assert list(again) == [0, 1, 2, 3, 4]


def test_leaving_early_stops_every_thread_and_closes_the_source():
    closed = threading.Event()

    def endless():
        try:
            n = 0
            while True:
                n += 1
                yield n
        finally:
            closed.set()

    start = time.monotonic()
    with (
        no_thread_left(),
        Ahead(endless(), depth=2) as numbers,
        Ahead((n * n for n in numbers), depth=2) as squares,
    ):
        for square in squares:
            if square > 100:
                break
    assert time.monotonic() - start < LONG_S
    assert closed.is_set()


def test_an_error_in_the_reader_stops_every_thread():
    def read():
        with Ahead(iter(int, 1), depth=2) as zeros, Ahead((z for z in zeros), depth=2) as again:
            for _ in again:
                raise RuntimeError("the reader fails")

    with no_thread_left(), pytest.raises(RuntimeError, match="reader"):
        read()
