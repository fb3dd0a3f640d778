"""A Unix socket that answers JSON lines: what `trackletgait top` and scripts talk to.

with ControlSocket(path, answer):      # answer({"do": "status"}) -> {...}
    ...
print(ask(path, {"do": "status"}))
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from gait.closing import Closing
from pipeline.errors import ConfigError, LinkError

logger = logging.getLogger(__name__)

Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]

LONGEST_REQUEST = 64 * 1024
"""Bytes of the longest request."""

_MOST_CLIENTS = 16
_CLIENT_S = 0.5  # a client that takes no answer for so long is left
_IDLE_S = 60.0
_LONGEST_PATH = 107  # bytes; what the kernel has room for


class ControlSocket(Closing):
    """Listens in a thread of its own, for this user only (mode 0600).

    A request is a line of JSON, an object with `do`; the answer is a line too: what `answer`
    returns, or {"error": "..."}. What is no such line is answered with an error, never raised.

    Args:
        path: Of the socket; one that a killed run left is replaced.
        answer: Called in the thread, one request after another.

    Raises:
        ConfigError: The socket cannot be made, or another run listens there.
    """

    def __init__(self, path: Path, answer: Answer) -> None:
        self.path = path
        self._answer = answer
        self._listener = _listen(path)
        self._waker, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._clients: dict[socket.socket, _Client] = {}
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and remove the socket; harmless the second time."""
        if self._is_closed.is_set():
            return
        self._is_closed.set()
        with suppress(OSError):
            self._waker.send(b"x")
        self._thread.join(2 * _CLIENT_S)
        self.path.unlink(missing_ok=True)
        self._waker.close()

    def _work(self) -> None:
        try:
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._selector.register(self._woken, selectors.EVENT_READ)
            while not self._is_closed.is_set():
                for key, _ in self._selector.select(timeout=1.0):
                    self._ready(key.fileobj)
                self._leave_the_idle()
        finally:
            for client in list(self._clients):
                self._leave(client)
            self._selector.close()
            self._listener.close()
            self._woken.close()

    def _ready(self, which: object) -> None:
        if which is self._listener:
            self._accept()
        elif isinstance(which, socket.socket) and which in self._clients:
            try:
                self._read(which)
            except (OSError, TimeoutError):
                self._leave(which)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        if len(self._clients) >= _MOST_CLIENTS:
            client.close()
            return
        client.settimeout(_CLIENT_S)
        self._clients[client] = _Client()
        self._selector.register(client, selectors.EVENT_READ)

    def _read(self, socket_: socket.socket) -> None:
        data = socket_.recv(LONGEST_REQUEST)
        client = self._clients[socket_]
        if not data:
            self._leave(socket_)
            return
        *lines, client.rest = (client.rest + data).split(b"\n")
        client.heard_s = time.monotonic()
        for line in lines:
            socket_.sendall(_line(outcome(self._answer, line)[1]))
        if len(client.rest) > LONGEST_REQUEST:
            socket_.sendall(_line({"error": f"expected a line of at most {LONGEST_REQUEST} B"}))
            self._leave(socket_)

    def _leave(self, client: socket.socket) -> None:
        if self._clients.pop(client, None) is not None:
            self._selector.unregister(client)
            client.close()

    def _leave_the_idle(self) -> None:
        now_s = time.monotonic()
        for socket_, client in list(self._clients.items()):
            if now_s - client.heard_s > _IDLE_S:
                self._leave(socket_)


def outcome(answer: Answer, data: bytes) -> tuple[int, Mapping[str, Any]]:
    """Return how a request went, as a status of HTTP, and what it is answered.

    Args:
        answer: Does what is asked; ConfigError is for whoever asked.
        data: The request, whatever it is.
    """
    try:
        request = json.loads(data)
    except (ValueError, RecursionError):
        return HTTPStatus.BAD_REQUEST, {"error": 'expected JSON such as {"do": "status"}'}
    if not isinstance(request, dict):
        return HTTPStatus.BAD_REQUEST, {"error": 'expected an object such as {"do": "status"}'}
    try:
        return HTTPStatus.OK, answer(request)
    except ConfigError as error:
        return HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)}
    except Exception:  # a bug here must not cost the run
        logger.exception("control: a request failed")
        words = "the request failed; the run's log says why"
        return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": words}


class _Client:
    def __init__(self) -> None:
        self.rest = b""
        self.heard_s = time.monotonic()


def ask(path: Path, request: Mapping[str, Any], *, timeout_s: float = 10.0) -> dict[str, Any]:
    """Return a run's answer to one request.

    Args:
        path: Of its control socket.
        request: Such as {"do": "status"}.
        timeout_s: Longest wait.

    Raises:
        LinkError: Nobody answers there, or the run refuses; the message says why.
    """
    received = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(timeout_s)
            client.connect(str(path))
            client.sendall(_line(request))
            while not received.endswith(b"\n"):
                data = client.recv(1 << 16)
                if not data:
                    break
                received += data
    except OSError as error:
        raise LinkError(
            f"{path}: no run answers there ({error.strerror or error}); expected the control "
            "socket of `trackletgait run`, which lies in its --out folder"
        ) from error
    try:
        answer = json.loads(received)
    except ValueError as error:
        raise LinkError(f"{path}: expected an answer of JSON, got {received[:80]!r}") from error
    if not isinstance(answer, dict) or "error" in answer:
        raise LinkError(str(answer["error"] if isinstance(answer, dict) else answer))
    return answer


def _listen(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise ConfigError(
            f"control: expected a path of at most {_LONGEST_PATH} bytes, got {path}; give a "
            "shorter one as `control`, such as /run/trackletgait.sock"
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        os.fchmod(listener.fileno(), 0o600)  # before bind: never open to others, not for a moment
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(_MOST_CLIENTS)
        listener.setblocking(False)
    except BaseException as error:
        listener.close()
        if isinstance(error, OSError):
            raise ConfigError(f"control: cannot listen on {path}: {error.strerror}") from error
        raise
    return listener


def _remove_stale(path: Path) -> None:
    """Remove the socket of a run that was killed, but of nobody who lives, and no other file."""
    if not path.exists():
        return
    if not path.is_socket():
        raise ConfigError(f"control: expected a socket or nothing at {path}, found another file")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_CLIENT_S)
        try:
            client.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
    raise ConfigError(f"control: another run listens on {path}; stop it, or give another --out")


def _line(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n"
