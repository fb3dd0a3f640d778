"""The sockets under both links: encrypted, bounded, and never silent for long."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import zmq
import zmq.auth.thread
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from pipeline.errors import LinkError
from pipeline.transport.keys import ReceiverKeys, SenderKeys, check_endpoint

logger = logging.getLogger(__name__)

_HEARTBEAT_MS = 1000
_SILENCE_MS = 5000  # of a peer or network, until the connection is given up
_RECONNECT_MS = 100
_RECONNECT_MAX_MS = 5000
_WAITING_MESSAGES = 1000  # more than any sender's window: its socket never stops being read
_ZAP_DOMAIN = b"trackletgait"


class SenderSocket:
    """A connected DEALER. For one thread, but for `wake`.

    Raises:
        ConfigError: The address is none, or is not loopback and there are no keys.
    """

    def __init__(
        self, endpoint: str, keys: SenderKeys | None, *, insecure: bool, limit_bytes: int
    ) -> None:
        check_endpoint(endpoint, has_keys=keys is not None, insecure=insecure)
        self._endpoint = endpoint
        self._keys = keys
        self._limit_bytes = limit_bytes
        self._context = zmq.Context()
        self._wake = Wake()
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def reconnect(self) -> None:
        """Begin anew, as if there had been no connection.

        ZeroMQ never tries again by itself once a handshake went wrong: when the key was not
        allowed yet, say, or the network swallowed a part of it.
        """
        self._disconnect()
        self._connect()

    def _connect(self) -> None:
        self.socket = self._context.socket(zmq.DEALER)
        _prepare(self.socket, self._endpoint, self._limit_bytes)
        self.socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing waits for a connection but the spool
        if self._keys is not None:
            self.socket.curve_publickey = self._keys.own.public
            self.socket.curve_secretkey = self._keys.own.secret
            self.socket.curve_serverkey = self._keys.receiver
        self._monitor = self.socket.get_monitor_socket()
        self._poller = _poller(self.socket, self._monitor, self._wake.fd)
        with in_words(self._endpoint):
            self.socket.connect(self._endpoint)

    def _disconnect(self) -> None:
        self.socket.disable_monitor()
        self._monitor.close(linger=0)
        self.socket.close(linger=0)

    def wait(self, timeout_s: float) -> None:
        """Wait until something happened, or the time is over."""
        self._poller.poll(int(timeout_s * 1000))
        self._wake.clear()

    def wake(self) -> None:
        """End a wait; any thread, also a signal handler, may."""
        self._wake.set()

    def events(self) -> Iterator[int]:
        """Yield what became of the connection since the last call, as `zmq.EVENT_...`."""
        while self._monitor.poll(0):
            yield parse_monitor_message(self._monitor.recv_multipart())["event"]

    def close(self) -> None:
        """Disconnect at once."""
        self._context.destroy(linger=0)
        self._wake.close()


class ReceiverSocket:
    """A bound ROUTER and the thread that lets only allowed senders in.

    Raises:
        ConfigError: The address is none, or is not loopback and there are no keys.
        LinkError: The address cannot be bound.
    """

    def __init__(
        self, endpoint: str, keys: ReceiverKeys | None, *, insecure: bool, limit_bytes: int
    ) -> None:
        check_endpoint(endpoint, has_keys=keys is not None, insecure=insecure)
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.ROUTER)
        self._doorman: _Doorman | None = None
        self._wake = Wake()
        try:
            _prepare(self.socket, endpoint, limit_bytes)
            if keys is not None:
                # before the address is bound, so that nobody slips in
                self._doorman = _Doorman(self._context, keys)
                self._doorman.start()
                self.socket.curve_server = True
                self.socket.curve_publickey = keys.own.public
                self.socket.curve_secretkey = keys.own.secret
                self.socket.setsockopt(zmq.ZAP_DOMAIN, _ZAP_DOMAIN)
                self.socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
            self._poller = _poller(self.socket, self._wake.fd)
            with in_words(endpoint):
                self.socket.bind(endpoint)
            self.endpoint = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        except BaseException:
            self.close()
            raise

    def wait(self, timeout_s: float) -> None:
        """Wait until something happened, or the time is over."""
        self._poller.poll(int(timeout_s * 1000))
        self._wake.clear()

    def wake(self) -> None:
        """End a wait; any thread, also a signal handler, may."""
        self._wake.set()

    def receive(self, most_frames: int) -> tuple[bytes, str | None, list[bytes]] | None:
        """Return who sent the next message, their key's name and the frames; None when none waits.

        Of a message with more than `most_frames` none are returned.
        """
        try:
            route = self.socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            return None
        frames: list[bytes] = []
        name: str | None = None
        count = 0
        while self.socket.getsockopt(zmq.RCVMORE):
            frame = self.socket.recv(copy=False)
            count += 1
            if count <= most_frames:
                frames.append(frame.bytes)
                name = self._name(frame)
        return route, name, frames if count <= most_frames else []

    def send(self, route: bytes, frame: bytes) -> None:
        """Send one frame to whom a message came from, if they are still there."""
        try:
            self.socket.send_multipart([route, frame], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            logger.debug("an answer could not be sent: %s", error)

    def close(self) -> None:
        """Stop listening; answers that were sent have half a second to leave."""
        self.socket.close(linger=500)
        if self._doorman is not None:
            self._doorman.stop()
        self._context.term()
        self._wake.close()

    def _name(self, frame: zmq.Frame) -> str | None:
        return str(frame.get("User-Id")) if self._doorman is not None else None


class Wake:
    """Something that a poll can wait for, and that any thread may set."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # One thread may set what another closes; a signal handler may come in between.
        self._lock = threading.RLock()
        self._closed = False

    def set(self) -> None:
        """End the wait, or the next one."""
        with self._lock:
            if not self._closed:
                os.eventfd_write(self.fd, 1)

    def clear(self) -> None:
        """Forget that it was set."""
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Free it; a second time does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self.fd)


class _Doorman(zmq.auth.thread.ThreadAuthenticator):
    """Lets in whose public key lies in the folder, and gives them the name of its file."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: ReceiverKeys) -> None:
        super().__init__(context, log=logging.getLogger(f"{__name__}.doorman"))
        self._keys = keys
        self.configure_curve_callback(_ZAP_DOMAIN.decode(), credentials_provider=self)

    def callback(self, domain: str, key: bytes) -> bool:
        """Return whether a public key, as Z85 text, is allowed."""
        name = self._keys.name_of(key)
        if name is None:
            logger.warning("refused a sender whose key is not in %s", self._keys.allowed)
        return name is not None

    def curve_user_id(self, client_public_key: bytes) -> str:
        """Return the name of an allowed sender."""
        return self._keys.name_of(z85.encode(client_public_key)) or ""


def count_and_warn(counts: Counter[str], what: str, number: int, warning: str) -> None:
    """Count, and warn at 1, 2, 4, 8 ...: a stranger must not fill the log."""
    before = counts[what]
    counts[what] += number
    if counts[what].bit_length() > before.bit_length():
        logger.warning("%s (%d so far)", warning, counts[what])


@contextmanager
def in_words(endpoint: str) -> Iterator[None]:
    """Say ZeroMQ's errors in ours."""
    try:
        yield
    except zmq.ZMQError as error:
        raise LinkError(
            f"{endpoint}: cannot be used: {error.strerror}; give another address or end the "
            "program that has it"
        ) from error


def _prepare(socket: zmq.Socket[bytes], endpoint: str, limit_bytes: int) -> None:
    options = {
        zmq.MAXMSGSIZE: limit_bytes,  # of one frame; a longer one ends the connection
        zmq.RCVHWM: _WAITING_MESSAGES,
        zmq.SNDHWM: _WAITING_MESSAGES,
        zmq.HEARTBEAT_IVL: _HEARTBEAT_MS,
        zmq.HEARTBEAT_TIMEOUT: _SILENCE_MS,
        zmq.HEARTBEAT_TTL: _SILENCE_MS,
        zmq.RECONNECT_IVL: _RECONNECT_MS,
        zmq.RECONNECT_IVL_MAX: _RECONNECT_MAX_MS,
        zmq.CONNECT_TIMEOUT: _SILENCE_MS,
        zmq.HANDSHAKE_IVL: _SILENCE_MS,
        zmq.IPV6: int("[" in endpoint),
    }
    for option, value in options.items():
        socket.setsockopt(option, value)


def _poller(*what: zmq.Socket[bytes] | int) -> zmq.Poller:
    poller = zmq.Poller()
    for one in what:
        poller.register(one, zmq.POLLIN)
    return poller
