"""Events to an MQTT broker, each acknowledged (QoS 1)."""

from __future__ import annotations

import ssl
import string
import sys
import threading
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gait.closing import Closing
from pipeline.errors import ConfigError, OutputError
from pipeline.sinks.live import Event, is_loopback

TOPIC_FIELDS = ("kind", "camera")

_CONNECT_TIMEOUT_S = 5.0
_LONGEST_RECONNECT_S = 10


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is and who we are to it.

    Attributes:
        host: Its name or address.
        port: Its port.
        user: Our name there; None for none.
        password: Never printed.
        is_encrypted: Whether to use TLS, checking the broker's certificate.
        ca_file: The authority to trust instead of the system's.
        cert_file: Our certificate, where the broker wants one.
        key_file: Its private key.
        client_id: Under which the broker knows us; empty lets it choose.
        is_insecure: Whether a password may travel in the clear off this machine.
    """

    host: str
    port: int = 1883
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    is_encrypted: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    client_id: str = ""
    is_insecure: bool = False


class MqttSink(Closing):
    """Publishes each event and waits until the broker has it.

    `<status_topic>` holds "online" while the sink is connected and "offline" otherwise, for the
    broker itself says so (last will) when the process or the network dies.

    Args:
        broker: Where it is.
        topic: Such as "trackletgait/{kind}/{camera}"; what would change the topic's levels in a
            camera's name is percent-encoded.
        status_topic: Where it says whether it is there.
        timeout_s: How long the broker may take to acknowledge.

    Raises:
        ConfigError: The topic has unknown fields, a certificate cannot be read, or a password
            would travel in the clear.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        topic: str = "trackletgait/{kind}/{camera}",
        status_topic: str = "trackletgait/status",
        timeout_s: float = 10.0,
    ) -> None:
        if broker.password and not (
            broker.is_encrypted or broker.is_insecure or is_loopback(broker.host)
        ):
            raise ConfigError(
                f"mqtt {broker.host}: expected tls: true, as the password would travel in the "
                "clear; or set insecure: true"
            )
        self._where = f"mqtt {broker.host}:{broker.port}"
        self._broker = broker
        self._topic = checked_topic(topic)
        self._status_topic = status_topic
        self._timeout_s = timeout_s
        self._sent: dict[str, int] = {}  # uid to the number under which it is on its way
        self._changed = threading.Condition()
        self._acknowledged: set[int] = set()
        self._is_connected = False
        self._trouble: str | None = None
        self._is_started = False
        self._client = self._built()

    def write(self, events: Sequence[Event]) -> None:
        """Publish the events and wait for the broker's acknowledgements.

        Raises:
            OutputError: The broker is away, refuses us, or does not answer in time. What was on
                its way is not sent anew by the next call, only waited for.
        """
        self._connect()
        uids = [event.uid for event in events]
        with self._changed:
            self._sent = {uid: mid for uid, mid in self._sent.items() if uid in uids}
            if not self._sent:
                self._acknowledged.clear()
        for event in events:
            if event.uid not in self._sent:
                self._sent[event.uid] = self._publish(self._topic_of(event), event.as_bytes())
        self._await(self._sent.values(), self._timeout_s)
        self._sent.clear()

    def close(self) -> None:
        """Say goodbye to the broker."""
        if not self._is_started:
            return
        self._is_started = False
        if self._is_connected:
            # When the broker does not hear it, its last will says the same.
            with suppress(OutputError):
                self._await([self._publish(self._status_topic, "offline", is_kept=True)], 1.0)
        self._client.disconnect()
        self._client.loop_stop()

    def _built(self) -> Client:
        broker = self._broker
        client = Client(CallbackAPIVersion.VERSION2, client_id=broker.client_id)
        client.username_pw_set(broker.user, broker.password)
        client.will_set(self._status_topic, "offline", qos=1, retain=True)
        client.reconnect_delay_set(1, _LONGEST_RECONNECT_S)
        client.connect_timeout = _CONNECT_TIMEOUT_S
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        if broker.is_encrypted:
            try:
                client.tls_set(broker.ca_file, broker.cert_file, broker.key_file)
            except (OSError, ValueError, ssl.SSLError) as error:
                raise ConfigError(f"{self._where}: cannot use the certificates: {error}") from error
        return client

    def _connect(self) -> None:
        """Wait for the connection, which the client's own thread makes and makes again."""
        if not self._is_started:
            self._client.connect_async(self._broker.host, self._broker.port, keepalive=30)
            self._client.loop_start()
            self._is_started = True
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_connected or self._trouble is not None, _CONNECT_TIMEOUT_S
            )
            if not self._is_connected:
                raise OutputError(f"{self._where}: {self._trouble or 'no connection'}")

    def _publish(self, topic: str, payload: bytes | str, *, is_kept: bool = False) -> int:
        """Hand a message to the client, also while it is not connected; return its number."""
        info = self._client.publish(topic, payload, qos=1, retain=is_kept)
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            raise OutputError(f"{self._where}: too many messages wait for the broker")
        return info.mid

    def _await(self, numbers: Collection[int], timeout_s: float) -> None:
        with self._changed:
            if not self._changed.wait_for(
                lambda: self._acknowledged.issuperset(numbers), timeout_s
            ):
                raise OutputError(f"{self._where}: no acknowledgement within {timeout_s:g} s")

    def _topic_of(self, event: Event) -> str:
        return self._topic.format(kind=event.kind, camera=quote(event.subject, safe=" "))

    def _note(self, trouble: str | None) -> None:
        """Note how an attempt to connect went; None says well."""
        with self._changed:
            self._trouble, self._is_connected = trouble, trouble is None
            self._changed.notify_all()

    def _on_connect(
        self,
        client: Client,
        userdata: Any,
        flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._note(f"the broker refuses us: {reason}")
            return
        # QoS 0: a connection that flaps must not fill the client's queue with these.
        client.publish(self._status_topic, "online", qos=0, retain=True)
        self._note(None)

    def _on_connect_fail(self, client: Client, userdata: Any) -> None:
        # Called while the error is being handled, and not told of it.
        self._note(f"no connection: {sys.exc_info()[1] or 'the reason is not known'}")

    def _on_disconnect(
        self,
        client: Client,
        userdata: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        with self._changed:
            self._is_connected = False  # the reason came before, or the next attempt will tell it

    def _on_publish(
        self, client: Client, userdata: Any, mid: int, reason: ReasonCode, properties: Properties
    ) -> None:
        with self._changed:
            self._acknowledged.add(mid)
            self._changed.notify_all()


def checked_topic(topic: str) -> str:
    """Return a topic template if it can be used.

    Raises:
        ConfigError: It has fields we do not know, or wildcards.
    """
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(topic) if name is not None}
    except ValueError as error:
        raise ConfigError(f"mqtt topic {topic!r}: {error}") from error
    if unknown := fields - set(TOPIC_FIELDS):
        raise ConfigError(
            f"mqtt topic {topic!r}: expected the fields {', '.join(TOPIC_FIELDS)}, "
            f"got {', '.join(sorted(unknown))}"
        )
    if not topic or set(topic) & set("+#\0"):
        raise ConfigError(f"mqtt topic {topic!r}: expected a topic without + and #")
    return topic
