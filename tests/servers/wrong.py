"""TCP servers that are no cameras: they say nothing, nonsense, or a byte a second."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import Self

Talk = Callable[[socket.socket, threading.Event], None]


class WrongServer:
    """Accepts everybody on a port of loopback and talks to them in its own way."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._is_over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.2)
        self.num_accepted = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._listener.close()

    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/cam"

    def _accept(self) -> None:
        talkers: list[threading.Thread] = []
        while not self._is_over.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                self.num_accepted += 1
                talkers = [talker for talker in talkers if talker.is_alive()]
                talkers.append(threading.Thread(target=self._serve, args=(connection,)))
                talkers[-1].start()
        for talker in talkers:
            talker.join()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(30.0)
        with connection, contextlib.suppress(OSError):
            self._talk(connection, self._is_over)


def silent(connection: socket.socket, is_over: threading.Event) -> None:
    is_over.wait()


def random_bytes(connection: socket.socket, is_over: threading.Event) -> None:
    while not is_over.wait(0.01):
        connection.sendall(os.urandom(4096))


def nonsense(connection: socket.socket, is_over: threading.Event) -> None:
    while not is_over.is_set() and connection.recv(4096):
        connection.sendall(b"RTSP/1.0 200 OK\r\nCSeq: banana\r\nContent-Length: -7\r\n\r\n\x00$$$")


def drip(connection: socket.socket, is_over: threading.Event) -> None:
    for byte in b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nPublic: DESCRIBE, SETUP\r\n" * 1000:
        connection.sendall(bytes([byte]))
        if is_over.wait(1.0):
            return


def hang_up(connection: socket.socket, is_over: threading.Event) -> None:
    connection.recv(1)


WRONG: dict[str, Talk] = {
    "says nothing": silent,
    "sends random bytes": random_bytes,
    "answers with nonsense": nonsense,
    "drips a byte a second": drip,
    "hangs up at once": hang_up,
}
