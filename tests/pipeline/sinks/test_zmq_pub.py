"""Events over real ZeroMQ sockets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from pipeline.errors import ConfigError, OutputError
from pipeline.sinks.live import Event
from pipeline.sinks.zmq_pub import ZmqSink
from pipeline.transport.keys import ReceiverKeys, make_keys, read_key

ANYWHERE = "tcp://127.0.0.1:*"


def event(number: int = 0) -> Event:
    return Event("camera", 1.0e9, {"camera": "gate", "number": number})


@contextmanager
def subscribed(
    sink: ZmqSink, topic: str = "", keys: tuple[Path, bytes] | None = None
) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = 0
        if keys is not None:
            own = read_key(keys[0])
            socket.curve_publickey, socket.curve_secretkey = own.public, own.secret
            socket.curve_serverkey = keys[1]
        socket.connect(sink.endpoint)
        socket.subscribe(topic)
        yield socket


def received(
    sink: ZmqSink, socket: zmq.Socket[bytes], within_s: float = 30.0
) -> list[bytes] | None:
    """Publish until the subscription has come through, and return what came first."""
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        sink.write([event()])
        if socket.poll(50):
            return socket.recv_multipart()
    return None


def test_a_subscriber_gets_the_kind_and_the_json() -> None:
    with ZmqSink(ANYWHERE) as sink, subscribed(sink, "camera") as socket:
        parts = received(sink, socket)
        assert parts is not None
        assert parts[0] == b"camera"
        assert json.loads(parts[1])["content"]["camera"] == "gate"


def test_other_topics_do_not_come() -> None:
    with ZmqSink(ANYWHERE) as sink, subscribed(sink, "sighting") as socket:
        assert received(sink, socket, within_s=0.5) is None


def test_a_subscriber_that_does_not_read_holds_nobody_up() -> None:
    with ZmqSink(ANYWHERE, backlog=10) as sink, subscribed(sink) as socket:
        assert received(sink, socket) is not None
        began_s = time.monotonic()
        for _ in range(50):
            sink.write([event()] * 100)
        assert time.monotonic() - began_s < 30


def test_only_who_has_an_allowed_key_may_listen(tmp_path: Path) -> None:
    server, server_public = make_keys("server", tmp_path / "own")
    friend, friend_public = make_keys("friend", tmp_path / "theirs")
    stranger, _ = make_keys("stranger", tmp_path / "theirs")
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / friend_public.name).write_bytes(friend_public.read_bytes())
    keys = ReceiverKeys.read(server, allowed)
    public = keys.own.public
    assert server_public.exists()
    with ZmqSink(ANYWHERE, keys=keys) as sink:
        with subscribed(sink, keys=(friend, public)) as socket:
            assert received(sink, socket) is not None
        with subscribed(sink, keys=(stranger, public)) as socket:
            assert received(sink, socket, within_s=0.7) is None
        with subscribed(sink) as socket:  # in the clear
            assert received(sink, socket, within_s=0.7) is None


@pytest.mark.parametrize("address", ["tcp://*:5999", "tcp://0.0.0.0:5999", "tcp://[::]:5999"])
def test_plain_text_where_others_listen_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="expected keys"):
        ZmqSink(address)


def test_plain_text_where_others_listen_can_be_asked_for() -> None:
    with ZmqSink("tcp://*:*", is_insecure=True) as sink:
        assert sink.endpoint.startswith("tcp://")


def test_an_address_in_use_is_said() -> None:
    with ZmqSink(ANYWHERE) as sink, pytest.raises(OutputError, match="cannot be bound"):
        ZmqSink(sink.endpoint)


def test_closing_twice_is_harmless() -> None:
    sink = ZmqSink(ANYWHERE)
    sink.close()
    sink.close()
    with pytest.raises(OutputError):
        sink.write([event()])
