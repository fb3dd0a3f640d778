from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zmq

from gait.tracklet import Tracklet
from pipeline.errors import ConfigError, LinkError
from pipeline.transport import zmq_socket
from pipeline.transport.envelope import Envelope, read_answer, write_frame
from pipeline.transport.keys import ReceiverKeys, SenderKeys, make_keys
from pipeline.transport.message import encode
from pipeline.transport.spool import Spool
from pipeline.transport.zmq_link import ReceivingLink, SendingLink

_WITHIN_S = 30.0  # what takes longer has failed; on an idle machine all is done in a fraction
_SPOOL = "0" * 31 + "1"


def tracklet(number: int, *, track_id: int = 1, length: int = 1) -> Tracklet:
    """A tracklet that says its number in its first frame."""
    return Tracklet(
        stream="door",
        track_id=track_id,
        silhouettes=np.full((length, 64, 44), number % 256, np.uint8),
        frame_indices=np.arange(number, number + length),
        times_s=np.arange(number, number + length) / 10,
        seen_s=(number / 10, number / 10 + 1),
        companions=(track_id + 1,),
    )


def number_of(received: Tracklet) -> int:
    return int(received.frame_indices[0])


def until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + _WITHIN_S
    while not condition():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.005)


def receive(link: ReceivingLink, count: int, *, acknowledge: bool = True) -> list[Tracklet]:
    """Receive `count` tracklets, acknowledging each batch."""
    received: list[Tracklet] = []
    end_s = time.monotonic() + _WITHIN_S
    while len(received) < count:
        assert time.monotonic() < end_s, f"only {len(received)} of {count} came"
        received += [each for each in link.receive(0.1) if len(each)]  # wills have no silhouettes
        if acknowledge:
            link.acknowledge()
    return received


def settle(receiver: ReceivingLink, sender: SendingLink) -> None:
    """Let acknowledgements reach the sender."""
    end_s = time.monotonic() + _WITHIN_S
    while sender.num_waiting:
        assert time.monotonic() < end_s, f"{sender.num_waiting} still wait"
        assert not receiver.receive(0.02)


class Place:
    """Where links of one test live; what is opened here is closed at its end."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.endpoint = f"ipc://{folder}/link"
        self._stack = stack

    def receiver(self, endpoint: str | None = None, **options: object) -> ReceivingLink:
        marks = self.folder / "hub.marks"
        made = ReceivingLink(endpoint or self.endpoint, marks, **options)  # type: ignore[arg-type]
        return self._stack.enter_context(made)

    def sender(
        self,
        endpoint: str | None = None,
        *,
        name: str = "gate",
        max_bytes: int = 10**8,
        **options: object,
    ) -> SendingLink:
        spool = Spool(self.folder / f"{name}.spool", max_bytes=max_bytes)
        options = {"sender": name, "resend_s": 0.5} | options
        made = SendingLink(endpoint or self.endpoint, spool, **options)  # type: ignore[arg-type]
        self._stack.callback(made.close, 0.0)
        return made

    def stranger(self, endpoint: str) -> zmq.Socket[bytes]:
        """Return a bare socket that says whatever it likes."""
        context = self._stack.enter_context(zmq.Context())
        dealer = self._stack.enter_context(context.socket(zmq.DEALER))
        dealer.linger = 0
        dealer.rcvtimeo = int(_WITHIN_S * 1000)
        dealer.connect(endpoint)
        return dealer


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(tmp_path, stack)


class Proxy:
    """A line between two TCP addresses that can be cut, or swallow what goes over it."""

    def __init__(self, target: str) -> None:
        host, port = target.removeprefix("tcp://").rsplit(":", 1)
        self._target = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.swallows = False
        self.is_cut = False
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self.is_cut = True
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.is_cut:
                    client.close()
                    continue
                server = socket.create_connection(self._target)
                self._open += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not self.swallows:
                    target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[ReceiverKeys, SenderKeys]:
    (tmp_path / "allowed").mkdir()
    hub, hub_public = make_keys("hub", tmp_path)
    gate, gate_public = make_keys("gate", tmp_path)
    shutil.copy(gate_public, tmp_path / "allowed")
    return ReceiverKeys.read(hub, tmp_path / "allowed"), SenderKeys.read(gate, hub_public)


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
    assert time.monotonic() - start_s < _WITHIN_S
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
            ended = receiver.receive(_WITHIN_S if is_first else 0.3)
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


def test_a_sender_whose_key_is_not_allowed_gets_in_once_it_is(
    place: Place, keys: tuple[ReceiverKeys, SenderKeys], caplog: pytest.LogCaptureFixture
) -> None:
    ticket = place.folder / "allowed" / "gate.pub"
    held = ticket.rename(place.folder / "held")
    receiver = place.receiver("tcp://127.0.0.1:*", keys=keys[0])
    sender = place.sender(receiver.endpoint, keys=keys[1])
    sender.send([tracklet(1)])
    until(lambda: "the receiver does not allow this sender's key" in caplog.text)
    assert receiver.receive(0.2) == []
    held.rename(ticket)
    assert [number_of(each) for each in receive(receiver, 1)] == [1]


def test_plain_text_does_not_get_into_a_receiver_with_keys(
    place: Place, keys: tuple[ReceiverKeys, SenderKeys]
) -> None:
    receiver = place.receiver("tcp://127.0.0.1:*", keys=keys[0])
    sender = place.sender(receiver.endpoint)
    sender.send([tracklet(1)])
    assert receiver.receive(0.5) == []
    assert sender.num_waiting == 1


def test_a_sender_speaks_only_under_the_name_of_its_key(
    place: Place, keys: tuple[ReceiverKeys, SenderKeys], caplog: pytest.LogCaptureFixture
) -> None:
    receiver = place.receiver("tcp://127.0.0.1:*", keys=keys[0])
    sender = place.sender(receiver.endpoint, keys=keys[1], name="vault")
    sender.send([tracklet(1)])
    while not receiver.counts["refused"]:
        assert receiver.receive(0.1) == []
    assert "gate: expected this name, got 'vault'" in caplog.text


@pytest.mark.parametrize("sender", ["", "north gate", "../x", "x" * 65])
def test_a_name_that_no_receiver_takes_is_refused_and_the_spool_closed(
    place: Place, sender: str
) -> None:
    for _ in range(2):
        with pytest.raises(ConfigError, match="sender: expected letters"):
            SendingLink(place.endpoint, Spool(place.folder / "x.spool"), sender=sender)


def test_plain_text_off_this_machine_is_refused_on_both_sides(place: Place) -> None:
    for _ in range(2):  # the files are free again
        with pytest.raises(ConfigError, match="unencrypted"):
            place.sender("tcp://10.255.255.1:5800")
        with pytest.raises(ConfigError, match="unencrypted"):
            place.receiver("tcp://0.0.0.0:*")
    assert place.receiver("tcp://0.0.0.0:*", insecure=True).endpoint.startswith("tcp://0.0.0.0:")


def test_an_address_that_is_taken_is_said_and_the_marks_are_free_again(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for _ in range(2):
            with pytest.raises(LinkError, match="Address already in use"):
                place.receiver(f"tcp://127.0.0.1:{taken.getsockname()[1]}")


def envelope(seq: int, follows: int = 0, *, spool: str = _SPOOL, sender: str = "gate") -> bytes:
    return write_frame(Envelope(sender=sender, spool=spool, seq=seq, follows=follows))


def test_garbage_is_refused_counted_and_harms_nobody(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = place.receiver("tcp://127.0.0.1:*")
    stranger = place.stranger(receiver.endpoint)
    rng = random.Random(3)
    good = [envelope(7), *encode(tracklet(7))]
    for number in range(300):
        message = [rng.randbytes(rng.randrange(200)) for _ in range(rng.randrange(1, 9))]
        if number % 2:
            message = list(good)
            frame = rng.randrange(len(message))
            message[frame] = rng.randbytes(10) + message[frame][10:]
        stranger.send_multipart(message)
    with socket.create_connection(("127.0.0.1", int(receiver.endpoint.rsplit(":")[-1]))) as raw:
        raw.sendall(rng.randbytes(5000))
    sender = place.sender(receiver.endpoint, name="honest")
    sender.send([tracklet(1)])
    received = receive(receiver, 1)
    while receiver.counts["refused"] + receiver.counts["repeated"] + len(received) < 300:
        received += receiver.receive(0.1)
    assert "honest/door" in {each.stream for each in received}
    assert receiver.counts["refused"] > 150
    assert len(caplog.records) < 30  # a stranger does not fill the log


def test_a_frame_beyond_the_limit_ends_the_connection_before_it_is_read(place: Place) -> None:
    receiver = place.receiver("tcp://127.0.0.1:*", limit_bytes=100_000)
    stranger = place.stranger(receiver.endpoint)
    stranger.send_multipart([envelope(1), bytes(1_000_000)])
    sender = place.sender(receiver.endpoint, name="honest")
    sender.send([tracklet(1)])
    assert len(receive(receiver, 1)) == 1
    assert receiver.counts == {"received": 1}


def test_a_message_that_will_never_be_good_is_answered_and_the_next_one_taken(
    place: Place,
) -> None:
    receiver = place.receiver("tcp://127.0.0.1:*")
    stranger = place.stranger(receiver.endpoint)
    stranger.send_multipart([envelope(1), b"no", b"tracklet", b"at", b"all"])
    stranger.send_multipart([envelope(2, follows=1), *encode(tracklet(2))])
    assert [number_of(each) for each in receive(receiver, 1)] == [2]
    answer = read_answer(stranger.recv())
    assert (answer.done, answer.received, answer.is_final) == (1, 1, True)
    assert answer.refused is not None


def test_a_stream_whose_name_has_no_room_for_its_senders_is_refused_for_good(place: Place) -> None:
    receiver, sender = place.receiver(), place.sender()
    sender.send([replace(tracklet(1), stream="x" * 200), tracklet(2)])
    assert [number_of(each) for each in receive(receiver, 1)] == [2]
    settle(receiver, sender)
    assert sender.counts["refused"] == 1


def test_a_message_of_a_newer_version_is_kept_by_its_sender(place: Place) -> None:
    receiver = place.receiver("tcp://127.0.0.1:*")
    stranger = place.stranger(receiver.endpoint)
    newer = encode(tracklet(1))
    newer[0] = newer[0].replace(b'"version":2', b'"version":3')
    stranger.send_multipart([envelope(1), *newer])
    assert receiver.receive(0.2) == []
    answer = read_answer(stranger.recv())
    assert (answer.done, answer.is_final) == (0, False)
    assert "expected version 2" in str(answer.refused)
    stranger.send_multipart([envelope(1), *encode(tracklet(1))])  # after it was mended
    assert len(receive(receiver, 1)) == 1


def test_a_message_that_came_out_of_order_waits_for_the_one_before(place: Place) -> None:
    receiver = place.receiver("tcp://127.0.0.1:*")
    stranger = place.stranger(receiver.endpoint)
    stranger.send_multipart([envelope(1), *encode(tracklet(1))])
    stranger.send_multipart([envelope(3, follows=2), *encode(tracklet(3))])
    stranger.send_multipart([envelope(2, follows=1), *encode(tracklet(2))])
    stranger.send_multipart([envelope(3, follows=2), *encode(tracklet(3))])
    assert [number_of(each) for each in receive(receiver, 3)] == [1, 2, 3]
    assert receiver.counts["gaps"] == 1


def test_closing_wakes_who_waits_and_refuses_what_comes_later(place: Place) -> None:
    receiver, sender = place.receiver(), place.sender()
    results: list[list[Tracklet]] = []
    waiting = threading.Thread(target=lambda: results.append(receiver.receive()))
    waiting.start()
    time.sleep(0.05)
    receiver.close()
    waiting.join(_WITHIN_S)
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
    closing = threading.Thread(target=sender.close, args=(_WITHIN_S,))
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


_HEAD = """
import sys, time
from pathlib import Path
import numpy as np
from gait.tracklet import Tracklet
from pipeline.transport.spool import Spool
from pipeline.transport.zmq_link import ReceivingLink, SendingLink
folder, endpoint, start = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
"""
_SENDER = """
with SendingLink(endpoint, Spool(folder / "gate.spool"), sender="gate", resend_s=0.3) as link:
    for number in range(start, 10**9):
        link.send([Tracklet("door", 1, np.zeros((1, 64, 44), np.uint8), np.array([number]),
                            np.array([number / 10]), (0.0, 1.0))])
        print(number, flush=True)
"""
_RECEIVER = """
with ReceivingLink(endpoint, folder / "hub.marks", batch=5) as link:
    while tracklets := link.receive():
        for one in tracklets:
            print("took", one.frame_indices[0], flush=True)
        time.sleep(0.002)
        link.acknowledge()
        for one in tracklets:
            print("done", one.frame_indices[0], flush=True)
"""


class Child:
    """One side of the link in a process of its own, that is killed at some moment."""

    def __init__(self, code: str, place: Place, start: int = 0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _HEAD + code, str(place.folder), place.endpoint, str(start)],
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self._said = [self._process.stdout.readline()]  # it is at work

    def kill(self) -> list[str]:
        """Kill it and return the whole lines it had said."""
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGKILL)
        self._said += self._process.stdout.readlines()
        self._process.stdout.close()
        self._process.wait()
        return [line.decode().strip() for line in self._said if line.endswith(b"\n")]


def test_killing_the_sender_at_any_moment_loses_and_repeats_nothing(place: Place) -> None:
    receiver = place.receiver()
    moment = random.Random(1)
    received: list[int] = []
    start = 0
    for turn in range(1, 5):
        child = Child(_SENDER, place, start)
        end_s = time.monotonic() + moment.uniform(0.05, 0.3)
        while time.monotonic() < end_s or len(received) < 6 * turn:
            received += [number_of(each) for each in receiver.receive(0.01) if len(each)]
            receiver.acknowledge()
        said = child.kill()
        start = int(said[-1]) + 2  # the next may be on disk though it was not said
    sender = place.sender()
    sender.send([tracklet(start)])
    while not received or received[-1] != start:
        received += [number_of(each) for each in receiver.receive(0.1) if len(each)]
        receiver.acknowledge()
    settle(receiver, sender)
    assert received == sorted(set(received))
    missing = set(range(start)) - set(received)
    assert len(missing) <= 4  # those that may have been on disk, and were not
    assert len(received) > 20


def test_killing_the_receiver_at_any_moment_loses_nothing_and_repeats_nothing_done(
    place: Place,
) -> None:
    moment = random.Random(2)
    sender = place.sender(resend_s=0.3)
    said: list[str] = []
    number = 0
    for _ in range(4):
        sender.send([tracklet(number + each) for each in range(60)])
        number += 60
        child = Child(_RECEIVER, place)
        time.sleep(moment.uniform(0.0, 0.05))
        said += child.kill()
    receiver = place.receiver()
    while sender.num_waiting:
        for one in receiver.receive(0.1):
            said.append(f"took {number_of(one)}")
        receiver.acknowledge()
    done: set[str] = set()
    taken: list[int] = []
    for verb, which in (line.split() for line in said):
        if verb == "done":
            done.add(which)
        else:
            assert which not in done, f"{which} was acknowledged and came again"
            taken.append(int(which))
    assert sorted(set(taken)) == list(range(number))
    assert len(taken) - number <= 4 * 5  # only what was under way at a kill comes twice
