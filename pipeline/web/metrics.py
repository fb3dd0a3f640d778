"""A live run in numbers: Prometheus metrics, and the small server that shows them.

metrics, health = LiveMetrics(), Health()
with MetricsServer("127.0.0.1", 9464, metrics.registry, health) as server:
    metrics.camera_changed(change)      # and so on, from any thread
"""

from __future__ import annotations

import hashlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gait.closing import Closing
from pipeline.errors import OutputError
from pipeline.latency import Latencies
from pipeline.live.overload import Level
from pipeline.live.status import LinkStatus
from pipeline.sinks.live import SinkCounts, is_loopback
from pipeline.sources.camera import CameraCounts
from pipeline.sources.camera_state import CameraState, Change
from pipeline.transport.superseding import QueueCounts
from pipeline.version import __version__
from pipeline.web.control import HttpControl
from pipeline.web.health import Answer, Health

logger = logging.getLogger(__name__)

_LONGEST_LABEL = 100
_MOST_REQUESTS = 8
_READ = ("/metrics", "/healthz", "/readyz")
_READ_TIMEOUT_S = 5.0
_REQUEST_TIMEOUT_S = 10.0


class LiveMetrics:
    """The metrics of a live run, told from any thread; docs/live-outputs.md lists them.

    Args:
        latencies: Where the latencies of the stages are counted; None makes an own one.
    """

    def __init__(self, latencies: Latencies | None = None) -> None:
        self.registry = CollectorRegistry()
        self.latencies = latencies or Latencies()
        self.registry.register(_LatencyCollector(self.latencies))
        ProcessCollector(registry=self.registry)  # memory, processor time, file descriptors
        self._totals: dict[tuple[Counter, tuple[str, ...]], int] = {}
        self._lock = threading.Lock()
        camera = ["camera"]
        self._state = self._gauge("camera_state", "1 for the state it is in", ["camera", "state"])
        self._age = self._gauge("frame_age_seconds", "Age of the newest processed frame", camera)
        self._people = self._gauge("people", "People in the newest frame", camera)
        self._stride = self._gauge("camera_stride", "Every how many frames one is used", camera)
        self._of_camera = {
            "decoded": self._counter("frames_decoded", "Frames a camera sent", camera),
            "taken": self._counter("frames_taken", "Frames that went into the models", camera),
            "dropped": self._counter("frames_dropped", "Frames newer ones replaced", camera),
            "damaged": self._counter("frames_damaged", "Packets that did not decode", camera),
            "connections": self._counter("camera_connections", "Times it became live", camera),
        }
        self._sightings = self._counter("sightings", "Sightings", camera)
        self._depth = self._gauge("queue_depth", "Tracklets that wait to be identified")
        self._of_queue = {
            "superseded": self._counter("windows_superseded", "Windows newer ones replaced"),
            "dropped": self._counter("windows_dropped", "Windows dropped without a newer one"),
            "lost_ends": self._counter("track_ends_lost", "Ends of tracks that were dropped"),
        }
        self._link_waiting = self._gauge("link_waiting", "Tracklets in the spool")
        self._link_age = self._gauge("link_waiting_seconds", "Age of the oldest in the spool")
        self._link_connected = self._gauge("link_connected", "1 when the other side is there")
        self._link_counts = self._counter("link", "What became of tracklets on the link", ["what"])
        self._overload = self._gauge(
            "overload_level", "0 calm, 1 identity lags, 2 strides, 3 frames drop"
        )
        sink = ["sink"]
        self._of_sink = {
            "written": self._counter("sink_written", "Events written", sink),
            "dropped": self._counter("sink_dropped", "Events a slow sink lost", sink),
            "refused": self._counter("sink_refused", "Events the other side refused", sink),
            "failures": self._counter("sink_failures", "Attempts that failed", sink),
        }
        self._sink_waiting = self._gauge("sink_waiting", "Events not written yet", sink)
        self._sink_failing = self._gauge("sink_failing", "1 when the last attempt failed", sink)
        self._gauge("threads", "Threads of the process").set_function(threading.active_count)
        self._gauge("build", "Always 1", ["version"]).labels(__version__).set(1)

    def camera_changed(self, change: Change) -> None:
        """A camera is in another state."""
        for state in CameraState:
            self._state.labels(label(change.camera), state.value).set(state is change.state)

    def camera_counts(self, name: str, counts: CameraCounts) -> None:
        """What a camera has done since it was added."""
        self._set_totals(self._of_camera, counts, label(name))

    def camera_frame(self, name: str, age_s: float, people: int) -> None:
        """How old a camera's newest processed frame is now, in seconds, and who is in it."""
        self._age.labels(label(name)).set(age_s)
        self._people.labels(label(name)).set(people)

    def camera_stride(self, name: str, stride: int) -> None:
        """Every how many frames of a camera one is used."""
        self._stride.labels(label(name)).set(stride)

    def camera_removed(self, name: str) -> None:
        """A camera is no longer asked for: its numbers go."""
        own = label(name)
        for state in CameraState:
            _remove(self._state, own, state.value)
        metrics: list[Gauge | Counter] = [self._age, self._people, self._stride, self._sightings]
        for metric in [*metrics, *self._of_camera.values()]:
            _remove(metric, own)
        with self._lock:
            for counter in self._of_camera.values():
                self._totals.pop((counter, (own,)), None)

    def sighting(self, camera: str) -> None:
        """Somebody was seen."""
        self._sightings.labels(label(camera)).inc()

    def queue(self, depth: int, counts: QueueCounts) -> None:
        """How many tracklets wait between perception and identity, and what became of others."""
        self._depth.set(depth)
        self._set_totals(self._of_queue, counts)

    def link(self, status: LinkStatus) -> None:
        """What the link to another process does."""
        self._link_waiting.set(status.waiting)
        self._link_age.set(status.waiting_s)
        self._link_connected.set(bool(status.is_connected))
        for what, total in status.counts.items():
            self._set_total(self._link_counts, total, what)

    def overload(self, level: Level) -> None:
        """What gives way now: 0 nothing, 1 identity, 2 fewer frames, 3 frames drop."""
        self._overload.set(list(Level).index(level))

    def sink(self, name: str, counts: SinkCounts) -> None:
        """What a sink has done so far."""
        own = label(name)
        self._set_totals(self._of_sink, counts, own)
        self._sink_waiting.labels(own).set(counts.waiting)
        self._sink_failing.labels(own).set(counts.error is not None)

    def _set_totals(self, counters: dict[str, Counter], counts: object, *labels: str) -> None:
        """Bring counters to totals that others keep; a smaller total began anew."""
        for field, counter in counters.items():
            self._set_total(counter, int(getattr(counts, field)), *labels)

    def _set_total(self, counter: Counter, total: int, *labels: str) -> None:
        with self._lock:
            before = self._totals.get((counter, labels), 0)
            self._totals[counter, labels] = total
        own = counter.labels(*labels) if labels else counter
        own.inc(total - before if total >= before else total)

    def _gauge(self, name: str, words: str, labels: list[str] | None = None) -> Gauge:
        return Gauge(f"trackletgait_{name}", words, labels or [], registry=self.registry)

    def _counter(self, name: str, words: str, labels: list[str] | None = None) -> Counter:
        return Counter(f"trackletgait_{name}", words, labels or [], registry=self.registry)


def _remove(metric: Gauge | Counter, *labels: str) -> None:
    with suppress(KeyError):  # there never was one
        metric.remove(*labels)


class _LatencyCollector(Collector):
    """Shows the histograms that are kept anyway, instead of keeping others."""

    def __init__(self, latencies: Latencies) -> None:
        self._latencies = latencies

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(
            "trackletgait_stage_latency_seconds", "How long each stage took", labels=["stage"]
        )
        for stage in self._latencies.stages:
            histogram = self._latencies.histogram(stage)
            buckets = [
                ("+Inf" if bound == float("inf") else f"{bound:.6g}", count)
                for bound, count in histogram.cumulative()
            ]
            family.add_metric([stage], buckets, histogram.sum_s)
        yield family


class MetricsServer(Closing):
    """Answers /metrics, /healthz and /readyz, a few requests at a time, none for long.

    For these it asks for no password: whoever reaches it sees the cameras' names and states.
    With a `control` it also answers /status and /control, to whom that lets.

    Args:
        host: Address to listen on.
        port: Port; 0 lets the system choose.
        registry: The metrics.
        health: Who knows how the run is.

    Raises:
        OutputError: The address cannot be used.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, health: Health) -> None:
        try:
            self._server = _Server(host, port, registry, health)
        except (OSError, OverflowError) as error:
            raise OutputError(
                f"metrics: cannot listen on {host}:{port}: {error}; choose another port"
            ) from error
        if not is_loopback(host):
            logger.warning("metrics: anybody who reaches %s:%d can read them", host, self.port)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="metrics", args=(0.2,), daemon=True
        )
        self._thread.start()

    def obey(self, control: HttpControl) -> None:
        """Answer commands from now on."""
        self._server.control = control

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening, and end the requests that are under way."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True
    request_queue_size = 16
    allow_reuse_address = True

    def __init__(self, host: str, port: int, registry: CollectorRegistry, health: Health) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.registry, self.health = registry, health
        self.control: HttpControl | None = None
        self._lock = threading.Lock()
        self._open: dict[socket.socket, float] = {}  # since when
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer's would look up the host's name, which takes seconds without a name server.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "localhost", int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            is_full = len(self._open) >= _MOST_REQUESTS
            if not is_full:
                self._open[request] = time.monotonic()
        if is_full:
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """End requests that take too long: who sends a byte now and then keeps no thread."""
        oldest_s = time.monotonic() - _REQUEST_TIMEOUT_S
        self._end(lambda since_s: since_s < oldest_s)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        self._end(lambda since_s: True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("metrics: a request broke off", exc_info=True)

    def _end(self, is_over: Callable[[float], bool]) -> None:
        with self._lock:
            for request, since_s in self._open.items():
                if is_over(since_s):
                    with suppress(OSError):  # it has ended by itself
                        request.shutdown(socket.SHUT_RDWR)  # its thread wakes, and closes it


class _Handler(BaseHTTPRequestHandler):
    timeout = _READ_TIMEOUT_S
    server: _Server
    server_version, sys_version = "trackletgait", ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._send_metrics()
        elif path == "/healthz":
            self._send_health(self.server.health.alive())
        elif path == "/readyz":
            self._send_health(self.server.health.ready())
        elif not self._is_controlled(path):
            more = b" (commands: /status and /control)" if self.server.control else b""
            self._send(404, "text/plain", b"expected /metrics, /healthz or /readyz" + more + b"\n")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        if self.path in _READ:
            self._send(405, "text/plain", b"expected GET\n", {"Allow": "GET, HEAD"})
        elif not self._is_controlled(self.path):
            self._send(404, "text/plain", b"expected /control of a run with control_http\n")

    def _is_controlled(self, path: str) -> bool:
        """Answer a command, if this is a path of one."""
        control = self.server.control
        if control is None or not control.has(path):
            return False
        reply = control.reply(self.command, path, self.headers, self.rfile)
        body = json.dumps(reply.body, ensure_ascii=False, allow_nan=False)
        encoded = body.encode("utf-8", "replace") + b"\n"
        self._send(reply.status, "application/json", encoded, reply.headers)
        return True

    def log_message(self, format: str, *args: object) -> None:
        logger.debug("metrics: %s", format % args)

    def _send_metrics(self) -> None:
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        self._send(200, content_type, encode(self.server.registry))

    def _send_health(self, answer: Answer) -> None:
        body = json.dumps(answer.body, indent=1).encode() + b"\n"
        self._send(200 if answer.is_good else 503, "application/json", body)

    def _send(
        self, status: int, content_type: str, body: bytes, more: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def label(name: str) -> str:
    """Return a name from outside as a label's value: printable, and not too long.

    Quotes, backslashes and newlines are escaped once more where the metrics are written.
    """
    shown = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in name
    )
    if len(shown) <= _LONGEST_LABEL:
        return shown
    return shown[:_LONGEST_LABEL] + "-" + hashlib.sha256(shown.encode()).hexdigest()[:8]
