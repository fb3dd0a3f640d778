"""What state a camera is in, why, and when it is tried again. Pure: no socket, no clock."""

from __future__ import annotations

import random
import socket
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from urllib.parse import urlsplit

import av

from pipeline.sources.address import Address


class CameraState(StrEnum):
    """Where a camera is between being asked for and being given up."""

    CONNECTING = "connecting"
    LIVE = "live"
    STALLED = "stalled"
    BACKING_OFF = "backing-off"
    FAILED_CONFIG = "failed-config"
    PAUSED = "paused"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Change:
    """A camera has come from one state to another.

    Attributes:
        camera: Its name.
        state: The new one.
        before: The old one.
        reason: Why, in words without secrets; None where nothing went wrong.
        retry_in_s: Seconds until it is tried again; None where it is not waiting.
    """

    camera: str
    state: CameraState
    before: CameraState
    reason: str | None = None
    retry_in_s: float | None = None


class CameraObserver(Protocol):
    """Who is told what becomes of each camera: log, metrics, events. Called in its thread."""

    def changed(self, change: Change) -> None:
        """A camera is in another state."""
        ...


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a camera gives no frames.

    Attributes:
        words: For people, without secrets.
        is_configuration: Whether trying again is no use until somebody changes something.
        is_end: Whether nothing is wrong: a file was played to its end and begins anew.
    """

    words: str
    is_configuration: bool = False
    is_end: bool = False


class Backoff:
    """How long to wait before the next attempt: twice as long each time, with jitter.

    Jitter keeps cameras that went together (a switch, a power cut) from coming back in one instant.
    """

    def __init__(self, first_s: float, longest_s: float, rng: random.Random) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._rng = rng
        self._num_failures = 0

    def next_s(self) -> float:
        """Return the seconds to wait now, at most `longest_s`."""
        # Beyond 30 doublings any first wait is long enough, and the power would overflow one day.
        doubled = self._first_s * 2.0 ** min(self._num_failures, 30)
        self._num_failures += 1
        return min(doubled, self._longest_s) * self._rng.uniform(0.75, 1.0)

    def longest_s(self) -> float:
        """Return the wait for what only a person can mend."""
        return self._longest_s * self._rng.uniform(0.75, 1.0)

    def reset(self) -> None:
        """Begin anew: the camera has been well for a while."""
        self._num_failures = 0


def fault_of(error: Exception, address: Address, *, waited_s: float, timeout_s: float) -> Fault:
    """Return what an error of FFmpeg means.

    Args:
        error: What opening or reading raised.
        address: Of the camera.
        waited_s: How long the failing call took.
        timeout_s: How long it was allowed to take: FFmpeg reports time-outs as anything.
    """
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return Fault("the camera refuses the user or the password", is_configuration=True)
    if isinstance(error, av.error.HTTPNotFoundError):
        return Fault("the camera has no stream of that path", is_configuration=True)
    if isinstance(error, ConnectionRefusedError):
        return Fault("nothing listens on that port")
    if waited_s >= 0.9 * timeout_s:
        return Fault(f"no answer within {timeout_s:g} s")
    if isinstance(error, FileNotFoundError):
        return Fault(f"no such device or file: {address}", is_configuration=True)
    if isinstance(error, av.error.ProtocolNotFoundError):
        scheme = urlsplit(address.url).scheme
        return Fault(
            f"not an address that FFmpeg can open here: {scheme}://", is_configuration=True
        )
    if _is_unknown_host(address):
        return Fault("the host's name is not known")
    return Fault(address.without_secrets(getattr(error, "strerror", None) or error))


def _is_unknown_host(address: Address) -> bool:
    """Return whether the host has no address: FFmpeg only says "Input/output error"."""
    host = urlsplit(address.url).hostname
    if not host:
        return False
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return True
    return False
