"""Events to whoever listens, over ZeroMQ PUB: two parts a message, the topic and the JSON."""

from __future__ import annotations

from collections.abc import Sequence

import zmq
from zmq.auth.thread import ThreadAuthenticator

from gait.closing import Closing
from pipeline.errors import ConfigError, OutputError
from pipeline.sinks.live import Event, is_loopback
from pipeline.transport.keys import ReceiverKeys

_LINGER_MS = 500


class ZmqSink(Closing):
    """Publishes each event under its kind; who does not keep up loses events, nobody else does.

    Args:
        address: Where to bind, such as "tcp://127.0.0.1:5556" or "ipc:///run/events".
        backlog: Events kept for each subscriber that is slow.
        keys: Ours and those of who may listen; None publishes in the clear.
        is_insecure: Whether to publish in the clear where others can listen.

    Raises:
        ConfigError: In the clear off loopback.
        OutputError: The address cannot be bound.
    """

    def __init__(
        self,
        address: str,
        *,
        backlog: int = 1000,
        keys: ReceiverKeys | None = None,
        is_insecure: bool = False,
    ) -> None:
        if keys is None and not is_insecure and not _is_private(address):
            raise ConfigError(
                f"zmq {address}: expected keys, as others can listen there: make a pair with "
                "`trackletgait keys` and set secret_key and client_keys, or set insecure: true"
            )
        self._address = address
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._authenticator: ThreadAuthenticator | None = None
        try:
            self._socket.linger = _LINGER_MS
            self._socket.sndhwm = backlog
            self._socket.ipv6 = "[" in address
            if keys is not None:
                self._encrypt(keys)
            self._socket.bind(address)
        except zmq.ZMQError as error:
            self.close()
            raise OutputError(f"zmq {address}: cannot be bound: {error}") from error

    @property
    def endpoint(self) -> str:
        """Where it is bound, with the port that the system chose for `tcp://127.0.0.1:*`."""
        return self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def write(self, events: Sequence[Event]) -> None:
        """Publish the events; never waits for a subscriber.

        Raises:
            OutputError: The socket is gone.
        """
        try:
            for event in events:
                self._socket.send_multipart([event.kind.encode(), event.as_bytes()])
        except zmq.ZMQError as error:
            raise OutputError(f"zmq {self._address}: cannot publish: {error}") from error

    def close(self) -> None:
        """Send what is on its way for half a second more, then close."""
        self._socket.close()
        if self._authenticator is not None:
            self._authenticator.stop()
            self._authenticator = None
        self._context.term()

    def _encrypt(self, keys: ReceiverKeys) -> None:
        self._authenticator = ThreadAuthenticator(self._context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback("*", _Allowed(keys))
        self._socket.curve_publickey = keys.own.public
        self._socket.curve_secretkey = keys.own.secret
        self._socket.curve_server = True


class _Allowed:
    """Asked by ZeroMQ, in its thread, who may listen."""

    def __init__(self, keys: ReceiverKeys) -> None:
        self._keys = keys

    def callback(self, domain: str, key: bytes) -> bool:
        """Return whether the owner of a public key may."""
        return self._keys.name_of(key) is not None


def _is_private(address: str) -> bool:
    scheme, _, rest = address.partition("://")
    return scheme in ("ipc", "inproc") or is_loopback(rest.rpartition(":")[0])
