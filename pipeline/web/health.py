"""Whether a live run lives, and whether it is of any use: what /healthz and /readyz answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import JsonValue

from pipeline.sources.camera_state import CameraState, Change


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question about health is answered.

    Attributes:
        is_good: Whether all is well.
        body: Why, for people and programs.
    """

    is_good: bool
    body: dict[str, JsonValue]


class Health:
    """Told by the run how it is, from any thread; asked by the server.

    Args:
        turn_within_s: Seconds within which the run's loop must turn. Higher bears slower turns, at
            the price of noticing a hanging process later.
        start_within_s: The same before the models are loaded.
        has_cameras: Whether it is of use only when a camera is live; others may have them.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        turn_within_s: float = 30.0,
        start_within_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
        *,
        has_cameras: bool = True,
    ) -> None:
        self._has_cameras = has_cameras
        self._turn_within_s = turn_within_s
        self._start_within_s = start_within_s
        self._clock = clock
        self._lock = threading.Lock()
        self._turned_s = clock()
        self._is_loaded = False
        self._cameras: dict[str, tuple[Change, float]] = {}

    def turned(self) -> None:
        """The loop has turned: call it at least each second, also while no camera sends."""
        with self._lock:
            self._turned_s = self._clock()

    def models_loaded(self) -> None:
        """The models are loaded, and the loop begins to turn."""
        with self._lock:
            self._is_loaded = True
            self._turned_s = self._clock()

    def camera_changed(self, change: Change) -> None:
        """A camera is in another state."""
        with self._lock:
            self._cameras[change.camera] = change, self._clock()

    def camera_removed(self, name: str) -> None:
        """A camera is no longer asked for."""
        with self._lock:
            self._cameras.pop(name, None)

    def alive(self) -> Answer:
        """Return whether the process does its work: if not, it should be started anew."""
        with self._lock:
            since_s = self._clock() - self._turned_s
            within_s = self._turn_within_s if self._is_loaded else self._start_within_s
        is_alive = since_s <= within_s
        body: dict[str, JsonValue] = {"alive": is_alive, "since_turn_s": round(since_s, 3)}
        if not is_alive:
            body["why"] = f"the loop has not turned for {since_s:.0f} s, expected {within_s:g} s"
        return Answer(is_alive, body)

    def ready(self) -> Answer:
        """Return whether people can be seen: models loaded, and at least one camera live."""
        with self._lock:
            now_s, is_loaded = self._clock(), self._is_loaded
            cameras = dict(self._cameras)
        num_live = sum(change.state is CameraState.LIVE for change, _ in cameras.values())
        why = (
            _why_not(is_loaded, len(cameras), num_live)
            if self._has_cameras or not is_loaded
            else None
        )
        body: dict[str, JsonValue] = {
            "ready": why is None,
            "live": num_live,
            "cameras": {
                name: _state(change, now_s - since_s)
                for name, (change, since_s) in sorted(cameras.items())
            },
        }
        if why is not None:
            body["why"] = why
        return Answer(why is None, body)


def _why_not(is_loaded: bool, num_cameras: int, num_live: int) -> str | None:
    if not is_loaded:
        return "the models are not loaded yet"
    if num_cameras == 0:
        return "there is no camera"
    if num_live == 0:
        return f"none of the {num_cameras} cameras is live"
    return None


def _state(change: Change, since_s: float) -> dict[str, JsonValue]:
    return {
        "state": change.state.value,
        "since_s": round(since_s, 1),
        "reason": change.reason,
        "retry_in_s": change.retry_in_s,
    }
