"""How each sink of a live run is configured; `kind` says which it is.

sinks:
  - {kind: jsonl, path: events.jsonl}
  - {kind: webhook, url: "https://example.org/hook", secret: "${HOOK_SECRET}", events: [sighting]}
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator

from gait.strict import StrictModel
from pipeline.sinks.live import EVENT_KINDS, EventKind, LiveSink, SinkRunner


class _SinkConfig(StrictModel):
    """What all sinks share.

    Attributes:
        name: In the log and the metrics; null takes the kind. Two of a kind want names.
        events: Kinds of events to pass on. Fewer make less noise, at the price of not knowing.
        capacity: Events that may wait while the sink is slow or away. Higher bears longer outages,
            at the price of memory (about 2 KB each); beyond it the oldest are dropped.
    """

    name: str | None = Field(default=None, min_length=1, max_length=64)
    events: Annotated[tuple[EventKind, ...], Field(strict=False, min_length=1)] = EVENT_KINDS
    capacity: int = Field(default=1000, ge=1, le=1_000_000)

    @abstractmethod
    def build(self) -> LiveSink:
        """Return the sink.

        Raises:
            ConfigError: It can never work as configured.
            OutputError: Its file or address cannot be opened.
        """

    def start(self) -> SinkRunner:
        """Return the sink in a thread of its own; the caller closes it.

        Raises:
            ConfigError: It can never work as configured.
            OutputError: Its file or address cannot be opened.
        """
        kind: str = getattr(self, "kind")  # noqa: B009  (each subclass has its own literal)
        return SinkRunner(self.build(), self.name or kind, self.capacity, self.events)


class JsonlSinkConfig(_SinkConfig):
    """Events as lines of a file.

    Attributes:
        kind: "jsonl".
        path: The file.
        rotate_mb: Megabytes from which a new file begins. Higher makes fewer files, at the price
            of larger ones; null never begins a new one for its size.
        daily: Begin a new file each day (UTC). More files, each of which is one day.
        keep: Full files that stay. Higher remembers longer, at the price of disk.
        fsync: Wait for the disk after each batch. A power cut then loses nothing written, at the
            price of milliseconds a batch.
    """

    kind: Literal["jsonl"] = "jsonl"
    path: str
    rotate_mb: float | None = Field(default=100.0, gt=0)
    daily: bool = False
    keep: int = Field(default=10, ge=1, le=100_000)
    fsync: bool = False

    def build(self) -> LiveSink:
        """Return the sink; OutputError when the file cannot be made."""
        from pipeline.sinks.jsonl import JsonlSink

        return JsonlSink(
            Path(self.path),
            rotate_bytes=None if self.rotate_mb is None else max(1, round(self.rotate_mb * 1e6)),
            is_daily=self.daily,
            keep=self.keep,
            is_synced=self.fsync,
        )


class SqliteSinkConfig(_SinkConfig):
    """Events as rows of a SQLite file.

    Attributes:
        kind: "sqlite".
        path: The file.
        keep_days: Days after which rows are removed. Higher remembers longer, at the price of disk
            and of holding data about people longer; null keeps all.
        fsync: Wait for the disk after each batch. A power cut then loses nothing written, at the
            price of milliseconds a batch.
    """

    kind: Literal["sqlite"] = "sqlite"
    path: str
    keep_days: float | None = Field(default=None, gt=0)
    fsync: bool = False

    def build(self) -> LiveSink:
        """Return the sink; OutputError when the file cannot be opened."""
        from pipeline.sinks.sqlite_sink import SqliteSink

        return SqliteSink(Path(self.path), keep_days=self.keep_days, is_synced=self.fsync)


class ZmqSinkConfig(_SinkConfig):
    """Events to ZeroMQ subscribers.

    Attributes:
        kind: "zmq".
        bind: Where subscribers connect: tcp://host:port or ipc:///path.
        backlog: Events kept for each slow subscriber. Higher bears slower ones, at the price of
            memory for each.
        secret_key: File of our own key (`trackletgait keys`); turns on encryption.
        client_keys: Folder with the .pub files of those who may subscribe; goes with secret_key.
        insecure: Publish in the clear where others can listen. Simpler, at the price of telling
            everybody on the network who was where.
    """

    kind: Literal["zmq"] = "zmq"
    bind: str = "tcp://127.0.0.1:5556"
    backlog: int = Field(default=1000, ge=1, le=1_000_000)
    secret_key: str | None = None
    client_keys: str | None = None
    insecure: bool = False

    @model_validator(mode="after")
    def _keys_come_together(self) -> ZmqSinkConfig:
        if (self.secret_key is None) != (self.client_keys is None):
            raise ValueError("secret_key and client_keys go together: give both or neither")
        return self

    def build(self) -> LiveSink:
        """Return the sink; ConfigError without keys off loopback, OutputError if in use."""
        from pipeline.sinks.zmq_pub import ZmqSink
        from pipeline.transport.keys import ReceiverKeys

        keys = None
        if self.secret_key is not None and self.client_keys is not None:
            keys = ReceiverKeys.read(Path(self.secret_key), Path(self.client_keys))
        return ZmqSink(self.bind, backlog=self.backlog, keys=keys, is_insecure=self.insecure)


class MqttSinkConfig(_SinkConfig):
    """Events to an MQTT broker.

    Attributes:
        kind: "mqtt".
        host: The broker.
        port: Null takes 8883 with TLS and 1883 without.
        user: Our name there.
        password: Best as "${MQTT_PASSWORD}"; never printed.
        tls: Encrypt, and check the broker's certificate.
        ca_file: The authority to trust instead of the system's.
        cert_file: Our certificate, where the broker wants one.
        key_file: Its private key.
        client_id: Under which the broker knows us; two programs must not share one.
        topic: With {kind} and {camera}.
        status_topic: Holds "online" or "offline".
        timeout_s: How long the broker may take to acknowledge a batch. Higher bears a slow
            network, at the price of noticing a dead one later.
        insecure: Let a password travel in the clear off this machine.
    """

    kind: Literal["mqtt"] = "mqtt"
    host: str = Field(min_length=1)
    port: int | None = Field(default=None, ge=1, le=65535)
    user: str | None = None
    password: SecretStr | None = None
    tls: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    client_id: str = ""
    topic: str = "trackletgait/{kind}/{camera}"
    status_topic: str = "trackletgait/status"
    timeout_s: float = Field(default=10.0, gt=0, le=300)
    insecure: bool = False

    def build(self) -> LiveSink:
        """Return the sink, which connects with its first event; ConfigError if it never could."""
        from pipeline.sinks.mqtt import Broker, MqttSink

        broker = Broker(
            host=self.host,
            port=self.port or (8883 if self.tls else 1883),
            user=self.user,
            password=_secret(self.password),
            is_encrypted=self.tls,
            ca_file=self.ca_file,
            cert_file=self.cert_file,
            key_file=self.key_file,
            client_id=self.client_id,
            is_insecure=self.insecure,
        )
        return MqttSink(
            broker, topic=self.topic, status_topic=self.status_topic, timeout_s=self.timeout_s
        )


class WebhookSinkConfig(_SinkConfig):
    """Events to a web server.

    Attributes:
        kind: "webhook".
        url: Where to POST; never printed, for it may hold a token.
        secret: Key of the signature, best as "${HOOK_SECRET}"; null posts unsigned.
        headers: Further headers, such as `Authorization: "Bearer ${TOKEN}"`; never printed.
        timeout_s: Longest wait for the server. Higher bears a slow one, at the price of noticing a
            dead one later.
    """

    kind: Literal["webhook"] = "webhook"
    url: SecretStr
    secret: SecretStr | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    timeout_s: float = Field(default=10.0, gt=0, le=300)

    def build(self) -> LiveSink:
        """Return the sink; ConfigError when the url is no web address."""
        from pipeline.sinks.webhook import WebhookSink

        return WebhookSink(
            self.url.get_secret_value(),
            secret=_secret(self.secret),
            timeout_s=self.timeout_s,
            headers={name: value.get_secret_value() for name, value in self.headers.items()},
        )


LiveSinkConfig = Annotated[
    JsonlSinkConfig | SqliteSinkConfig | ZmqSinkConfig | MqttSinkConfig | WebhookSinkConfig,
    Field(discriminator="kind"),
]


def _secret(text: SecretStr | None) -> str | None:
    return None if text is None else text.get_secret_value()
