"""Events of a live run, and how they reach the world without ever holding the run up.

runner = SinkRunner(sink, "door log")            # a thread of its own
runner.put(Event("camera", time.time(), {"camera": "gate", "state": "live"}))   # returns at once
runner.close(within_s=2.0)                       # writes what is left, says what was not
"""

from __future__ import annotations

import ipaddress
import json
import logging
import math
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Literal, Protocol, get_args

from pydantic import JsonValue

from gait.closing import Closing
from pipeline.errors import OutputError
from pipeline.sources.camera_state import Backoff, Change
from pipeline.values import Sighting

logger = logging.getLogger(__name__)

SCHEMA = 1
"""Rises when a field of an event changes its meaning or goes; new fields may come without."""

EventKind = Literal["sighting", "camera", "overload"]
EVENT_KINDS: tuple[EventKind, ...] = get_args(EventKind)

_BATCH = 100
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.5, 30.0
_LONGEST_ASKED_WAIT_S = 300.0
_CLOSING_RETRY_S = 0.1


class EventsRefusedError(OutputError):
    """The other side will never take these events: trying again is no use."""


class TryLaterError(OutputError):
    """The other side wants to be left alone for a while.

    Attributes:
        wait_s: For how many seconds.
    """

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Event:
    """Something the world may want to know.

    Attributes:
        kind: What it is about, and so which fields `content` has (docs/live-outputs.md).
        at_unix_s: When it happened, in seconds since 1970.
        content: What happened; only what JSON can hold.
        uid: Tells it from all others: who receives it twice can know.
    """

    kind: EventKind
    at_unix_s: float
    content: Mapping[str, JsonValue]
    uid: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        if self.kind not in EVENT_KINDS:
            raise ValueError(f"Event.kind: expected one of {EVENT_KINDS}, got {self.kind!r}")
        try:
            self.as_bytes()
            datetime.fromtimestamp(self.at_unix_s, UTC)
        except (TypeError, ValueError, OverflowError, OSError) as error:
            raise ValueError(f"Event: expected what JSON can hold, got {error}") from error

    def as_json(self) -> dict[str, JsonValue]:
        """Return it as every sink writes it."""
        return {
            "schema": SCHEMA,
            "uid": self.uid,
            "kind": self.kind,
            "at_unix_s": self.at_unix_s,
            "content": dict(self.content),
        }

    def as_bytes(self) -> bytes:
        """Return the same as one line of UTF-8 JSON, without the newline."""
        text = json.dumps(self.as_json(), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8", "replace")  # file names may hold what UTF-8 cannot

    @property
    def subject(self) -> str:
        """The camera it is about; "all" when it is about the whole run."""
        found = self.content.get("camera") or self.content.get("stream")
        return found if isinstance(found, str) else "all"


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine and nobody else can listen."""
    host = host.strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def sighting_event(
    sighting: Sighting, at_unix_s: float, more: Mapping[str, JsonValue] | None = None
) -> Event:
    """Return a sighting as an event.

    Args:
        sighting: What was found.
        at_unix_s: When it was written, in seconds since 1970.
        more: Further fields, such as `start_unix_s`.
    """
    content: dict[str, JsonValue] = asdict(sighting)
    content["tracklets"] = list(sighting.tracklets)
    content["reasons"] = dict(sighting.reasons)
    for name in ("distance", "quality"):
        value = content[name]
        if isinstance(value, float) and not math.isfinite(value):
            content[name] = None
    return Event("sighting", at_unix_s, {**content, **(more or {})})


def camera_event(change: Change, at_unix_s: float) -> Event:
    """Return a camera's change of state as an event."""
    content: dict[str, JsonValue] = {
        "camera": change.camera,
        "state": change.state.value,
        "before": change.before.value,
        "reason": change.reason,
        "retry_in_s": change.retry_in_s,
    }
    return Event("camera", at_unix_s, content)


class LiveSink(Protocol):
    """Where events go. Used by one thread, after it was built by another."""

    def write(self, events: Sequence[Event]) -> None:
        """Write all of them, or raise; may take its time.

        After an error the same events come again, perhaps fewer of them at a time.

        Raises:
            OutputError: They could not be written now.
            EventsRefusedError: They never will be.
        """
        ...

    def close(self) -> None:
        """Free what is held; harmless the second time."""
        ...


@dataclass(frozen=True, slots=True)
class SinkCounts:
    """What one sink has done so far.

    Attributes:
        put: Events it was given.
        written: Events it has written.
        dropped: Events that newer ones pushed out while it was too slow, or that came too late.
        refused: Events the other side will not have.
        failures: Attempts that failed.
        waiting: Events not written yet.
        error: Why the last attempt failed; None when it did not.
    """

    put: int = 0
    written: int = 0
    dropped: int = 0
    refused: int = 0
    failures: int = 0
    waiting: int = 0
    error: str | None = None


class Outlet(Protocol):
    """A thread that takes what it is given at once, and writes it when it can."""

    @property
    def name(self) -> str:
        """For the log and the metrics."""

    @property
    def counts(self) -> SinkCounts:
        """What it has done so far."""

    def put(self, event: Event) -> None:
        """Tell it of an event; returns at once."""

    def close(self, within_s: float) -> None:
        """Write what is left, but end in time; harmless the second time."""


class SinkRunner(Closing):
    """Gives events to a sink in a thread of its own, so that no sink holds up the run.

    What fails is tried again, later and later, in order. While it waits, the oldest events make
    room for newer ones and are counted. The sink is closed by the thread when it ends.

    Args:
        sink: Where events go; belongs to the runner from now on.
        name: For the log and the metrics.
        capacity: Events that may wait. Higher bears longer outages, at the price of memory.
        kinds: The events to pass on.
    """

    def __init__(
        self,
        sink: LiveSink,
        name: str,
        capacity: int = 1000,
        kinds: Collection[EventKind] = EVENT_KINDS,
        rng: random.Random | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"SinkRunner.capacity: expected at least 1, got {capacity}")
        self.name = name
        self._sink = sink
        self._capacity = capacity
        self._kinds = frozenset(kinds)
        self._backoff = Backoff(_FIRST_RETRY_S, _LONGEST_RETRY_S, rng or random.Random())
        self._changed = threading.Condition()
        self._waiting: deque[Event] = deque()
        self._in_flight: list[Event] = []
        self._size = _BATCH  # how many are written together; halved when they are refused
        self._put = self._written = self._dropped = self._refused = self._failures = 0
        self._error: str | None = None
        self._deadline_s: float | None = None  # set by close
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name=f"sink {name}", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Pass an event on; returns at once whatever the sink does."""
        if event.kind not in self._kinds:
            return
        with self._changed:
            self._put += 1
            if self._deadline_s is not None:
                self._dropped += 1
                return
            if len(self._waiting) >= self._capacity:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(event)
            self._changed.notify_all()

    @property
    def counts(self) -> SinkCounts:
        """What it has done so far."""
        with self._changed:
            return SinkCounts(
                put=self._put,
                written=self._written,
                dropped=self._dropped,
                refused=self._refused,
                failures=self._failures,
                waiting=len(self._waiting) + len(self._in_flight),
                error=self._error,
            )

    def close(self, within_s: float = 2.0) -> None:
        """Write what is left, but end in time; `counts.waiting` then says what was not written.

        Args:
            within_s: Seconds it may take. A sink that hangs is left to end with the process.
        """
        with self._changed:
            if self._deadline_s is None:
                self._deadline_s = time.monotonic() + within_s
                self._changed.notify_all()
        if self._is_closed:
            return
        self._is_closed = True
        self._thread.join(within_s)
        if left := self.counts.waiting:
            words = self.counts.error or "the sink is too slow"
            logger.warning(
                "sink %s: %d events were not written within %g s: %s",
                *(self.name, left, within_s, words),
            )

    def _work(self) -> None:
        try:
            while self._has_events():
                self._deliver(self._in_flight[: self._size])
        finally:
            self._end_sink()

    def _has_events(self) -> bool:
        """Wait for events; return False when there is nothing more to do, or no time for it."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._in_flight or self._waiting or self._deadline_s is not None
            )
            if self._deadline_s is not None and time.monotonic() >= self._deadline_s:
                return False
            while self._waiting and len(self._in_flight) < _BATCH:
                self._in_flight.append(self._waiting.popleft())
            return bool(self._in_flight)

    def _deliver(self, events: Sequence[Event]) -> None:
        try:
            self._sink.write(events)
        except EventsRefusedError as error:
            self._refuse(events, error)
        except OutputError as error:
            self._wait(self._failed(error))
        except Exception as error:  # a sink's bug costs its events, not the thread
            logger.exception("sink %s: a bug", self.name)
            self._refuse(events, error)
        else:
            self._succeed(events)

    def _succeed(self, events: Sequence[Event]) -> None:
        with self._changed:
            del self._in_flight[: len(events)]
            self._written += len(events)
            was_failing, self._error = self._error is not None, None
            self._size = min(_BATCH, self._size * 2)
        if was_failing:
            self._backoff.reset()
            logger.info("sink %s: writes again", self.name)

    def _refuse(self, events: Sequence[Event], error: Exception) -> None:
        """Give up one event; of several, find out which by writing fewer at a time."""
        with self._changed:
            self._failures += 1
            if len(events) > 1:
                self._size = len(events) // 2
                return
            del self._in_flight[:1]
            self._refused += 1
        logger.warning("sink %s: an event was refused and is lost: %s", self.name, error)

    def _failed(self, error: OutputError) -> float:
        """Count a failure and return the seconds to wait."""
        with self._changed:
            self._failures += 1
            was_failing, self._error = self._error is not None, str(error)
        if not was_failing:  # once an outage: months of them would fill the disk
            logger.warning("sink %s: cannot write, tries again: %s", self.name, error)
        wait_s = self._backoff.next_s()
        if isinstance(error, TryLaterError):
            wait_s = max(wait_s, min(error.wait_s, _LONGEST_ASKED_WAIT_S))
        return wait_s

    def _wait(self, wait_s: float) -> None:
        with self._changed:
            if self._deadline_s is None:
                self._changed.wait_for(lambda: self._deadline_s is not None, wait_s)
                return
        time.sleep(min(wait_s, _CLOSING_RETRY_S))

    def _end_sink(self) -> None:
        try:
            self._sink.close()
        except Exception:
            logger.exception("sink %s: did not close well", self.name)


def close_together(outlets: Sequence[Outlet], within_s: float = 2.0) -> None:
    """Close several at once: one that hangs takes no time from the others.

    Args:
        outlets: What to close; each ends in time by itself.
        within_s: Seconds it may take in all.
    """
    threads = [
        threading.Thread(target=outlet.close, args=(within_s,), name="closing", daemon=True)
        for outlet in outlets
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
