"""What may be written of live cameras, and that no password is ever shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.live.config import config_of_addresses, load_live_config

NASTY = "p@s:s/w#o?r%d"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cameras: {gate: {url: x, stal_s: 1}}", r"cameras\.gate\.stal_s: unknown key .*stall_s"),
        ("cameras: {gate: {}}", r"cameras\.gate\.url"),
        ("cameras: {gate: 5}", r"cameras\.gate"),
        ("cameras: {'../gate': x}", "expected a camera's name"),
        ("cameras: {gate: 'rtsp://u:${NOT_THERE}@h/'}", r"cameras\.gate\.url: .*NOT_THERE"),
        ("cameras: {gate: 'rtsp://u:hun@ter22/a@h/'}", r"cameras\.gate\.url: .*several"),
        ("camera: {}", "unknown key .*cameras"),
        ("sinks: [{kind: webhok}]", "did you mean webhook"),
        ("sinks: [{kind: zmq}, {kind: zmq}]", "name of its own for each sink, got 'zmq' twice"),
        ("sinks: [{kind: zmq, name: events.jsonl}]", "got 'events.jsonl' twice"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_camera_and_no_secret(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "live.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as error:
        load_live_config(path)
    assert "ter22" not in str(error.value)


def test_what_is_shown_of_a_configuration_has_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATE", NASTY)
    monkeypatch.setenv("HOOK", "hook-secret")
    path = tmp_path / "live.yaml"
    path.write_text(
        "cameras: {gate: 'rtsp://guard:${GATE}@h/s', yard: 'rtsp://guard:written@h/s'}\n"
        "sinks: [{kind: webhook, url: 'https://h/x?token=tok-in-url', secret: '${HOOK}'}]\n"
    )
    config = load_live_config(path)
    shown = json.dumps(config.shown()) + repr(config.secrets is None)
    for secret in (NASTY, "written", "hook-secret", "tok-in-url"):
        assert secret not in shown
        assert any(secret in each for each in config.secrets())
    assert config.cameras["gate"].url == "rtsp://guard:${GATE}@h/s"


def test_what_authorises_is_a_secret_under_any_name(tmp_path: Path) -> None:
    path = tmp_path / "live.yaml"
    path.write_text("control: {Authorization: Basic hunter22}")
    with pytest.raises(ConfigError, match="expected a valid string") as error:
        load_live_config(path)
    assert "hunter22" not in str(error.value)


@pytest.mark.parametrize("scheme", ["rstp", "RTSPX"])
def test_a_mistyped_scheme_is_refused_before_anything_runs(scheme: str) -> None:
    with pytest.raises(ConfigError, match=rf"got {scheme}:// \(did you mean rtsp"):
        config_of_addresses([f"{scheme}://guard:hunter22@h/s"])


def test_a_password_may_lie_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "live.yaml"
    path.write_text("cameras: {gate: {url: 'rtsp://guard@h/s', password_file: /run/secrets/gate}}")
    config = load_live_config(path)
    assert config.cameras["gate"].password_file == Path("/run/secrets/gate")
    assert "/run/secrets/gate" in json.dumps(config.shown())


def test_cameras_without_names_are_called_by_host_or_file() -> None:
    config = config_of_addresses(["rtsp://u:pw@10.0.0.7/a", "rtsp://10.0.0.7/b", "clips/x y.mp4"])
    assert list(config.cameras) == ["10.0.0.7", "10.0.0.7-2", "x y"]


def test_the_example_file_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE_PASSWORD", NASTY)
    path = Path(__file__).resolve().parents[3] / "configs" / "pipeline" / "cameras.yaml"
    assert load_live_config(path).cameras
