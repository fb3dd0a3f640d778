"""Both ends of a link, and a network between them that can fail."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest
import zmq

from gait.tracklet import Tracklet
from pipeline.transport.keys import ReceiverKeys, SenderKeys, make_keys
from pipeline.transport.spool import Spool
from pipeline.transport.zmq_link import ReceivingLink, SendingLink

WITHIN_S = 30.0  # what takes longer has failed; on an idle machine all is done in a fraction
SPOOL = "0" * 31 + "1"


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
    end_s = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.005)


def receive(link: ReceivingLink, count: int, *, acknowledge: bool = True) -> list[Tracklet]:
    """Receive `count` tracklets, acknowledging each batch."""
    received: list[Tracklet] = []
    end_s = time.monotonic() + WITHIN_S
    while len(received) < count:
        assert time.monotonic() < end_s, f"only {len(received)} of {count} came"
        received += [each for each in link.receive(0.1) if len(each)]  # wills have no silhouettes
        if acknowledge:
            link.acknowledge()
    return received


def settle(receiver: ReceivingLink, sender: SendingLink) -> None:
    """Let acknowledgements reach the sender."""
    end_s = time.monotonic() + WITHIN_S
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
        dealer.rcvtimeo = int(WITHIN_S * 1000)
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
