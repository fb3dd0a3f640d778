"""Commands over HTTP: those of the control socket, for whoever has the token.

    curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:9464/status
    curl -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
      -d '{"do": "pause", "name": "gate"}' http://127.0.0.1:9464/control
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from http import HTTPStatus
from io import BufferedIOBase
from typing import Any
from urllib.parse import urlsplit

from pipeline.live.control import LONGEST_REQUEST, Answer, outcome
from pipeline.sinks.live import is_loopback

_METHODS = {"/status": ("GET", "HEAD"), "/control": ("POST",)}
_DRAINED = 1 << 20  # bytes of a body we will not use: closing at once would hide our answer


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request is answered.

    Attributes:
        status: Of HTTP.
        body: To be sent as JSON.
        headers: More of them.
    """

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpControl:
    """Checks who asks and what, and passes it on.

    Args:
        answer: Called with one request after another.
        token: What `Authorization: Bearer` must say; None lets everybody on this machine command.
    """

    def __init__(self, answer: Answer, token: str | None) -> None:
        self._answer = answer
        self._token = token
        self._lock = threading.Lock()

    @staticmethod
    def has(path: str) -> bool:
        """Return whether a path is one of ours."""
        return path in _METHODS

    def reply(self, method: str, path: str, headers: Message, body: BufferedIOBase) -> Reply:
        """Return the answer to a request of a path of ours."""
        refused = self._refused(method, path, headers)
        if refused is not None:
            _drain(headers, body)
            return refused
        request = b'{"do": "status"}'
        if method == "POST":
            request = body.read(_length(headers) or 0)
        with self._lock:
            status, answer = outcome(self._answer, request)
        return Reply(status, answer)

    def _refused(self, method: str, path: str, headers: Message) -> Reply | None:
        if self._token is None:
            if not _is_for_this_machine(headers):
                return _error(HTTPStatus.FORBIDDEN, "expected this machine's name as the host")
        elif not _is_bearer(headers, self._token):
            words = "expected the header Authorization: Bearer and the run's token"
            return _error(HTTPStatus.UNAUTHORIZED, words, {"WWW-Authenticate": "Bearer"})
        if method not in _METHODS[path]:
            allowed = ", ".join(_METHODS[path])
            words = f"expected {allowed} {path}, got {method}"
            return _error(HTTPStatus.METHOD_NOT_ALLOWED, words, {"Allow": allowed})
        return _body_refused(headers) if method == "POST" else None


def _body_refused(headers: Message) -> Reply | None:
    # A page in a browser cannot send this type elsewhere without asking, and we never allow it.
    if headers.get_content_type() != "application/json":
        words = "expected the header Content-Type: application/json"
        return _error(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, words)
    length = _length(headers)
    if length is None:
        return _error(HTTPStatus.LENGTH_REQUIRED, "expected the header Content-Length")
    if length > LONGEST_REQUEST:
        words = f"expected at most {LONGEST_REQUEST} B, got {length}"
        return _error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, words)
    return None


def _is_bearer(headers: Message, token: str) -> bool:
    # The header as it came over the line: http.server reads it as Latin-1.
    sent = str(headers.get("Authorization", "")).encode("latin-1", "replace")
    return hmac.compare_digest(sent, b"Bearer " + token.encode())


def _is_for_this_machine(headers: Message) -> bool:
    """Return whether the name asked for is ours: no page may lead a browser here by another."""
    try:
        host = urlsplit(f"//{headers.get('Host', '')}").hostname
    except ValueError:
        return False
    return host is not None and is_loopback(host)


def _length(headers: Message) -> int | None:
    given = str(headers.get("Content-Length", ""))
    return int(given) if given.isascii() and given.isdigit() and len(given) < 16 else None


def _drain(headers: Message, body: BufferedIOBase) -> None:
    body.read(min(_length(headers) or 0, _DRAINED))


def _error(status: HTTPStatus, words: str, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, {"error": words}, headers or {})
