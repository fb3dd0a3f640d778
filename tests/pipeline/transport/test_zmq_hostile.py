"""Who may not send, and what is no message."""

from __future__ import annotations

import random
import socket
from dataclasses import replace

import pytest

from pipeline.errors import ConfigError, LinkError
from pipeline.transport.envelope import Envelope, read_answer, write_frame
from pipeline.transport.keys import ReceiverKeys, SenderKeys
from pipeline.transport.message import VERSION, encode
from pipeline.transport.spool import Spool
from pipeline.transport.zmq_link import SendingLink
from tests.pipeline.transport.conftest import (
    SPOOL,
    Place,
    number_of,
    receive,
    settle,
    tracklet,
    until,
)


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


def envelope(seq: int, follows: int = 0, *, spool: str = SPOOL, sender: str = "gate") -> bytes:
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
    newer[0] = newer[0].replace(b'"version":%d' % VERSION, b'"version":%d' % (VERSION + 1))
    stranger.send_multipart([envelope(1), *newer])
    assert receiver.receive(0.2) == []
    answer = read_answer(stranger.recv())
    assert (answer.done, answer.is_final) == (0, False)
    assert f"expected version {VERSION} " in str(answer.refused)
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
