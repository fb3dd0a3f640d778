"""Metrics and health over a real socket."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.errors import OutputError
from pipeline.live.overload import Level
from pipeline.sinks.live import SinkCounts
from pipeline.sources.camera import CameraCounts
from pipeline.sources.camera_state import CameraState, Change
from pipeline.transport.superseding import QueueCounts
from pipeline.web.health import Health
from pipeline.web.metrics import LiveMetrics, MetricsServer, label

LIVE = Change("gate", CameraState.LIVE, CameraState.CONNECTING)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def metrics() -> LiveMetrics:
    return LiveMetrics()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(turn_within_s=10, start_within_s=60, clock=clock)


@pytest.fixture
def server(metrics: LiveMetrics, health: Health) -> Iterator[MetricsServer]:
    with MetricsServer("127.0.0.1", 0, metrics.registry, health) as server:
        yield server


def get(server: MetricsServer, path: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{server.port}{path}", trust_env=False, timeout=30)


def value(server: MetricsServer, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(get(server, "/metrics").text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


def test_a_cameras_state_and_counts_are_shown(metrics: LiveMetrics, server: MetricsServer) -> None:
    metrics.camera_changed(LIVE)
    metrics.camera_counts("gate", CameraCounts(decoded=10, taken=7, dropped=3))
    metrics.camera_counts("gate", CameraCounts(decoded=12, taken=9, dropped=3))
    metrics.camera_frame("gate", 0.25, 2)
    metrics.camera_stride("gate", 3)
    name = "trackletgait_camera_state"
    assert value(server, name, camera="gate", state="live") == 1
    assert value(server, name, camera="gate", state="connecting") == 0
    assert value(server, "trackletgait_frames_decoded_total", camera="gate") == 12
    assert value(server, "trackletgait_frames_taken_total", camera="gate") == 9
    assert value(server, "trackletgait_frames_dropped_total", camera="gate") == 3
    assert value(server, "trackletgait_frame_age_seconds", camera="gate") == 0.25
    assert value(server, "trackletgait_people", camera="gate") == 2
    assert value(server, "trackletgait_camera_stride", camera="gate") == 3


def test_a_camera_that_began_anew_counts_on(metrics: LiveMetrics, server: MetricsServer) -> None:
    metrics.camera_counts("gate", CameraCounts(decoded=10))
    metrics.camera_counts("gate", CameraCounts(decoded=4))
    assert value(server, "trackletgait_frames_decoded_total", camera="gate") == 14


def test_a_removed_camera_leaves_no_numbers(metrics: LiveMetrics, server: MetricsServer) -> None:
    for name in ("gate", "door"):
        metrics.camera_changed(Change(name, CameraState.LIVE, CameraState.CONNECTING))
        metrics.camera_counts(name, CameraCounts(decoded=10))
        metrics.camera_frame(name, 0.1, 1)
        metrics.sighting(name)
    metrics.camera_removed("gate")
    metrics.camera_removed("never there")
    text = get(server, "/metrics").text
    assert "gate" not in text.replace("trackletgait", "")
    assert 'trackletgait_sightings_total{camera="door"} 1.0' in text


def test_a_sink_of_a_removed_camera_s_name_is_not_counted_twice(
    metrics: LiveMetrics, server: MetricsServer
) -> None:
    metrics.sink("gate", SinkCounts(written=3))
    metrics.camera_removed("gate")
    metrics.sink("gate", SinkCounts(written=4))
    assert value(server, "trackletgait_sink_written_total", sink="gate") == 4


def test_queue_overload_sinks_stages_and_the_process_are_shown(
    metrics: LiveMetrics, server: MetricsServer
) -> None:
    metrics.queue(5, QueueCounts(put=9, superseded=4))
    metrics.overload(Level.FEWER_FRAMES)
    metrics.sink("log", SinkCounts(written=3, dropped=2, waiting=1, error="full"))
    for seconds in (0.05, 0.15, 5.0):
        metrics.latencies.observe("capture to track", seconds)
    assert value(server, "trackletgait_queue_depth") == 5
    assert value(server, "trackletgait_windows_superseded_total") == 4
    assert value(server, "trackletgait_overload_level") == 2
    assert value(server, "trackletgait_sink_dropped_total", sink="log") == 2
    assert value(server, "trackletgait_sink_waiting", sink="log") == 1
    assert value(server, "trackletgait_sink_failing", sink="log") == 1
    stage = "trackletgait_stage_latency_seconds"
    assert value(server, f"{stage}_count", stage="capture to track") == 3
    assert value(server, f"{stage}_sum", stage="capture to track") == pytest.approx(5.2)
    assert value(server, f"{stage}_bucket", stage="capture to track", le="1") == 2
    assert (value(server, "process_resident_memory_bytes") or 0) > 1e6
    assert (value(server, "process_open_fds") or 0) > 0
    assert (value(server, "trackletgait_threads") or 0) > 1


@pytest.mark.parametrize(
    "name", ['a"} 1\nfake_metric 7', "back\\slash", "\udcff\x00\x1b[31m", "größe", "x" * 5000]
)
def test_a_hostile_name_stays_a_label(
    metrics: LiveMetrics, server: MetricsServer, name: str
) -> None:
    metrics.camera_changed(Change(name, CameraState.LIVE, CameraState.CONNECTING))
    own = label(name)
    assert value(server, "trackletgait_camera_state", camera=own, state="live") == 1
    assert value(server, "fake_metric") is None
    assert len(own) < 120


def test_two_long_names_stay_two() -> None:
    assert label("x" * 5000) != label("x" * 5001)


def test_healthz_follows_the_loop(health: Health, clock: Clock, server: MetricsServer) -> None:
    clock.now_s += 50  # models take their time
    assert get(server, "/healthz").status_code == 200
    health.models_loaded()
    clock.now_s += 9
    health.turned()
    clock.now_s += 9
    assert get(server, "/healthz").json() == {"alive": True, "since_turn_s": 9.0}
    clock.now_s += 2
    answer = get(server, "/healthz")
    assert answer.status_code == 503
    assert "not turned for 11 s" in answer.json()["why"]


def test_readyz_says_why_not_and_how_each_camera_is(
    health: Health, clock: Clock, server: MetricsServer
) -> None:
    assert get(server, "/readyz").json()["why"] == "the models are not loaded yet"
    health.models_loaded()
    assert get(server, "/readyz").json()["why"] == "there is no camera"
    health.camera_changed(
        Change("gate", CameraState.BACKING_OFF, CameraState.CONNECTING, "no answer", 2.0)
    )
    clock.now_s += 1.5
    answer = get(server, "/readyz")
    assert answer.status_code == 503
    assert answer.json()["why"] == "none of the 1 cameras is live"
    assert answer.json()["cameras"]["gate"] == {
        "state": "backing-off",
        "since_s": 1.5,
        "reason": "no answer",
        "retry_in_s": 2.0,
    }
    health.camera_changed(LIVE)
    assert get(server, "/readyz").status_code == 200
    health.camera_removed("gate")
    assert get(server, "/readyz").status_code == 503


def test_other_paths_and_verbs_are_refused(server: MetricsServer) -> None:
    assert get(server, "/etc/passwd").status_code == 404
    url = f"http://127.0.0.1:{server.port}/metrics"
    assert httpx.post(url, content=b"x", trust_env=False).status_code == 405
    head = httpx.head(url, trust_env=False)
    assert (head.status_code, head.content) == (200, b"")


def test_idle_connections_take_a_bounded_number_of_threads_and_only_for_a_while(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.web.metrics._REQUEST_TIMEOUT_S", 1.0)
    threads = set(threading.enumerate())
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(40)]
    try:
        time.sleep(0.5)
        assert len(set(threading.enumerate()) - threads) <= 8
        deadline_s = time.monotonic() + 30
        while True:  # a byte now and then does not keep them
            for each in idle:
                try:
                    each.send(b"G")
                except OSError:
                    continue
            try:
                if get(server, "/healthz").status_code == 200:
                    break
            except httpx.HTTPError:
                assert time.monotonic() < deadline_s
                time.sleep(0.1)
    finally:
        for each in idle:
            each.close()


def test_closing_ends_open_requests_at_once(
    metrics: LiveMetrics, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.web.metrics._Handler.timeout", 90.0)  # what an idle one has
    server = MetricsServer("127.0.0.1", 0, metrics.registry, health)
    with socket.create_connection(("127.0.0.1", server.port)) as idle:
        time.sleep(0.1)
        began_s = time.monotonic()
        server.close()
        server.close()
        assert time.monotonic() - began_s < 30
        idle.settimeout(30)
        assert idle.recv(1) == b""


def test_a_port_in_use_is_said(server: MetricsServer, metrics: LiveMetrics, health: Health) -> None:
    with pytest.raises(OutputError, match="choose another port"):
        MetricsServer("127.0.0.1", server.port, metrics.registry, health)


def test_answers_do_not_name_the_language_or_its_version(server: MetricsServer) -> None:
    assert "Python" not in get(server, "/healthz").headers["server"]
    assert json.loads(get(server, "/healthz").text)["alive"] is True
