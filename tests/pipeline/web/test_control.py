"""Commands over HTTP, over a real socket; what obeys them is asked in live/test_commands.py."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from pipeline.errors import ConfigError
from pipeline.live.config import LiveConfig
from pipeline.live.control import LONGEST_REQUEST
from pipeline.web.control import HttpControl
from pipeline.web.health import Health
from pipeline.web.metrics import LiveMetrics, MetricsServer

TOKEN = "one-töken-of-many-letters"
PAUSE = {"do": "pause", "name": "gate"}


class Run:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.requests: list[Mapping[str, Any]] = []

    def __call__(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        if request.get("name") == "nobody":
            raise ConfigError("camera nobody: expected one of gate")
        if request.get("do") == "fail":
            raise RuntimeError("secret inner workings")
        self.requests.append(request)
        return {"ok": True, "asked": request["do"]}


@pytest.fixture
def run() -> Run:
    return Run()


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    with MetricsServer("127.0.0.1", 0, LiveMetrics().registry, Health()) as server:
        yield server


def ask(server: MetricsServer, method: str, path: str, **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {TOKEN}".encode()} | more.pop("headers", {})
    url = f"http://127.0.0.1:{server.port}{path}"
    return httpx.request(method, url, headers=headers, trust_env=False, timeout=30, **more)


def test_it_is_off_until_asked_for(server: MetricsServer) -> None:
    assert ask(server, "GET", "/status").status_code == 404
    assert ask(server, "POST", "/control", json=PAUSE).status_code == 404


def test_whoever_has_the_token_reads_the_status_and_commands(
    server: MetricsServer, run: Run
) -> None:
    server.obey(HttpControl(run, TOKEN))
    assert ask(server, "GET", "/status?x=1").json() == {"ok": True, "asked": "status"}
    answer = ask(server, "POST", "/control", json=PAUSE)
    assert (answer.status_code, answer.json()) == (200, {"ok": True, "asked": "pause"})
    assert run.requests == [{"do": "status"}, PAUSE]
    assert ask(server, "GET", "/healthz").status_code == 200


@pytest.mark.parametrize(
    "sent", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xff"]
)
def test_whoever_has_not_the_token_learns_and_changes_nothing(
    server: MetricsServer, run: Run, sent: str
) -> None:
    server.obey(HttpControl(run, TOKEN))
    headers = {"Authorization": sent.encode("utf-8")}
    for method, path in (("GET", "/status"), ("POST", "/control"), ("GET", "/control")):
        answer = ask(server, method, path, headers=headers, content=b"x" * 100)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert run.requests == []


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "says"),
    [
        ("GET", "/control", {}, 405, "expected POST /control"),
        ("POST", "/status", {"json": PAUSE}, 405, "expected GET, HEAD /status"),
        ("POST", "/control", {"content": json.dumps(PAUSE)}, 415, "application/json"),
        ("POST", "/control", {"data": PAUSE}, 415, "application/json"),
        ("POST", "/control", {"json": {"x": "y" * LONGEST_REQUEST}}, 413, "at most 65536 B"),
        ("POST", "/control", {"json": [1]}, 400, "expected an object"),
        ("POST", "/control", {"json": {"do": "x", "name": "nobody"}}, 422, "expected one of gate"),
        ("POST", "/control", {"json": {"do": "fail"}}, 500, "log says why"),
        ("PUT", "/control", {"json": PAUSE}, 501, "PUT"),
    ],
)
def test_a_wrong_request_is_told_why_and_changes_nothing(
    server: MetricsServer,
    run: Run,
    method: str,
    path: str,
    more: dict[str, Any],
    status: int,
    says: str,
) -> None:
    server.obey(HttpControl(run, TOKEN))
    answer = ask(server, method, path, **more)
    assert answer.status_code == status
    assert says in answer.text
    assert "inner workings" not in answer.text
    assert run.requests == []


@pytest.mark.parametrize("body", [b"{", b"\xff\x00", b"[" * 60_000, b"", b"null"])
def test_garbage_is_refused(server: MetricsServer, run: Run, body: bytes) -> None:
    server.obey(HttpControl(run, TOKEN))
    headers = {"Content-Type": "application/json"}
    assert ask(server, "POST", "/control", content=body, headers=headers).status_code == 400


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 30, "five"])
def test_a_length_that_is_none_is_refused(server: MetricsServer, run: Run, length: str) -> None:
    server.obey(HttpControl(run, None))
    request = (
        "POST /control HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(request.encode())
        assert b" 411 " in client.recv(1000)


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:9464", 200), ("localhost", 200), ("[::1]:1", 200), ("evil.example", 403),
     ("127.0.0.1.evil.example", 403), ("", 403), ("[", 403)],
)  # fmt: skip
def test_without_a_token_only_this_machine_commands_and_no_page_leads_a_browser_here(
    server: MetricsServer, run: Run, host: str, status: int
) -> None:
    server.obey(HttpControl(run, None))
    answer = ask(server, "POST", "/control", json=PAUSE, headers={"Host": host})
    assert answer.status_code == status
    assert len(run.requests) == (status == 200)


@pytest.mark.parametrize(
    ("blocks", "says"),
    [
        ({}, "expected metrics too"),
        ({"metrics": {"host": "0.0.0.0"}}, "expected token or token_file"),
        ({"metrics": {}, "control_http": {"token": "short"}}, "at least 16"),
        ({"metrics": {}, "control_http": {"token": TOKEN, "token_file": "x"}}, "got both"),
    ],
)
def test_a_configuration_that_lets_strangers_command_is_refused(
    blocks: dict[str, object], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        LiveConfig.model_validate({"control_http": {}, **blocks})


def test_the_token_is_in_nothing_that_is_shown() -> None:
    config = LiveConfig.model_validate({"metrics": {}, "control_http": {"token": TOKEN}})
    assert config.control_http is not None
    assert config.control_http.read_token() == TOKEN
    assert TOKEN in config.secrets()
    assert TOKEN not in f"{config!r} {json.dumps(config.shown(), ensure_ascii=False)}"
