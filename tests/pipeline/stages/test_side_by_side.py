"""Things done on several cores at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.errors import ModelError
from pipeline.stages.detect import YoloConfig
from pipeline.stages.side_by_side import SideBySide
from pipeline.values import Frame
from tests.threads import no_thread_left


@pytest.mark.parametrize("threads", [1, 3])
def test_what_comes_is_in_the_order_of_the_things(threads: int) -> None:
    with SideBySide(threads, "test") as calls:
        assert calls.map(lambda n: n * n, range(20)) == [n * n for n in range(20)]
        assert calls.map(lambda n: n * n, []) == []


def test_several_things_are_done_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=30)
    with SideBySide(2, "test") as calls:
        calls.map(lambda _: both.wait(), range(2))  # each waits for the other


@pytest.mark.parametrize("threads", [1, 3])
def test_what_one_raises_is_raised_and_the_next_call_is_none_the_worse(threads: int) -> None:
    def fail(number: int) -> int:
        if number == 4:
            raise ModelError("the fourth")
        return number

    with SideBySide(threads, "test") as calls:
        with pytest.raises(ModelError, match="the fourth"):
            calls.map(fail, range(9))
        assert calls.map(fail, range(3)) == [0, 1, 2]


def test_its_threads_end_with_it() -> None:
    with no_thread_left():
        before = set(threading.enumerate())
        with SideBySide(3, "test") as calls:
            calls.map(lambda n: n, range(9))
            assert set(threading.enumerate()) - before


def test_more_threads_find_the_same_people(street: Sequence[Frame]) -> None:
    alone, together = YoloConfig().build(), YoloConfig(threads=3).build()
    try:
        for one, other in zip(alone.detect(street), together.detect(street), strict=True):
            assert len(one) > 0
            np.testing.assert_array_equal(one.xyxy, other.xyxy)
            np.testing.assert_array_equal(one.confidence, other.confidence)
    finally:
        alone.close()
        together.close()
