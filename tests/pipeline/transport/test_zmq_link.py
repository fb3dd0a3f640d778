from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from gait.tracklet import Tracklet
from pipeline.errors import LinkError
from pipeline.transport import zmq_socket
from pipeline.transport.keys import ReceiverKeys, SenderKeys
from tests.pipeline.transport.conftest import (
    WITHIN_S,
    Place,
    Proxy,
    number_of,
    receive,
    settle,
    tracklet,
    until,
)


def test_tracklets_arrive_whole_in_order_and_leave_the_spool_when_acknowledged(
    place: Place,
) -> None:
    receiver, sender = place.receiver(batch=4), place.sender()
    sent = [tracklet(number, track_id=5, length=number % 4 + 1) for number in range(20)]
    sender.send(sent[:13])
    sender.send(sent[13:])
    received = receive(receiver, 20, acknowledge=False)
    assert [number_of(each) for each in received] == list(range(20))
    assert sender.num_waiting == 20
    receiver.acknowledge()
    settle(receiver, sender)
    for ours, theirs in zip(sent, received, strict=True):
        np.testing.assert_array_equal(ours.silhouettes, theirs.silhouettes)
        assert (theirs.stream, theirs.companions) == ("gate/door", (6,))
    assert sender.counts["acknowledged"] == receiver.counts["received"] == 20


def test_sending_does_not_wait_for_a_receiver_that_is_not_there(place: Place) -> None:
    sender = place.sender()
    start_s = time.monotonic()
    sender.send([tracklet(number) for number in range(100)])
    assert time.monotonic() - start_s < WITHIN_S
    assert (sender.num_waiting, sender.is_connected) == (100, False)
    receiver = place.receiver()
    assert [number_of(each) for each in receive(receiver, 100)] == list(range(100))


def test_many_senders_keep_their_order_and_their_names(place: Place) -> None:
    receiver = place.receiver()
    senders = [place.sender(name=f"gate-{number}") for number in range(3)]
    for number in range(30):
        senders[number % 3].send([tracklet(number)])
    received = receive(receiver, 30)
    for sender in senders:
        settle(receiver, sender)
    for index in range(3):
        own = [number_of(t) for t in received if t.stream == f"gate-{index}/door"]
        assert own == list(range(index, 30, 3))


def test_track_ids_of_a_new_run_are_new(place: Place) -> None:
    receiver = place.receiver()
    uids = set()
    for number in range(3):
        with place.sender() as sender:
            sender.send([tracklet(0, track_id=track) for track in (0, 1, 7)])
            received = receive(receiver, 3)
            settle(receiver, sender)
        uids |= {each.uid for each in received}
        assert all(each.companions == (each.track_id + 1,) for each in received)
        assert len(uids) == 3 * (number + 1)


def test_a_track_that_a_run_left_open_is_ended_by_the_next_one_once(place: Place) -> None:
    receiver = place.receiver()
    with place.sender() as sender:
        sender.send([tracklet(3, track_id=1), tracklet(5, track_id=2), tracklet(9, track_id=1)])
        sender.send([replace(tracklet(7, track_id=2), is_last=True)])
        receive(receiver, 4)
        settle(receiver, sender)
    for is_first in (True, False):
        with place.sender() as sender:
            until(lambda: sender.is_connected)
            ended = receiver.receive(WITHIN_S if is_first else 0.3)
            receiver.acknowledge()
            settle(receiver, sender)
        assert [(each.track, each.is_last, len(each)) for each in ended] == (
            [(("gate/door", 1), True, 0)] if is_first else []
        )
        assert not ended or ended[0].seen_s == tracklet(9).seen_s


def test_what_is_not_acknowledged_comes_again_after_the_receiver_restarts(place: Place) -> None:
    sender = place.sender()
    sender.send([tracklet(number) for number in range(6)])
    with place.receiver(batch=1) as receiver:
        receive(receiver, 3)
        receive(receiver, 3, acknowledge=False)
    receiver = place.receiver()
    assert [number_of(each) for each in receive(receiver, 3)] == [3, 4, 5]
    settle(receiver, sender)


def test_what_is_acknowledged_never_comes_again_though_the_answer_was_lost(place: Place) -> None:
    sender = place.sender()
    sender.send([tracklet(number) for number in range(3)])
    with place.receiver() as receiver:
        receive(receiver, 3, acknowledge=False)
        receiver.acknowledge()
        receiver._changed.clear()  # the answer is lost
    assert sender.num_waiting == 3
    sender.send([tracklet(3)])
    receiver = place.receiver()
    assert [number_of(each) for each in receive(receiver, 1)] == [3]
    settle(receiver, sender)
    assert receiver.counts["repeated"] == 3


def test_a_slow_receiver_is_not_given_anything_twice(place: Place) -> None:
    receiver, sender = place.receiver(), place.sender(resend_s=0.1)
    sender.send([tracklet(number) for number in range(3)])
    received = receive(receiver, 3, acknowledge=False)
    until(lambda: sender.counts["resent"] >= 3)
    assert receiver.receive(0.3) == []
    receiver.acknowledge()
    settle(receiver, sender)
    assert [number_of(each) for each in received] == [0, 1, 2]
    assert receiver.counts["repeated"] >= 3


def test_a_full_spool_drops_the_oldest_and_counts_them(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    sender = place.sender(max_bytes=6000)
    for number in range(100):
        sender.send([tracklet(number)])
    left = sender.num_waiting
    assert 5 < left < 100
    assert sender.counts["dropped"] == 100 - left
    receiver = place.receiver()
    assert [number_of(each) for each in receive(receiver, left)] == list(range(100 - left, 100))
    settle(receiver, sender)
    assert "the oldest tracklets were dropped" in caplog.text


def test_dropping_what_is_under_way_holds_nothing_up(place: Place) -> None:
    receiver, sender = place.receiver(), place.sender(max_bytes=6000)
    received: list[Tracklet] = []
    for number in range(200):
        sender.send([tracklet(number)])
        if number % 9 == 0:
            received += receiver.receive(0.005)
            receiver.acknowledge()
    while sender.num_waiting:
        received += receiver.receive(0.05)
        receiver.acknowledge()
    numbers = [number_of(each) for each in received]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 199
    assert len(numbers) + sender.counts["dropped"] >= 200


@pytest.mark.parametrize("fault", ["cut", "swallow"])
def test_a_network_that_fails_loses_and_repeats_nothing(
    place: Place,
    keys: tuple[ReceiverKeys, SenderKeys],
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(zmq_socket, "_HEARTBEAT_MS", 100)
    monkeypatch.setattr(zmq_socket, "_SILENCE_MS", 500)
    receiver = place.receiver("tcp://127.0.0.1:*", keys=keys[0])
    proxy = Proxy(receiver.endpoint)
    sender = place.sender(proxy.endpoint, keys=keys[1])
    received: list[Tracklet] = []
    for number in range(120):
        if number % 40 == 20:
            until(lambda: sender.is_connected)
            proxy.swallows = fault == "swallow"
            if fault == "cut":
                proxy.cut()
        if number % 40 == 30:
            until(lambda: not sender.is_connected)
            proxy.swallows = proxy.is_cut = False
        sender.send([tracklet(number)])
        received += receiver.receive(0.002)
        receiver.acknowledge()
    received += receive(receiver, 120 - len(received))
    settle(receiver, sender)
    proxy.close()
    assert [number_of(each) for each in received] == list(range(120))
    assert sender.counts["connections"] >= 4


def test_closing_wakes_who_waits_and_refuses_what_comes_later(place: Place) -> None:
    receiver, sender = place.receiver(), place.sender()
    results: list[list[Tracklet]] = []
    waiting = threading.Thread(target=lambda: results.append(receiver.receive()))
    waiting.start()
    time.sleep(0.05)
    receiver.close()
    waiting.join(WITHIN_S)
    assert results == [[]]
    sender.close()
    sender.close()
    with pytest.raises(LinkError, match="this one was closed"):
        sender.send([tracklet(1)])


def test_closing_sends_what_waits_if_somebody_is_there(place: Place) -> None:
    receiver, sender = place.receiver(), place.sender()
    until(lambda: sender.is_connected)
    sender.send([tracklet(number) for number in range(50)])
    received: list[Tracklet] = []
    closing = threading.Thread(target=sender.close, args=(WITHIN_S,))
    closing.start()
    while closing.is_alive():
        received += receiver.receive(0.05)
        receiver.acknowledge()
    assert len(received) == 50
    assert sender.num_waiting == 0


def test_a_disk_that_fails_is_said_to_whoever_sends(place: Place) -> None:
    sender = place.sender()
    sender._spool.close()
    with pytest.raises(LinkError, match="closed"):
        sender.send([tracklet(1)])
