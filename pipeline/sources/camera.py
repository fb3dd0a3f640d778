"""One camera: a thread that reads, fails, waits and reads again, and the newest frame it has.

with Camera("gate", Address.parse(config.url), config, observer) as camera:
    frame = camera.take()
"""

from __future__ import annotations

import logging
import random
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from pydantic import Field

from gait.closing import Closing
from gait.strict import StrictModel
from pipeline.errors import ConfigError
from pipeline.sources.address import Address, read_password
from pipeline.sources.camera_clock import CameraClock, captured_s
from pipeline.sources.camera_reading import Reading, opened
from pipeline.sources.camera_state import (
    Backoff,
    CameraObserver,
    CameraState,
    Change,
    Fault,
    fault_of,
)
from pipeline.sources.hardware import Hardware, accelerator
from pipeline.sources.pixels import View, upright_bgr
from pipeline.values import Frame

logger = logging.getLogger(__name__)

WELL_AFTER_S = 3.0
"""A camera that was live for so long has earned a quick first retry."""

_CLOSING_S = 1.0  # a thread in a call of FFmpeg ends by itself within its time-out; do not wait
_SHORTEST_ROUND_S = 1.0  # a file of one frame is not opened a hundred times a second
_UNDECODABLE_S = 30.0  # packets without a picture for so long: connect anew, ask for a key frame


class CameraConfig(StrictModel):
    """One camera and how patient to be with it.

    Attributes:
        url: rtsp://, rtsps://, http(s):// (MJPEG, HLS), /dev/video0, or a file, which is played at
            its own pace and begins anew, as another epoch, at its end. `${NAME}` is filled from
            the environment.
        password_file: File whose first line is the password of the user that `url` names; read at
            every connection, so that a changed password is found. Only its owner should be able
            to read it.
        transport: How RTSP sends pictures. "tcp" loses nothing on the way; "udp" is quicker on
            networks that lose nothing, and torn where they do.
        stall_s: Seconds without a packet after which a connection counts as dead. Higher bears
            with slow cameras, at the price of noticing a dead one later.
        open_timeout_s: Seconds that connecting may take.
        retry_first_s: Longest wait before the first new attempt; each further wait is twice as
            long.
        retry_longest_s: Longest wait between attempts. Lower finds a camera sooner when it is
            back, at the price of more knocking on one that is not.
        max_age_s: A frame older than this is dropped, not processed. Higher shows more of the
            past when the machine is slow, at the price of a lag.
        decode_threads: Threads of the decoder. More decode 4K, at the price of memory.
        hardware: What decodes: "none" is software, "auto" the first device that works. A device
            that is not there, or cannot decode the camera's codec, falls back to software. A
            device takes load off the processor, at the price of its memory for every camera.
        process: Read it in a process of its own (Linux), so that what kills a decoder, or takes
            all memory, costs this camera only; at the price of about 50 MB and of copying each
            picture once.
    """

    url: str
    password_file: Path | None = Field(default=None, strict=False)
    transport: Literal["tcp", "udp"] = "tcp"
    stall_s: float = Field(default=4.0, gt=0, le=60)
    open_timeout_s: float = Field(default=5.0, gt=0, le=60)
    retry_first_s: float = Field(default=1.0, gt=0)
    retry_longest_s: float = Field(default=30.0, gt=0)
    max_age_s: float = Field(default=0.5, gt=0)
    decode_threads: int = Field(default=1, ge=1)
    hardware: Hardware = "none"
    process: bool = False


@dataclass(frozen=True, slots=True)
class CameraCounts:
    """What one camera has done since it was added.

    Attributes:
        decoded: Frames decoded.
        taken: Frames handed on.
        dropped: Frames that a newer one replaced, or that had become too old.
        damaged: Packets and frames that did not decode.
        connections: Times it became live.
    """

    decoded: int = 0
    taken: int = 0
    dropped: int = 0
    damaged: int = 0
    connections: int = 0


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A decoded frame whose pixels nobody has asked for yet."""

    picture: VideoFrame
    index: int
    time_s: float
    epoch: int
    view: View
    arrived_s: float
    captured_s: float


class Camera(Closing):
    """A camera that is read in a thread of its own until it is closed.

    The newest frame waits to be taken; a newer one replaces it. `Frame.index` counts every decoded
    frame, so a gap says how many were dropped. A new connection, size or codec is a new epoch.
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
        self._clock = CameraClock()
        self._lock = threading.Lock()
        self._waiting: _Waiting | None = None
        self._counts = CameraCounts()
        self._state = CameraState.CONNECTING
        self._epoch = -1
        self._live_since_s: float | None = None
        self._reformatter = VideoReformatter()
        self._is_closed = threading.Event()
        self._is_paused = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"camera {name}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def __enter__(self) -> Camera:
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
            return self._counts

    def take(self) -> Frame | None:
        """Return the newest frame, once; None if there is no new one that is young enough."""
        with self._lock:
            waiting, self._waiting = self._waiting, None
            if waiting is None:
                return None
            if time.monotonic() - waiting.arrived_s > self._config.max_age_s:
                self._counts = replace(self._counts, dropped=self._counts.dropped + 1)
                return None
            self._counts = replace(self._counts, taken=self._counts.taken + 1)
        try:
            image = upright_bgr(waiting.picture, self._reformatter, waiting.view)
        except (av.FFmpegError, ValueError, MemoryError):
            # Pixels of a kind that nobody can convert: the other cameras are none the worse.
            self._count(damaged=1)
            return None
        return Frame(
            image,
            self.name,
            waiting.index,
            waiting.time_s,
            waiting.epoch,
            waiting.captured_s,
        )

    def pause(self) -> None:
        """Disconnect and stay so until `resume`."""
        self._is_paused.set()
        self._wake.set()

    def resume(self) -> None:
        """Connect again."""
        self._is_paused.clear()
        self._wake.set()

    def close(self) -> None:
        """Stop reading; harmless the second time."""
        self._is_closed.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(_CLOSING_S)

    def _work(self) -> None:
        while not self._is_closed.is_set():
            self._wake.clear()
            if self._is_paused.is_set():
                self._enter(CameraState.PAUSED)
                self._wake.wait()
                continue
            self._enter(CameraState.CONNECTING)
            fault = self._connection()
            if self._is_left:
                continue
            if fault.is_end:
                self._wake.wait(_SHORTEST_ROUND_S - min(_SHORTEST_ROUND_S, self._was_live_s))
                continue
            state = CameraState.BACKING_OFF
            wait_s = self._backoff.next_s()
            if fault.is_configuration:
                state, wait_s = CameraState.FAILED_CONFIG, self._backoff.longest_s()
            self._enter(state, fault.words, wait_s)
            self._wake.wait(wait_s)
        self._enter(CameraState.CLOSED)

    @property
    def _is_left(self) -> bool:
        return self._is_closed.is_set() or self._is_paused.is_set()

    def _enter(
        self, state: CameraState, reason: str | None = None, retry_in_s: float | None = None
    ) -> None:
        before, self._state = self._state, state
        if state is CameraState.LIVE:
            self._count(connections=1)
        if state is before:
            return
        try:
            self._observer.changed(Change(self.name, state, before, reason, retry_in_s))
        except Exception:  # who listens must not end the camera
            logger.exception("camera %s: nobody could be told that it is %s", self.name, state)

    def _connection(self) -> Fault:
        """Read until the camera gives no more, or somebody wants no more; say why it ended."""
        began_s, timeout_s = time.monotonic(), self._config.open_timeout_s
        self._live_since_s = None
        try:
            if self._config.password_file is not None:
                self.address = self.address.with_password(read_password(self._config.password_file))
            with self._open() as container:
                began_s, timeout_s = time.monotonic(), self._config.stall_s
                return self._read(container)
        except ConfigError as error:
            return Fault(str(error), is_configuration=True)
        except (av.FFmpegError, OSError, ValueError) as error:
            waited_s = time.monotonic() - began_s
            return fault_of(error, self.address, waited_s=waited_s, timeout_s=timeout_s)
        except Exception as error:  # a mistake of ours must not end the camera for good
            told = self.address.without_secrets(traceback.format_exc())
            logger.error("camera %s: %s", self.name, told)
            return Fault(f"unexpected {type(error).__name__}: see the log")
        finally:
            if self._was_live_s >= WELL_AFTER_S:
                self._backoff.reset()

    @property
    def _was_live_s(self) -> float:
        return 0.0 if self._live_since_s is None else time.monotonic() - self._live_since_s

    def _open(self) -> InputContainer:
        return opened(
            self.address.url,
            transport=self._config.transport,
            open_timeout_s=self._config.open_timeout_s,
            stall_s=self._config.stall_s,
            hwaccel=accelerator(self._config.hardware),
        )

    def _read(self, container: InputContainer) -> Fault:
        if not container.streams.video:
            return Fault("the camera sends no video", is_configuration=True)
        stream = container.streams.video[0]
        stream.codec_context.thread_type = "SLICE"  # threads by frame would each hold one back
        stream.codec_context.thread_count = self._config.decode_threads
        reading = Reading(container, stream)
        self._clock.begin(reading.time_base)
        # All streams: with the video's alone, sound that goes on would keep `next` from returning.
        packets = container.demux()
        asked_s = time.monotonic()
        while not self._is_left:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                if not self._has_stalled(asked_s):
                    raise
                packet = None
            # Also a packet that came this late: it is FFmpeg's last one, kept back until now.
            if self._has_stalled(asked_s):
                words = f"no packet for {self._config.stall_s:g} s"
                self._enter(CameraState.STALLED, words)
                return Fault(words)
            if packet is None or packet.size == 0:
                return Fault("the camera ended the stream", is_end=reading.is_file_played)
            if packet.stream_index != stream.index:
                continue
            for picture in self._decoded(stream, packet):
                self._arrive(picture, reading)
            if time.monotonic() - reading.last_frame_s > _UNDECODABLE_S:
                return Fault(f"nothing decodable for {_UNDECODABLE_S:g} s")
            asked_s = time.monotonic()
        return Fault("closed")

    def _has_stalled(self, asked_s: float) -> bool:
        return time.monotonic() - asked_s >= 0.9 * self._config.stall_s

    def _decoded(self, stream: VideoStream, packet: Packet[Stream]) -> list[VideoFrame]:
        try:
            pictures = stream.decode(packet)
        except av.FFmpegError:
            self._count(damaged=1)
            return []
        whole = [picture for picture in pictures if not picture.is_corrupt]
        self._count(damaged=len(pictures) - len(whole))
        return whole

    def _arrive(self, picture: VideoFrame, reading: Reading) -> None:
        reading.last_frame_s = time.monotonic()
        if reading.is_paced and picture.time is not None:
            self._is_closed.wait(reading.early_s(picture.time))
        view = reading.shape.view(picture)
        if reading.seen_shape_changes != reading.shape.num_changes or not reading.is_live:
            reading.seen_shape_changes = reading.shape.num_changes
            self._epoch += 1
        if not reading.is_live:
            reading.is_live = True
            self._live_since_s = reading.last_frame_s
            self._enter(CameraState.LIVE)
        now_s = time.monotonic()
        pts = picture.pts if reading.has_clock else None
        time_s = self._clock.tick(pts, now_s)
        came_s = captured_s(reading.began_unix_s, pts, reading.time_base, time.time())
        with self._lock:
            index, is_replacing = self._counts.decoded, self._waiting is not None
            self._waiting = _Waiting(picture, index, time_s, self._epoch, view, now_s, came_s)
        self._count(decoded=1, dropped=int(is_replacing))
        self._arrived()

    def _count(
        self, *, decoded: int = 0, dropped: int = 0, damaged: int = 0, connections: int = 0
    ) -> None:
        with self._lock:
            now = self._counts
            self._counts = replace(
                now,
                decoded=now.decoded + decoded,
                dropped=now.dropped + dropped,
                damaged=now.damaged + damaged,
                connections=now.connections + connections,
            )
