"""Every camera's live picture, pushed to an RTSP server by a process each; never blocks.

with Publishing(PublishConfig(url="rtsp://127.0.0.1:8554/{camera}")) as publishing:
    publishing.saw(frame, tracks, masks)    # returns at once; the newest picture wins
    publishing.put(event)                   # says who the tracks are
"""

from __future__ import annotations

import logging
import os
import random
import select
import struct
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from urllib.parse import quote

import cv2
import numpy as np

from gait.closing import Closing
from gait.tracklet import Tracklet
from pipeline import child_process
from pipeline.errors import ConfigError
from pipeline.recording.config import PublishConfig
from pipeline.recording.moment import CaptureTimes, Identities, Moment, Seen, Told
from pipeline.recording.pushing import ANSWER_S, Order
from pipeline.recording.recording import working_codec
from pipeline.sinks.drawing import Canvas
from pipeline.sinks.live import Event, SinkCounts, close_together
from pipeline.sources.address import Address
from pipeline.sources.camera_state import Backoff
from pipeline.values import Embedding, Frame, Match
from trackers.boxes import Mask, Tracks

logger = logging.getLogger(__name__)

_FIRST_RETRY_S, _LONGEST_RETRY_S = 1.0, 30.0
_IDLE_S = 30.0  # without pictures: the camera is gone, or away for long
_PATIENCE_S = ANSWER_S + 2.0  # the process ends by itself before
_GOODBYE_S = 1.0


class Publishing(Closing):
    """Publishes what perception sees; a `Witness`, told of events as sinks are.

    Args:
        config: What is published where.

    Raises:
        ConfigError: The address or the encoder cannot be used.
    """

    name = "publish"

    def __init__(self, config: PublishConfig) -> None:
        self._config = config
        self._codec = working_codec("publish.codec", config.codec)
        self._address("camera")
        self._identities = Identities()
        self._lock = threading.Lock()
        self._publishers: dict[str, Publisher] = {}
        self._gone = SinkCounts()
        self._is_closed = False

    def saw(self, frame: Frame, tracks: Tracks, masks: Sequence[Mask | None]) -> None:
        """Publish a frame unless a newer one comes before it can be."""
        if self._config.cameras is not None and frame.stream not in self._config.cameras:
            return
        with self._lock:
            if not self._is_closed:
                self._publisher(frame.stream).take(Seen(frame, tracks, masks))

    def recognised(
        self, tracklet: Tracklet, embedding: Embedding | None, match: Match | None
    ) -> None:
        """Nothing: events say it."""

    def put(self, event: Event) -> None:
        """Learn from a sighting who is on which track."""
        told = Told.by(event)
        if told is not None:
            self._identities.learn(told)

    @property
    def counts(self) -> SinkCounts:
        """What it has done so far, counted in frames of all cameras."""
        with self._lock:
            each = [self._gone, *(publisher.counts for publisher in self._publishers.values())]
        return _sum(each)

    def close(self, within_s: float = 2.0) -> None:
        """Say goodbye to the server, but end in time."""
        with self._lock:
            self._is_closed = True
            publishers = list(self._publishers.values())
        close_together(publishers, within_s)

    def _publisher(self, camera: str) -> Publisher:
        publisher = self._publishers.get(camera)
        if publisher is not None and publisher.is_alive:
            return publisher
        if publisher is not None:
            ended = replace(publisher.counts, waiting=0, error=None)  # that is over
            self._gone = _sum([self._gone, ended])
        address = self._address(camera)
        publisher = Publisher(camera, address, self._config, self._codec, self._identities)
        self._publishers[camera] = publisher
        return publisher

    def _address(self, camera: str) -> Address:
        try:
            return Address.parse(self._config.url.replace("{camera}", quote(camera, safe="")))
        except ConfigError as error:
            raise ConfigError(f"publish.url: {error}") from None


class Publisher(Closing):
    """One camera's pictures: a thread that draws and waits, and a process that sends.

    It ends by itself when no more pictures come.

    Args:
        camera: For the log.
        address: Where to.
        config: How.
        codec: What encodes.
        identities: Who the tracks are.
    """

    def __init__(
        self,
        camera: str,
        address: Address,
        config: PublishConfig,
        codec: str,
        identities: Identities,
    ) -> None:
        self.name = f"publish {camera}"
        self._camera = camera
        self._address = address
        self._config = config
        self._codec = codec
        self._identities = identities
        self._backoff = Backoff(_FIRST_RETRY_S, _LONGEST_RETRY_S, random.Random())
        self._changed = threading.Condition()
        self._times = CaptureTimes()
        self._newest: Seen | None = None
        self._sender: _Sender | None = None
        self._put = self._written = self._dropped = self._failures = 0
        self._error: str | None = None
        self._is_closing = False
        self._is_over = False
        self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it takes pictures."""
        with self._changed:
            return not self._is_over

    def take(self, seen: Seen) -> None:
        """Publish a frame next; one that still waits is dropped."""
        with self._changed:
            self._put += 1
            self._dropped += self._newest is not None
            self._newest = seen
            self._changed.notify_all()

    def put(self, event: Event) -> None:
        """Nothing: identities are shared."""

    @property
    def counts(self) -> SinkCounts:
        """What it has done so far, counted in frames."""
        with self._changed:
            return SinkCounts(
                put=self._put,
                written=self._written,
                dropped=self._dropped,
                failures=self._failures,
                waiting=int(self._newest is not None),
                error=self._error,
            )

    def close(self, within_s: float = 2.0) -> None:
        """Say goodbye; a server that does not answer is left alone in time."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
            sender = self._sender
        self._thread.join(within_s / 2)
        if self._thread.is_alive() and sender is not None:
            sender.kill()
        self._thread.join(within_s / 2)

    def _work(self) -> None:
        try:
            while (seen := self._next()) is not None:
                try:
                    self._publish(seen)
                except OSError as error:
                    self._failed(self._address.without_secrets(error))
                except Exception as error:  # a bug costs pictures, not the thread
                    logger.exception("%s: a bug", self.name)
                    self._failed(f"a bug: {type(error).__name__}")
        finally:
            self._end_sender()

    def _next(self) -> Seen | None:
        """Wait for a picture; None when it is time to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._is_closing, _IDLE_S)
            seen, self._newest = self._newest, None
            self._is_over = seen is None or self._is_closing
            self._dropped += self._is_over and seen is not None
            return None if self._is_over else seen

    def _publish(self, seen: Seen) -> None:
        moment = Moment.of(
            seen,
            self._times.unix_s(seen.frame),
            height=self._config.height,
            outlined=self._config.annotate,
        )
        picture = moment.drawn(self._identities) if self._config.annotate else moment.picture
        canvas = moment.placement.canvas
        if self._sender is not None and not self._sender.continues(canvas, moment.at_unix_s):
            self._end_sender()
        if self._sender is None:
            self._sender = self._new_sender(canvas, moment.at_unix_s)
        self._sender.send(
            np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)), moment.at_unix_s
        )
        with self._changed:
            self._written += 1
            was_failing, self._error = self._error, None
        if was_failing:
            logger.info("%s: works again", self.name)
        self._backoff.reset()

    def _new_sender(self, canvas: Canvas, start_unix_s: float) -> _Sender:
        order = Order(
            url=self._address.url,
            width=canvas.width,
            height=canvas.height,
            codec=self._codec,
            crf=self._config.crf,
        )
        return _Sender(order, start_unix_s)

    def _end_sender(self) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()

    def _failed(self, words: str) -> None:
        self._end_sender()
        with self._changed:
            self._failures += 1
            self._dropped += 1
            was_failing, self._error = self._error, f"{self._camera}: {words}"
            is_closing = self._is_closing
        if not was_failing and not is_closing:  # once an outage
            logger.warning("%s: %s: %s; tries again", self.name, self._address, words)
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing, self._backoff.next_s())


class _Sender:
    """The process that sends, and the pipes to it: every call of it ends in time."""

    def __init__(self, order: Order, start_unix_s: float) -> None:
        self._canvas = Canvas(order.width, order.height)
        self._start_s = self._newest_s = start_unix_s
        self._process = child_process.start(
            "pipeline.recording.pushing",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._order: bytes = order.model_dump_json().encode() + b"\n"

    def continues(self, canvas: Canvas, at_unix_s: float) -> bool:
        """Whether a picture follows the last one; else a new stream must begin."""
        return canvas == self._canvas and at_unix_s >= self._newest_s

    def send(self, pixels: np.ndarray, at_unix_s: float) -> None:
        """Send a picture.

        Raises:
            OSError: The server does not take it, or takes too long.
        """
        self._newest_s = at_unix_s
        deadline_s = time.monotonic() + _PATIENCE_S
        head = self._order + struct.pack("<d", at_unix_s - self._start_s)
        self._order = b""
        with suppress(BrokenPipeError):  # it has ended: its answer says why
            self._write(head + pixels.tobytes(), deadline_s)
        answer = self._answer(deadline_s)
        if answer != b"\n":
            raise OSError(answer.decode(errors="replace").strip() or "the server does not answer")

    def kill(self) -> None:
        """End it at once, from any thread."""
        self._process.kill()

    def close(self) -> None:
        """End it, with a goodbye to the server if that is quick."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def _write(self, data: bytes, deadline_s: float) -> None:
        rest = memoryview(data)
        while rest:
            _wait(self._in, select.POLLOUT, deadline_s)
            with suppress(BlockingIOError):
                rest = rest[os.write(self._in, rest) :]

    def _answer(self, deadline_s: float) -> bytes:
        """Return a line; nothing when the process has ended without one."""
        answer = b""
        while not answer.endswith(b"\n"):
            _wait(self._out, select.POLLIN, deadline_s)
            more = os.read(self._out, 4096)
            if not more:
                break
            answer += more
        return answer


def _wait(pipe: int, what: int, deadline_s: float) -> None:
    poll = select.poll()  # select() knows no descriptors above 1023
    poll.register(pipe, what)
    if not poll.poll(max(0.0, 1000 * (deadline_s - time.monotonic()))):
        raise TimeoutError("the server takes too long")


def _sum(counts: Sequence[SinkCounts]) -> SinkCounts:
    return SinkCounts(
        put=sum(each.put for each in counts),
        written=sum(each.written for each in counts),
        dropped=sum(each.dropped for each in counts),
        failures=sum(each.failures for each in counts),
        waiting=sum(each.waiting for each in counts),
        error=next((each.error for each in counts if each.error), None),
    )
