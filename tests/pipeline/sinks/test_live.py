"""A sink that hangs, fails or refuses costs its own events and nobody's time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import pytest

from pipeline.errors import OutputError
from pipeline.sinks.live import (
    Event,
    EventsRefusedError,
    SinkRunner,
    TryLaterError,
    camera_event,
    close_together,
    is_loopback,
    sighting_event,
)
from pipeline.sources.camera_state import CameraState, Change
from pipeline.values import Sighting
from tests.threads import no_thread_left


def event(number: int = 0) -> Event:
    return Event("overload", 1.0e9 + number, {"number": number})


def until(is_so: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline_s, "it never came to be"
        time.sleep(0.005)


class Recorded:
    """Keeps what it is given; does first what the test wants."""

    def __init__(self, first: Callable[[Sequence[Event]], None] = lambda events: None) -> None:
        self.first = first
        self.numbers: list[object] = []
        self.closed = threading.Event()

    def write(self, events: Sequence[Event]) -> None:
        self.first(events)
        self.numbers += [each.content["number"] for each in events]

    def close(self) -> None:
        self.closed.set()


def test_events_are_written_in_order_and_all_are_counted() -> None:
    sink = Recorded()
    with SinkRunner(sink, "test") as runner:
        for number in range(500):
            runner.put(event(number))
    assert sink.numbers == list(range(500))
    assert sink.closed.is_set()
    assert (runner.counts.put, runner.counts.written, runner.counts.waiting) == (500, 500, 0)


def test_a_sink_that_hangs_delays_nobody_and_holds_a_bounded_number_of_events() -> None:
    hang = threading.Event()
    runner = SinkRunner(Recorded(lambda events: hang.wait(30) and None), "test", capacity=50)
    longest_s = 0.0
    for number in range(5000):
        began_s = time.monotonic()
        runner.put(event(number))
        longest_s = max(longest_s, time.monotonic() - began_s)
    counts = runner.counts
    assert longest_s < 10  # the sink hangs for 30 s
    assert counts.waiting <= 50 + 100  # those that wait, and the batch in its hands
    assert counts.dropped == 5000 - counts.waiting
    began_s = time.monotonic()
    runner.close(within_s=0.2)
    assert time.monotonic() - began_s < 10
    assert runner.counts.waiting == counts.waiting
    hang.set()


def test_when_full_the_oldest_go_first() -> None:
    go = threading.Event()
    sink = Recorded(lambda events: go.wait(30) and None)
    runner = SinkRunner(sink, "test", capacity=3)
    runner.put(event(0))
    until(lambda: not runner._waiting)  # the first is in the sink's hands
    for number in range(1, 10):
        runner.put(event(number))
    go.set()
    runner.close()
    assert sink.numbers == [0, 7, 8, 9]
    assert runner.counts.dropped == 6


def test_what_failed_is_tried_again_in_order_and_says_why() -> None:
    tries: list[float] = []

    def first(events: Sequence[Event]) -> None:
        tries.append(time.monotonic())
        if len(tries) == 1:
            raise OutputError("the cable is out")

    sink = Recorded(first)
    runner = SinkRunner(sink, "test")
    runner.put(event(0))
    until(lambda: runner.counts.error == "the cable is out")
    runner.put(event(1))
    until(lambda: runner.counts.written == 2)
    assert sink.numbers == [0, 1]
    assert tries[1] - tries[0] >= 0.3
    assert runner.counts.error is None
    runner.close()


def test_a_refused_event_is_lost_alone() -> None:
    def first(events: Sequence[Event]) -> None:
        if any(each.content["number"] == 37 for each in events):
            raise EventsRefusedError("not this one")

    sink = Recorded(first)
    with SinkRunner(sink, "test") as runner:
        for number in range(64):
            runner.put(event(number))
    assert sink.numbers == [number for number in range(64) if number != 37]
    assert runner.counts.refused == 1


def test_a_sinks_bug_does_not_end_its_thread() -> None:
    def first(events: Sequence[Event]) -> None:
        if events[0].content["number"] == 0:
            raise KeyError("bug")

    sink = Recorded(first)
    with SinkRunner(sink, "test") as runner:
        runner.put(event(0))
        until(lambda: runner.counts.refused == 1)
        runner.put(event(1))
    assert sink.numbers == [1]


def test_closing_does_not_wait_for_a_retry_that_is_far_away() -> None:
    tries: list[int] = []

    def first(events: Sequence[Event]) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise TryLaterError("later", 200.0)

    sink = Recorded(first)
    runner = SinkRunner(sink, "test")
    runner.put(event(0))
    until(lambda: bool(tries))
    began_s = time.monotonic()
    runner.close(within_s=60.0)
    assert time.monotonic() - began_s < 30
    assert sink.numbers == [0]


def test_closing_a_dead_sink_says_what_was_not_written(caplog: pytest.LogCaptureFixture) -> None:
    def first(events: Sequence[Event]) -> None:
        raise OutputError("dead")

    runner = SinkRunner(Recorded(first), "test")
    for number in range(3):
        runner.put(event(number))
    runner.close(within_s=0.3)
    assert runner.counts.waiting == 3
    assert "3 events were not written within 0.3 s: dead" in caplog.text
    runner.put(event())  # too late, and harmless
    assert runner.counts.dropped == 1


def test_a_sink_that_hangs_takes_no_time_from_the_others_when_they_close() -> None:
    hang = threading.Event()
    hanging = SinkRunner(Recorded(lambda events: hang.wait(30) and None), "hanging")
    slow = Recorded(lambda events: time.sleep(0.3))
    runners = [hanging, SinkRunner(slow, "slow")]
    for runner in runners:
        runner.put(event())
    began_s = time.monotonic()
    close_together(runners, within_s=1.5)
    assert 1.4 < time.monotonic() - began_s < 20
    assert slow.numbers == [0]
    assert hanging.counts.waiting == 1
    hang.set()


def test_runners_leave_no_thread() -> None:
    with no_thread_left():
        for _ in range(20):
            with SinkRunner(Recorded(), "test") as runner:
                runner.put(event())


def test_only_the_wanted_kinds_are_passed_on() -> None:
    sink = Recorded()
    with SinkRunner(sink, "test", kinds=["sighting"]) as runner:
        runner.put(event())
    assert runner.counts.put == 0


def test_an_event_refuses_what_json_cannot_hold() -> None:
    with pytest.raises(ValueError, match="JSON"):
        Event("overload", 1.0, {"load": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        Event("overload", float("inf"), {})
    with pytest.raises(ValueError, match="expected one of"):
        Event("gossip", 1.0, {})  # type: ignore[arg-type]


def test_sightings_and_changes_become_events() -> None:
    sighting = Sighting(
        identity="person-001",
        stream="gate \udcff\n",
        track_id=7,
        start_s=1.0,
        end_s=2.0,
        distance=float("nan"),
        is_new=False,
        quality=0.5,
        num_silhouettes=30,
        tracklets=("a", "b"),
        reasons=(("blur", 2),),
    )
    found = sighting_event(sighting, 1.0e9, {"start_unix_s": 0.5e9})
    assert found.content["tracklets"] == ["a", "b"]
    assert found.content["reasons"] == {"blur": 2}
    assert found.content["distance"] is None
    assert found.content["start_unix_s"] == 0.5e9
    assert b"\n" not in found.as_bytes()
    assert found.as_bytes().decode("utf-8")
    change = Change("gate", CameraState.STALLED, CameraState.LIVE, "no packet for 4 s")
    assert camera_event(change, 1.0e9).content["state"] == "stalled"
    assert camera_event(change, 1.0e9).subject == "gate"
    assert event().subject == "all"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("[::1]", True), ("localhost", True), ("*", False), ("10.0.0.1", False)],
)
def test_loopback_is_told_from_what_others_can_reach(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
