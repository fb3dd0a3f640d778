"""Events to a real broker (mosquitto), which is stopped, killed and started again."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from pipeline.errors import ConfigError, OutputError
from pipeline.sinks.live import Event, SinkRunner
from pipeline.sinks.mqtt import Broker, MqttSink

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="needs mosquitto")


def event(number: int = 0, camera: str = "gate") -> Event:
    return Event("camera", 1.0e9, {"camera": camera, "number": number})


def until(is_so: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline_s, "it never came to be"
        time.sleep(0.02)


class Mosquitto:
    """A broker on loopback that can be killed and started again; it keeps what is retained."""

    def __init__(self, folder: Path, *more: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", *(more or ("allow_anonymous true",))]
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        assert MOSQUITTO is not None
        self._process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(self._is_up)

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _is_up(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 0.5).close()
        except OSError:
            return False
        return True


class Subscriber:
    """Keeps every message of a broker."""

    def __init__(self, port: int, user: str | None = None, password: str | None = None) -> None:
        self.messages: list[tuple[str, bytes, bool]] = []
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set(user, password)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_message = self._on_message
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(30)

    def _on_message(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        self.messages.append((message.topic, message.payload, message.retain))

    def again(self) -> None:
        self._subscribed.clear()

    def wait(self) -> None:
        assert self._subscribed.wait(30)

    @property
    def numbers(self) -> list[int]:
        return [
            json.loads(payload)["content"]["number"]
            for topic, payload, _ in self.messages
            if topic != "trackletgait/status"
        ]

    @property
    def statuses(self) -> list[bytes]:
        return [payload for topic, payload, _ in self.messages if topic == "trackletgait/status"]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path)
    yield broker
    broker.kill()


@pytest.fixture
def subscriber(broker: Mosquitto) -> Iterator[Subscriber]:
    subscriber = Subscriber(broker.port)
    yield subscriber
    subscriber.close()


@needs_broker
def test_events_arrive_under_their_topic_and_the_status_says_online_then_offline(
    broker: Mosquitto, subscriber: Subscriber
) -> None:
    with MqttSink(Broker("127.0.0.1", broker.port)) as sink:
        sink.write([event(1), event(2, "a/b+#%")])
        until(lambda: len(subscriber.numbers) == 2)
    topics = [topic for topic, _, _ in subscriber.messages if "camera" in topic]
    assert topics == ["trackletgait/camera/gate", "trackletgait/camera/a%2Fb%2B%23%25"]
    assert subscriber.numbers == [1, 2]
    until(lambda: len(subscriber.statuses) == 2)
    assert subscriber.statuses == [b"online", b"offline"]


@needs_broker
def test_the_broker_itself_says_offline_when_we_vanish(
    broker: Mosquitto, subscriber: Subscriber
) -> None:
    sink = MqttSink(Broker("127.0.0.1", broker.port))
    sink.write([event()])
    connection = sink._client.socket()
    assert connection is not None
    connection.shutdown(socket.SHUT_RDWR)  # as if the network went
    until(lambda: b"offline" in subscriber.statuses)
    sink.close()


@needs_broker
def test_nothing_is_lost_when_the_broker_dies_and_comes_back(
    broker: Mosquitto, subscriber: Subscriber
) -> None:
    runner = SinkRunner(MqttSink(Broker("127.0.0.1", broker.port), timeout_s=2), "mqtt")
    for number in range(20):
        runner.put(event(number))
    until(lambda: len(subscriber.numbers) == 20)
    subscriber.again()
    broker.kill()
    for number in range(20, 150):
        runner.put(event(number))
        time.sleep(0.001)
    broker.start()
    subscriber.wait()
    until(lambda: runner.counts.written == 150, within_s=60)
    runner.close()
    until(lambda: len(set(subscriber.numbers)) >= 100)
    # Written says that the broker had them; this subscriber, without a session of its own, was
    # itself away for a moment.
    assert runner.counts.dropped == 0


@needs_broker
def test_what_was_on_its_way_when_the_broker_died_is_sent_again(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    runner = SinkRunner(MqttSink(Broker("127.0.0.1", broker.port), timeout_s=1), "mqtt")
    runner.put(event(0))
    until(lambda: runner.counts.written == 1)
    broker.freeze()
    for number in range(1, 41):  # more than the client has on its way at once
        runner.put(event(number))
    until(lambda: "no acknowledgement within 1 s" in caplog.text)
    broker.kill()
    broker.start()
    until(lambda: runner.counts.written == 41, within_s=60)
    runner.close()


@needs_broker
def test_a_wrong_password_is_told_and_never_printed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "us", "right"], check=True)
    passwords.chmod(0o644)
    tmp_path.chmod(0o755)
    broker = Mosquitto(tmp_path, "allow_anonymous false", f"password_file {passwords}", "user root")
    caplog.set_level(0)
    try:
        with (
            MqttSink(Broker("127.0.0.1", broker.port, "us", "s3cr3t-wrong")) as sink,
            pytest.raises(OutputError, match=r"refuses us: .*uthori") as caught,
        ):
            sink.write([event()])
        assert "s3cr3t" not in caplog.text + str(caught.value) + repr(sink._broker)
        with MqttSink(Broker("127.0.0.1", broker.port, "us", "right")) as sink:
            sink.write([event()])
    finally:
        broker.kill()


@needs_broker
def test_tls_checks_the_brokers_certificate(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    broker = Mosquitto(
        tmp_path, "allow_anonymous true", f"certfile {certificate}", f"keyfile {key}", "user root"
    )
    try:
        trusted = Broker("127.0.0.1", broker.port, is_encrypted=True, ca_file=str(certificate))
        with MqttSink(trusted) as sink:
            sink.write([event()])
        with (
            MqttSink(Broker("127.0.0.1", broker.port, is_encrypted=True)) as sink,
            pytest.raises(OutputError, match="certificate verify failed"),
        ):
            sink.write([event()])
    finally:
        broker.kill()


def test_a_broker_that_is_away_is_an_error_and_closing_does_not_hang() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sink = MqttSink(Broker("127.0.0.1", port))
    with pytest.raises(OutputError, match="refused"):
        sink.write([event()])
    began_s = time.monotonic()
    sink.close()
    sink.close()
    assert time.monotonic() - began_s < 20


def test_a_broker_that_never_answers_does_not_hang_the_sink_forever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.sinks.mqtt._CONNECT_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sink = MqttSink(Broker("127.0.0.1", silent.getsockname()[1]))
        began_s = time.monotonic()
        with pytest.raises(OutputError, match="no connection"):
            sink.write([event()])
        assert time.monotonic() - began_s < 20
        sink.close()


def test_a_password_does_not_travel_in_the_clear_off_this_machine() -> None:
    with pytest.raises(ConfigError, match="tls: true"):
        MqttSink(Broker("broker.example", 1883, "us", "secret"))
    MqttSink(Broker("broker.example", 1883, "us", "secret", is_insecure=True)).close()


@pytest.mark.parametrize("topic", ["{identity}/x", "a/#", "", "{", "a/{kind.__class__}"])
def test_a_topic_that_cannot_be_used_is_refused(topic: str) -> None:
    with pytest.raises(ConfigError, match="mqtt topic"):
        MqttSink(Broker("127.0.0.1"), topic=topic)


def test_a_certificate_that_is_missing_is_said() -> None:
    with pytest.raises(ConfigError, match="certificates"):
        MqttSink(Broker("127.0.0.1", is_encrypted=True, ca_file="/nowhere.pem"))
