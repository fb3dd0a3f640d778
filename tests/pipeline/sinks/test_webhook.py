"""Events to a real web server that fails, hangs, redirects and lies."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.errors import ConfigError, OutputError
from pipeline.sinks.live import Event, EventsRefusedError, SinkRunner, TryLaterError
from pipeline.sinks.webhook import WebhookSink, signature

SECRET = "s3cr3t-key"
TOKEN = "t0k3n-in-path"


def event(number: int = 0) -> Event:
    return Event("camera", 1.0e9, {"camera": "gate", "number": number, "words": "größe"})


class Hook:
    """A server whose answers a test chooses: (status, headers, seconds before the answer)."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str], float]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.requests.append((self.path, dict(self.headers), body))
                status, headers, wait_s = hook.answers.pop(0) if hook.answers else (204, {}, 0)
                time.sleep(wait_s)
                self.send_response(status)
                for name, value in {"Content-Length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/{TOKEN}?key={TOKEN}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.close()


@pytest.fixture
def sink(hook: Hook) -> Iterator[WebhookSink]:
    with WebhookSink(hook.url, secret=SECRET, timeout_s=30, clock=lambda: 2.0e9) as sink:
        yield sink


def until(is_so: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline_s, "it never came to be"
        time.sleep(0.01)


def test_a_batch_is_posted_with_a_signature_that_the_receiver_can_check(
    hook: Hook, sink: WebhookSink
) -> None:
    sink.write([event(1), event(2)])
    (path, headers, body) = hook.requests[0]
    assert path == f"/{TOKEN}?key={TOKEN}"
    assert [each["content"]["number"] for each in json.loads(body)["events"]] == [1, 2]
    assert headers["Content-Type"] == "application/json"
    timestamp = headers["X-Trackletgait-Timestamp"]
    assert timestamp == "2000000000"
    expected = "sha256=" + signature(SECRET.encode(), timestamp, body)
    assert headers["X-Trackletgait-Signature"] == expected
    assert signature(b"other", timestamp, body) not in expected


def test_without_a_secret_it_posts_unsigned_and_with_further_headers(hook: Hook) -> None:
    with WebhookSink(hook.url, headers={"Authorization": "Bearer x"}) as sink:
        sink.write([event()])
    headers = hook.requests[0][1]
    assert "X-Trackletgait-Signature" not in headers
    assert headers["Authorization"] == "Bearer x"


def test_the_same_events_have_the_same_delivery_number(hook: Hook, sink: WebhookSink) -> None:
    first, second = event(1), event(2)
    for events in ([first], [first], [second]):
        sink.write(events)
    numbers = [headers["X-Trackletgait-Delivery"] for _, headers, _ in hook.requests]
    assert numbers[0] == numbers[1] != numbers[2]


@pytest.mark.parametrize("status", [500, 502, 503, 408, 401, 404, 302])
def test_what_may_pass_is_tried_again(hook: Hook, sink: WebhookSink, status: int) -> None:
    hook.answers.append((status, {}, 0))
    with pytest.raises(OutputError, match=f"answered {status}") as caught:
        sink.write([event()])
    assert not isinstance(caught.value, EventsRefusedError)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_the_server_finds_wrong_is_not_tried_again(
    hook: Hook, sink: WebhookSink, status: int
) -> None:
    hook.answers.append((status, {}, 0))
    with pytest.raises(EventsRefusedError):
        sink.write([event()])


@pytest.mark.parametrize(
    ("header", "expected_s"),
    [("7", 7.0), ("Wed, 18 May 2033 03:33:50 GMT", 30.0), ("Mon, 01 Jan 2001 00:00:00 GMT", 0.0)],
)
def test_the_server_may_say_when(
    hook: Hook, sink: WebhookSink, header: str, expected_s: float
) -> None:
    hook.answers.append((429, {"Retry-After": header}, 0))
    with pytest.raises(TryLaterError) as caught:
        sink.write([event()])
    assert caught.value.wait_s == expected_s


@pytest.mark.parametrize("header", ["soon", "-1", "9" * 400, "Wed, 99 Foo 2033", "²"])
def test_nonsense_about_when_does_no_harm(hook: Hook, sink: WebhookSink, header: str) -> None:
    hook.answers.append((503, {"Retry-After": header.encode().decode("latin-1")}, 0))
    with pytest.raises(OutputError, match="answered 503"):
        sink.write([event()])


def test_a_server_that_hangs_is_left_in_time(hook: Hook) -> None:
    hook.answers.append((204, {}, 60.0))
    began_s = time.monotonic()
    with (
        WebhookSink(hook.url, timeout_s=0.5) as sink,
        pytest.raises(OutputError, match="no answer in time"),
    ):
        sink.write([event()])
    assert time.monotonic() - began_s < 30


def test_a_server_that_is_away_is_said(hook: Hook) -> None:
    hook.close()
    with WebhookSink(hook.url) as sink, pytest.raises(OutputError, match="no connection"):
        sink.write([event()])


def test_a_redirect_within_the_server_is_followed_as_a_post(hook: Hook, sink: WebhookSink) -> None:
    hook.answers.append((307, {"Location": "/moved"}, 0))
    sink.write([event()])
    assert [path for path, _, _ in hook.requests][1] == "/moved"
    assert hook.requests[0][2] == hook.requests[1][2]


def test_a_redirect_to_another_host_gets_nothing(hook: Hook, sink: WebhookSink) -> None:
    other = Hook()
    try:
        hook.answers.append((308, {"Location": other.url}, 0))
        with pytest.raises(OutputError, match="another host"):
            sink.write([event()])
        assert other.requests == []
    finally:
        other.close()


def test_redirects_in_a_circle_end(hook: Hook, sink: WebhookSink) -> None:
    hook.answers += [(307, {"Location": "/again"}, 0)] * 9
    with pytest.raises(OutputError, match="redirects"):
        sink.write([event()])
    assert len(hook.requests) == 4


@pytest.mark.parametrize("location", ["http://[bad", "", "file:///etc/passwd"])
def test_a_redirect_to_nonsense_is_an_error(hook: Hook, sink: WebhookSink, location: str) -> None:
    hook.answers += [(307, {"Location": location}, 0)] * 9
    with pytest.raises(OutputError):
        sink.write([event()])


def test_a_runner_brings_everything_through_a_server_that_fails_now_and_then(hook: Hook) -> None:
    hook.answers += [(503, {}, 0), (503, {"Retry-After": "0"}, 0), (204, {}, 0), (500, {}, 0)]
    runner = SinkRunner(WebhookSink(hook.url), "hook")
    for number in range(250):
        runner.put(event(number))
    until(lambda: runner.counts.written == 250)
    runner.close()
    seen = [
        each["content"]["number"]
        for _, _, body in hook.requests
        for each in json.loads(body)["events"]
    ]
    assert set(seen) == set(range(250))


def test_no_secret_is_ever_printed(hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    said = []
    url = hook.url.replace("http://", "http://us:p4ssw0rd@")
    for answer in ((204, {}, 0), (500, {}, 0), (400, {}, 0), (307, {"Location": "http://x/"}, 0)):
        hook.answers.append(answer)
        with WebhookSink(url, secret=SECRET, headers={"X-Key": TOKEN}) as sink:
            try:
                sink.write([event()])
            except OutputError as error:
                said += [str(error), repr(error), repr(error.__cause__), repr(error.__context__)]
    hook.close()
    with WebhookSink(url, secret=SECRET) as sink:
        try:
            sink.write([event()])
        except OutputError as error:
            said.append(str(error))
    assert len(said) == 13
    for secret in (SECRET, TOKEN, "p4ssw0rd"):
        assert secret not in caplog.text + "".join(said)


@pytest.mark.parametrize("value", ["two\nlines", "größe", "\x00"])
def test_a_header_that_cannot_be_one_is_refused_without_being_shown(value: str) -> None:
    with pytest.raises(ConfigError, match="'X-Key'") as caught:
        WebhookSink("http://127.0.0.1/", headers={"X-Key": value})
    assert value not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://host/x", "nonsense", "", "http://", "http://[bad"])
def test_an_address_that_is_none_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="expected http://host/path") as caught:
        WebhookSink(url)
    assert "nonsense" not in str(caught.value)
