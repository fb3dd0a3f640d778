from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from gait.tracklet import Tracklet
from pipeline.errors import LinkError
from pipeline.transport.local import Link, LocalLink

_WITHIN_S = 20.0  # a moment where nobody else wants the processor


def tracklet(track_id: int) -> Tracklet:
    return Tracklet(
        stream="door",
        track_id=track_id,
        silhouettes=np.zeros((0, 64, 44), dtype=np.uint8),
        frame_indices=np.zeros(0, dtype=np.int64),
        times_s=np.zeros(0),
        seen_s=(0.0, 1.0),
        quality=0.0,
    )


class Side:
    """One side of a link in a thread of its own; keeps what it did and what it raised."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.error: BaseException | None = None
        self.result: object = None
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:
            self.error = error

    def is_blocked(self) -> bool:
        time.sleep(0.05)
        return self._thread.is_alive()

    def end(self) -> None:
        self._thread.join(timeout=_WITHIN_S)
        assert not self._thread.is_alive(), "the link did not wake"


def full_link() -> LocalLink:
    link = LocalLink(capacity=2)
    link.send([tracklet(0), tracklet(1)])
    return link


def test_everything_sent_is_received_once_and_in_order() -> None:
    link = LocalLink(capacity=3, batch=2)
    sent = [tracklet(n) for n in range(500)]

    def perceive(link: Link) -> None:
        for n in range(0, 500, 7):
            link.send(sent[n : n + 7])
        link.close()

    sender = Side(lambda: perceive(link))
    received: list[Tracklet] = []
    while some := link.receive():
        assert len(some) <= 2
        received += some
    sender.end()
    assert sender.error is None
    assert [id(one) for one in received] == [id(one) for one in sent]


def test_what_waits_is_received_together_up_to_the_batch() -> None:
    link = LocalLink(capacity=10, batch=4)
    link.send([tracklet(n) for n in range(6)])
    assert [len(link.receive()), len(link.receive())] == [4, 2]


def test_a_sender_waits_until_there_is_room() -> None:
    link = full_link()
    sender = Side(lambda: link.send([tracklet(2)]))
    assert sender.is_blocked()
    link.receive()
    sender.end()
    assert [one.track_id for one in link.receive()] == [2]


def test_a_receiver_waits_until_something_comes() -> None:
    link = LocalLink()
    receiver = Side(link.receive)
    assert receiver.is_blocked()
    link.send([tracklet(3)])
    receiver.end()
    assert isinstance(receiver.result, list)
    assert receiver.result[0].track_id == 3


def test_closing_wakes_a_receiver_with_nothing() -> None:
    link = LocalLink()
    receiver = Side(link.receive)
    assert receiver.is_blocked()
    link.close()
    link.close()
    receiver.end()
    assert receiver.result == []
    assert link.receive() == []


def test_closing_wakes_a_sender_and_keeps_what_was_sent() -> None:
    link = full_link()
    sender = Side(lambda: link.send([tracklet(2)]))
    assert sender.is_blocked()
    link.close()
    sender.end()
    assert isinstance(sender.error, LinkError)
    assert len(link.receive()) == 2
    assert link.receive() == []


def test_a_failed_receiver_wakes_the_sender_with_its_exception() -> None:
    link = full_link()
    sender = Side(lambda: link.send([tracklet(2)]))
    assert sender.is_blocked()
    error = RuntimeError("encoder broke")
    link.fail(error)
    sender.end()
    assert sender.error is error


def test_a_failed_receiver_stops_a_sender_that_has_room() -> None:
    link = LocalLink()
    link.fail(RuntimeError("encoder broke"))
    with pytest.raises(RuntimeError, match="encoder broke"):
        link.send([tracklet(0)])


def test_a_failed_sender_is_heard_of_after_what_it_sent_before() -> None:
    link = LocalLink()
    link.send([tracklet(0)])
    link.fail(RuntimeError("camera broke"))
    link.fail(RuntimeError("and this followed from it"))
    assert [one.track_id for one in link.receive()] == [0]
    with pytest.raises(RuntimeError, match="camera broke"):
        link.receive()


def test_a_failed_sender_wakes_the_receiver() -> None:
    link = LocalLink()
    receiver = Side(link.receive)
    assert receiver.is_blocked()
    error = KeyboardInterrupt()
    link.fail(error)
    receiver.end()
    assert receiver.error is error


@pytest.mark.parametrize("wrong", [{"capacity": 0}, {"batch": 0}])
def test_a_link_without_room_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        LocalLink(**wrong)
