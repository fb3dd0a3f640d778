"""One camera read in a process of its own: what brings a decoder down costs one camera only.

with ProcessCamera("gate", Address.parse(config.url), config, observer) as camera:
    frame = camera.take()
"""

from __future__ import annotations

import logging
import random
import signal
import socket
import subprocess
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from gait.closing import Closing
from pipeline import child_process
from pipeline.errors import ConfigError
from pipeline.sources.address import Address
from pipeline.sources.camera import WELL_AFTER_S, CameraConfig, CameraCounts
from pipeline.sources.camera_memory import PictureMemory, memory_file
from pipeline.sources.camera_messages import (
    Begin,
    Counted,
    Line,
    Order,
    Pictured,
    Said,
    Told,
    added,
    told,
)
from pipeline.sources.camera_state import Backoff, CameraObserver, CameraState, Change
from pipeline.values import Frame

logger = logging.getLogger(__name__)

_SILENT_S = 30.0  # a process that says nothing for so long hangs; it has a pulse of a second
_SMALLEST_STEP_S = 0.001
_LEAVING_S = 1.5  # for a polite goodbye to the camera, which keeps count of who watches


class _Child(Closing):
    """One process while it lasts, and what is shared with it.

    Raises:
        ConfigError: This system has no memory to share.
        OSError: No process can be started.
    """

    def __init__(self, name: str) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.line = Line(ours, _SILENT_S)
        try:
            with theirs, memory_file() as file:
                self.memory = PictureMemory(file)
                files = theirs.fileno(), file
                self._process = child_process.start(
                    "pipeline.sources.camera_child",
                    *(*map(str, files), name),
                    pass_fds=files,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
        except BaseException:
            self.line.close()
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ended(self) -> str:
        """Return in words how the process ended, which it has or soon will."""
        self.close()
        code = self._process.returncode
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return f"the camera's process {how}"

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def close(self) -> None:
        """End the process: politely, but soon."""
        self.line.close()
        try:
            self._process.wait(_LEAVING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A picture nobody has asked for yet, and the frame's numbers."""

    memory: PictureMemory
    picture: Pictured
    index: int
    epoch: int
    time_s: float

    def free(self) -> None:
        self.memory.free(self.picture.slot)


class _Numbers:
    """Counts epochs and seconds on from process to process."""

    def __init__(self) -> None:
        self._epoch = -1
        self._epoch_from = 0
        self._origin_s: float | None = None
        self._time_from_s: float | None = None
        self._last_s = -_SMALLEST_STEP_S

    def begin(self) -> None:
        """Another process counts from 0 again."""
        self._epoch_from = self._epoch + 1
        self._time_from_s = None

    def of(self, picture: Pictured) -> tuple[int, float]:
        """Return the epoch and the time of a picture."""
        self._epoch = self._epoch_from + picture.epoch
        if self._origin_s is None:
            self._origin_s = picture.arrived_s - picture.time_s
        if self._time_from_s is None:
            self._time_from_s = picture.arrived_s - picture.time_s - self._origin_s
        time_s = self._time_from_s + picture.time_s
        self._last_s = max(time_s, self._last_s + _SMALLEST_STEP_S)
        return self._epoch, self._last_s


class ProcessCamera(Closing):
    """A `Camera` whose reading happens in a process of its own, which is started anew if it ends.

    Frames are the same as a `Camera`'s. Their pixels lie in memory shared with the process, which
    gets it back when nobody has the frame any more.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        config: CameraConfig,
        observer: CameraObserver,
        *,
        arrived: Callable[[], None] = lambda: None,
        rng: random.Random | None = None,
    ) -> None:
        """Prepare; `start` (or the `with` block) begins to read.

        Args:
            name: Name of the stream.
            address: Where it is.
            config: How patient to be.
            observer: Told of every change of state, in the camera's thread.
            arrived: Called for every frame, in the camera's thread; must return at once.
            rng: For the jitter.
        """
        self.name = name
        self.address = address
        self._config = config
        self._observer = observer
        self._arrived = arrived
        self._backoff = Backoff(
            config.retry_first_s, config.retry_longest_s, rng or random.Random()
        )
        self._numbers = _Numbers()
        self._orders = threading.Lock()
        self._child: _Child | None = None
        self._lock = threading.Lock()
        self._waiting: _Waiting | None = None
        self._before = CameraCounts()  # of the processes there were
        self._now = CameraCounts()  # of the one there is
        self._own = CameraCounts()  # what was taken and dropped here
        self._state = CameraState.CONNECTING
        self._live_since_s: float | None = None
        self._is_closed = threading.Event()
        self._is_paused = False
        self._thread = threading.Thread(target=self._work, name=f"camera {name}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def __enter__(self) -> ProcessCamera:
        self.start()
        return self

    @property
    def state(self) -> CameraState:
        """Where it is now."""
        return self._state

    @property
    def counts(self) -> CameraCounts:
        """What it has done so far."""
        with self._lock:
            whole = added(added(self._before, self._now), self._own)
            return replace(whole, taken=self._own.taken)

    @property
    def pid(self) -> int | None:
        """Of the process; None while there is none."""
        child = self._child
        return None if child is None else child.pid

    def take(self) -> Frame | None:
        """Return the newest frame, once; None if there is no new one that is young enough."""
        with self._lock:
            waiting, self._waiting = self._waiting, None
            if waiting is None:
                return None
            age_s = time.monotonic() - waiting.picture.arrived_s
            if age_s > self._config.max_age_s:
                self._own = replace(self._own, dropped=self._own.dropped + 1)
                waiting.free()
                return None
            self._own = replace(self._own, taken=self._own.taken + 1)
        picture = waiting.picture
        return Frame(
            waiting.memory.lend(picture.slot, picture.height, picture.width),
            self.name,
            waiting.index,
            waiting.time_s,
            waiting.epoch,
            picture.captured_s,
        )

    def pause(self) -> None:
        """Disconnect and stay so until `resume`."""
        self._order(is_paused=True)

    def resume(self) -> None:
        """Connect again."""
        self._order(is_paused=False)

    def close(self) -> None:
        """Stop reading and end the process; harmless the second time."""
        self._is_closed.set()
        with self._orders:
            if self._child is not None:
                self._child.line.hang_up()
        if self._thread.is_alive():
            self._thread.join(2 * _LEAVING_S)

    def _order(self, *, is_paused: bool) -> None:
        with self._orders, suppress(OSError):  # a process that has ended is told when it begins
            self._is_paused = is_paused
            if self._child is not None:
                self._child.line.send(Order(order="pause" if is_paused else "resume"))

    def _work(self) -> None:
        while not self._is_closed.is_set():
            self._enter(CameraState.CONNECTING)
            why = self._reading()
            if self._is_closed.is_set():
                break
            wait_s = self._backoff.next_s()
            self._enter(CameraState.BACKING_OFF, why, wait_s)
            self._is_closed.wait(wait_s)
        with self._lock:
            self._waiting = None  # and with it the memory
        self._enter(CameraState.CLOSED)

    def _reading(self) -> str:
        """Start a process and heed it until it ends; return why it did."""
        try:
            child = _Child(self.name)
        except (OSError, ConfigError) as error:
            return f"no process can be started for the camera: {error}"
        try:
            self._begin(child)
            while not self._is_closed.is_set() and (data := child.line.receive()):
                self._heed(told(data), child.memory)
            return child.ended()
        except TimeoutError:
            child.kill()
            return f"the camera's process has said nothing for {_SILENT_S:g} s"
        except ValueError:
            child.kill()
            return "the camera's process says what cannot be"
        except OSError:  # it has ended before it heard what to read
            return child.ended()
        except Exception as error:  # a mistake of ours must not end the camera for good
            child.kill()
            words = self.address.without_secrets(traceback.format_exc())
            logger.error("camera %s: %s", self.name, words)
            return f"unexpected {type(error).__name__}: see the log"
        finally:
            self._end(child)

    def _begin(self, child: _Child) -> None:
        self._numbers.begin()
        with self._orders:
            self._child = child
            address = self.address
            child.line.send(
                Begin(
                    name=self.name,
                    url=address.url,
                    shown=address.shown,
                    secrets=address.secrets,
                    config=self._config,
                    is_paused=self._is_paused,
                )
            )

    def _end(self, child: _Child) -> None:
        with self._orders:
            self._child = None
        child.close()
        with self._lock:
            self._before, self._now = added(self._before, self._now), CameraCounts()
        live_since_s, self._live_since_s = self._live_since_s, None
        if live_since_s is not None and time.monotonic() - live_since_s >= WELL_AFTER_S:
            self._backoff.reset()

    def _heed(self, message: Told, memory: PictureMemory) -> None:
        if isinstance(message, Pictured):
            self._arrive(message, memory)
        elif isinstance(message, Counted):
            with self._lock:
                self._now = message.counts
        elif isinstance(message, Said):
            logging.getLogger(message.logger).log(message.level, "%s", message.text)
        elif message.state is not CameraState.CLOSED:  # that is for us to say
            self._enter(message.state, message.reason, message.retry_in_s)

    def _arrive(self, picture: Pictured, memory: PictureMemory) -> None:
        epoch, time_s = self._numbers.of(picture)
        with self._lock:
            index = self._before.decoded + picture.index
            replaced = self._waiting
            self._waiting = _Waiting(memory, picture, index, epoch, time_s)
            self._now = picture.counts
            if replaced is not None:
                self._own = replace(self._own, dropped=self._own.dropped + 1)
                replaced.free()
        self._arrived()

    def _enter(
        self, state: CameraState, reason: str | None = None, retry_in_s: float | None = None
    ) -> None:
        before, self._state = self._state, state
        if state is before:
            return
        self._live_since_s = time.monotonic() if state is CameraState.LIVE else self._live_since_s
        try:
            self._observer.changed(Change(self.name, state, before, reason, retry_in_s))
        except Exception:  # who listens must not end the camera
            logger.exception("camera %s: nobody could be told that it is %s", self.name, state)
