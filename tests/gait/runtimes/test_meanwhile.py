"""One runtime serves while another is built."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gait.errors import RuntimeUnavailable
from gait.runtimes.meanwhile import Meanwhile, OnStep
from gait.runtimes.runtime import Precision, RuntimeName

ONE = np.zeros((1, 2, 64, 44), np.float32)


class Steady:
    """Answers with one number."""

    name: RuntimeName = "torch"
    precision: Precision = "float32"
    takes_padding = False

    def __init__(self, answer: float, takes_s: float = 0.0) -> None:
        self.answer = answer
        self.takes_s = takes_s
        self.description = f"steady {answer}"
        self.is_closed = False

    def run(
        self, silhouettes_NTHW: NDArray[Any], lengths_N: NDArray[np.int64] | None
    ) -> NDArray[np.float32]:
        assert not self.is_closed
        time.sleep(self.takes_s)
        return np.full((len(silhouettes_NTHW), 256, 16), self.answer, np.float32)

    def close(self) -> None:
        self.is_closed = True


def test_the_first_answers_until_the_other_is_built(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gait.runtimes")
    may_end = threading.Event()
    first, better = Steady(1), Steady(2)

    def build(_: OnStep) -> Steady:
        may_end.wait()
        return better

    runtime = Meanwhile(first, build)
    assert runtime.run(ONE, None).max() == 1
    assert runtime.description == "steady 1 while a faster one is built"
    may_end.set()
    assert runtime.wait(60)
    assert runtime.run(ONE, None).max() == 2
    assert runtime.description == "steady 2"
    assert first.is_closed
    assert "from now on steady 2" in caplog.text
    runtime.close()
    assert better.is_closed


def test_a_build_begins_only_when_as_much_has_been_computed() -> None:
    built = threading.Event()

    def build(_: OnStep) -> Steady:
        built.set()
        return Steady(2)

    runtime = Meanwhile(Steady(1, takes_s=0.02), build, after_s=0.3)
    runtime.run(ONE, None)
    assert not built.wait(0.1)
    for _ in range(15):
        runtime.run(ONE, None)
    assert built.wait(60)
    runtime.close()


def test_a_build_that_fails_leaves_things_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    def build(_: OnStep) -> Steady:
        raise RuntimeUnavailable("no such operator")

    runtime = Meanwhile(Steady(1), build)
    assert runtime.wait(60)
    assert runtime.run(ONE, None).max() == 1
    assert "steady 1 keeps serving (no such operator)" in caplog.text
    runtime.close()


def test_a_mistake_of_ours_in_the_thread_is_raised_from_the_next_call() -> None:
    def build(_: OnStep) -> Steady:
        raise ZeroDivisionError("a mistake")

    runtime = Meanwhile(Steady(1), build)
    assert runtime.wait(60)
    with pytest.raises(ZeroDivisionError, match="a mistake"):
        runtime.run(ONE, None)
    runtime.close()


def test_closing_stops_a_build_at_its_next_step() -> None:
    steps = []

    def build(on_step: OnStep) -> Steady:
        while True:
            on_step()
            steps.append(time.monotonic())
            time.sleep(0.01)

    first = Steady(1)
    runtime = Meanwhile(first, build)
    start = time.monotonic()
    runtime.close()
    assert time.monotonic() - start < 30  # a moment where nobody else wants the processor
    assert runtime.wait(0)
    assert first.is_closed


def test_what_is_ready_after_closing_is_closed_too() -> None:
    may_end, late = threading.Event(), Steady(2)

    def build(_: OnStep) -> Steady:
        may_end.wait()
        return late

    runtime = Meanwhile(Steady(1), build)
    threading.Timer(0.05, may_end.set).start()
    runtime.close()
    assert late.is_closed
