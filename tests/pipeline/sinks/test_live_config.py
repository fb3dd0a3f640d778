"""Every sink can be written down, and its secrets are not shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gait.errors import ConfigError
from gait.strict import StrictModel
from gait.yaml_config import load_yaml
from pipeline.sinks.jsonl import JsonlSink
from pipeline.sinks.live import Event
from pipeline.sinks.live_config import LiveSinkConfig
from pipeline.sinks.mqtt import MqttSink
from pipeline.sinks.sqlite_sink import SqliteSink
from pipeline.sinks.webhook import WebhookSink
from pipeline.sinks.zmq_pub import ZmqSink
from pipeline.transport.keys import make_keys


class Sinks(StrictModel):
    sinks: list[LiveSinkConfig]


def load(tmp_path: Path, text: str) -> list[LiveSinkConfig]:
    path = tmp_path / "sinks.yaml"
    path.write_text(f"sinks:\n  - {text}\n")
    return load_yaml(Sinks, path).sinks


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{kind: jsonl, path: FOLDER/e.jsonl, daily: true, rotate_mb: 1}", JsonlSink),
        ("{kind: sqlite, path: FOLDER/e.db, keep_days: 30}", SqliteSink),
        ("{kind: zmq, bind: 'tcp://127.0.0.1:*'}", ZmqSink),
        ("{kind: mqtt, host: broker.example, tls: true, user: us, password: x}", MqttSink),
        ("{kind: webhook, url: 'https://host.example/x', secret: x}", WebhookSink),
    ],
)
def test_each_kind_builds_its_sink(tmp_path: Path, text: str, expected: type[object]) -> None:
    (config,) = load(tmp_path, text.replace("FOLDER", str(tmp_path)))
    sink = config.build()
    sink.close()
    assert isinstance(sink, expected)


def test_a_configured_sink_runs_and_takes_only_its_kinds(tmp_path: Path) -> None:
    text = f"{{kind: jsonl, name: log, path: {tmp_path}/e.jsonl, events: [camera]}}"
    with load(tmp_path, text)[0].start() as runner:
        runner.put(Event("camera", 1.0, {"camera": "gate"}))
        runner.put(Event("overload", 1.0, {}))
    assert runner.name == "log"
    (line,) = (tmp_path / "e.jsonl").read_text().splitlines()
    assert json.loads(line)["kind"] == "camera"


def test_secrets_come_from_the_environment_and_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_SECRET", "s3cr3t: #{}")
    text = (
        "{kind: webhook, url: 'https://host/${THE_SECRET}', secret: '${THE_SECRET}', "
        "headers: {X-Key: '${THE_SECRET}'}}\n"
        "  - {kind: mqtt, host: localhost, user: us, password: '${THE_SECRET}'}"
    )
    webhook, mqtt = load(tmp_path, text)
    assert webhook.secret.get_secret_value() == "s3cr3t: #{}"
    for config in (webhook, mqtt):
        assert "s3cr3t" not in repr(config) + config.model_dump_json()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{kind: smoke-signal}", "jsonl"),
        ("{kind: jsonl, path: x, events: [gossip]}", "sighting"),
        ("{kind: jsonl, path: x, events: []}", "events"),
        ("{kind: jsonl, path: x, rotate: 5}", "rotate_mb"),
        ("{kind: zmq, secret_key: x}", "go together"),
    ],
)
def test_what_cannot_be_is_refused_with_words(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(tmp_path, text)


def test_zmq_keys_come_from_files(tmp_path: Path) -> None:
    own, _ = make_keys("server", tmp_path)
    text = f"{{kind: zmq, bind: 'tcp://*:*', secret_key: {own}, client_keys: {tmp_path}}}"
    sink = load(tmp_path, text)[0].build()
    sink.close()
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, text.replace(str(own), "nowhere.key"))[0].build()
