"""Events to a web server: POST of JSON batches, signed, tried again until it takes them.

The receiver checks `X-Trackletgait-Signature: sha256=<hex>` against
HMAC-SHA256(secret, timestamp + "." + body), where timestamp is `X-Trackletgait-Timestamp`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from gait.closing import Closing
from pipeline.errors import ConfigError, OutputError
from pipeline.sinks.live import SCHEMA, Event, EventsRefusedError, TryLaterError

_CONTENT_IS_WRONG = (400, 413, 415, 422)
_SAME_POST = (307, 308)
_MOST_REDIRECTS = 3
_SMALL_BODY_BYTES = 65536
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]+")

# At INFO and DEBUG these print whole addresses, and an address may hold a token.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class WebhookSink(Closing):
    """Posts each batch of events and goes on when the server says 2xx.

    Args:
        url: Where to post; its user, password, path and query are never printed.
        secret: Key of the signature; None posts unsigned.
        timeout_s: Longest wait for the connection, and for each piece of the answer.
        headers: Further headers, such as an authorisation; never printed.
        clock: Seconds since 1970.

    Raises:
        ConfigError: The address is no web address, or a header cannot be one.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str | None = None,
        timeout_s: float = 10.0,
        headers: dict[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = _checked(url)
        host = self._url.host
        self._where = f"webhook {self._url.scheme}://{host}:{_port(self._url)}"
        self._secret = None if secret is None else secret.encode()
        self._clock = clock
        _check_headers(headers or {})
        self._client = httpx.Client(
            timeout=timeout_s, headers=headers, follow_redirects=False, trust_env=False
        )

    def write(self, events: Sequence[Event]) -> None:
        """Post the events as one batch.

        Raises:
            OutputError: The server cannot be reached or cannot take them now.
            TryLaterError: It says when it can.
            EventsRefusedError: It says that the content is wrong.
        """
        body = json.dumps(
            {"schema": SCHEMA, "events": [json.loads(event.as_bytes()) for event in events]},
            separators=(",", ":"),
        ).encode()
        # The same for the same events: who gets a batch again can tell.
        delivery = hashlib.sha256("".join(event.uid for event in events).encode()).hexdigest()[:32]
        url = self._url
        for _ in range(_MOST_REDIRECTS + 1):
            status, headers = self._post(url, body, delivery)
            if status not in _SAME_POST:
                self._judge(status, headers)
                return
            url = self._redirected(url, headers.get("location", ""))
        raise OutputError(f"{self._where}: more than {_MOST_REDIRECTS} redirects")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _post(self, url: httpx.URL, body: bytes, delivery: str) -> tuple[int, httpx.Headers]:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "trackletgait",
            "X-Trackletgait-Delivery": delivery,
            **self._signature(body),
        }
        try:
            with self._client.stream("POST", url, content=body, headers=headers) as answer:
                # Read to its end, the connection serves again; a large body is not worth it.
                if 0 < int(answer.headers.get("content-length", 0)) <= _SMALL_BODY_BYTES:
                    answer.read()
                return answer.status_code, answer.headers
        except (httpx.HTTPError, ValueError) as error:
            # Without its text and its cause, which may quote the address.
            raise OutputError(f"{self._where}: {_words(error)}") from None

    def _signature(self, body: bytes) -> dict[str, str]:
        if self._secret is None:
            return {}
        timestamp = str(int(self._clock()))
        return {
            "X-Trackletgait-Timestamp": timestamp,
            "X-Trackletgait-Signature": "sha256=" + signature(self._secret, timestamp, body),
        }

    def _judge(self, status: int, headers: httpx.Headers) -> None:
        words = f"{self._where}: answered {status}"
        if 200 <= status < 300:
            return
        if status in _CONTENT_IS_WRONG:
            raise EventsRefusedError(words)
        wait_s = _retry_after_s(headers.get("retry-after", ""), self._clock())
        if wait_s is not None:
            raise TryLaterError(words, wait_s)
        raise OutputError(words)

    def _redirected(self, url: httpx.URL, location: str) -> httpx.URL:
        """Return where to go, if that is the same server: others must not get the events."""
        try:
            there = url.join(location)
        except httpx.InvalidURL:
            raise OutputError(f"{self._where}: redirects to no address") from None
        if (there.scheme, there.host, _port(there)) != (url.scheme, url.host, _port(url)):
            raise OutputError(
                f"{self._where}: redirects to another host, {there.host}; if that is right, set "
                "the webhook's url to it"
            )
        return there


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """Return the hexadecimal HMAC-SHA256 by which a receiver knows a batch for ours."""
    return hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _checked(url: str) -> httpx.URL:
    try:
        urlsplit(url)  # refuses brackets that httpx would pass over
        found = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        found = httpx.URL("")
    if found.scheme not in ("http", "https") or not found.host:
        raise ConfigError("webhook url: expected http://host/path or https://host/path")
    return found


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not (value.isascii() and value.isprintable()):
            raise ConfigError(
                "webhook headers: expected names and values of plain ASCII on one line, got "
                f"something else under {name!r}"
            )


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _words(error: Exception) -> str:
    if isinstance(error, httpx.ConnectTimeout | httpx.ReadTimeout | httpx.WriteTimeout):
        return "no answer in time"
    if isinstance(error, httpx.ConnectError):
        return "no connection"
    return f"the conversation broke off ({type(error).__name__})"


def _retry_after_s(text: str, now_s: float) -> float | None:
    """Return the seconds a Retry-After header asks for: a number, or a date; None without one."""
    if text.isascii() and text.strip().isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - now_s)
