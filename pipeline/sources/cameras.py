"""All cameras of a run: each read by itself, their newest frames batched together.

with Cameras(observer, BatchingConfig()) as cameras:
    cameras.add("gate", CameraConfig(url="rtsp://..."))
    for batch in cameras.batches():
        ...
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from pydantic import Field

from gait.closing import Closing
from gait.strict import StrictModel
from pipeline.errors import ConfigError
from pipeline.sources.address import Address
from pipeline.sources.camera import Camera, CameraConfig, CameraCounts
from pipeline.sources.camera_process import ProcessCamera
from pipeline.sources.camera_state import CameraObserver, CameraState
from pipeline.values import Batch, Frame


class BatchingConfig(StrictModel):
    """When the frames of several cameras go through the models together.

    Attributes:
        window_s: Longest wait for other cameras' frames after the first one came. Higher fills
            batches on a GPU, at the price of latency; a late camera is never waited for longer.
        batch_frames: Frames that make a batch full. Higher uses a GPU better, at the price of
            memory and of a longer turn for each.
    """

    window_s: float = Field(default=0.04, ge=0, le=1)
    batch_frames: int = Field(default=8, ge=1, le=256)


class AnyCamera(Protocol):
    """A camera, however it is read: `Camera` in a thread, `ProcessCamera` in a process."""

    name: str
    address: Address

    @property
    def state(self) -> CameraState:
        """Where it is now."""

    @property
    def counts(self) -> CameraCounts:
        """What it has done so far."""

    def start(self) -> None:
        """Begin to read."""

    def take(self) -> Frame | None:
        """Return the newest frame, once; None if there is no new one that is young enough."""

    def pause(self) -> None:
        """Disconnect and stay so until `resume`."""

    def resume(self) -> None:
        """Connect again."""

    def close(self) -> None:
        """Stop reading; harmless the second time."""


class Cameras(Closing):
    """Cameras that may be added, removed, paused and changed while they are read.

    What happens to one does not touch another: each has its own thread or process, and
    its place for a frame.
    """

    def __init__(self, observer: CameraObserver, config: BatchingConfig | None = None) -> None:
        self._observer = observer
        self._config = config or BatchingConfig()
        self._changed = threading.Condition()
        self._cameras: dict[str, AnyCamera] = {}
        self._ended: list[str] = []
        self._has_news = False
        self._is_closed = False
        self._first = 0  # whose frame is asked for first; moves on, so that nobody is always last

    def add(self, name: str, config: CameraConfig) -> None:
        """Begin to read a camera.

        Raises:
            ConfigError: There is one of that name, or its address cannot be used.
        """
        kind = ProcessCamera if config.process else Camera
        camera: AnyCamera = kind(
            name, Address.parse(config.url), config, self._observer, arrived=self._notify
        )
        with self._changed:
            if name in self._cameras:
                raise ConfigError(f"camera {name}: there is one of that name already")
            self._cameras[name] = camera
        camera.start()

    def remove(self, name: str) -> None:
        """Stop reading a camera; its tracks end with the next batch.

        Raises:
            ConfigError: There is none of that name.
        """
        camera = self._named(name)
        with self._changed:
            del self._cameras[name]
            self._ended.append(name)
        camera.close()
        self._notify()

    def change(self, name: str, config: CameraConfig) -> None:
        """Read a camera in another way from now on.

        Raises:
            ConfigError: There is none of that name, or the new address cannot be used; the camera
                is read on as it was.
        """
        Address.parse(config.url)
        self.remove(name)
        self.add(name, config)

    def pause(self, name: str) -> None:
        """Disconnect a camera and keep it.

        Raises:
            ConfigError: There is none of that name.
        """
        self._named(name).pause()

    def resume(self, name: str) -> None:
        """Connect a paused camera again.

        Raises:
            ConfigError: There is none of that name.
        """
        self._named(name).resume()

    @property
    def by_name(self) -> Mapping[str, AnyCamera]:
        """The cameras there are now."""
        with self._changed:
            return dict(self._cameras)

    def batches(self) -> Iterator[Batch]:
        """Yield the newest frames until `close`, waiting while there are none."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._has_news or self._is_closed)
                if self._is_closed:
                    return
                self._has_news = False
                ended, self._ended = tuple(self._ended), []
            if ended:  # by itself: a camera of the same name may have been added since
                yield Batch((), ended)
            if frames := self._gathered():
                yield Batch(frames)

    def close(self) -> None:
        """Stop reading all of them; harmless the second time."""
        with self._changed:
            self._is_closed = True
            cameras, self._cameras = list(self._cameras.values()), {}
            self._changed.notify_all()
        # At once: one that hangs takes no time from the others.
        threads = [threading.Thread(target=camera.close, daemon=True) for camera in cameras]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _gathered(self) -> tuple[Frame, ...]:
        """Return at most one frame a camera, waiting no longer than the window for the last."""
        frames: dict[str, Frame] = {}
        deadline_s: float | None = None
        while True:
            cameras = self._in_turn()
            for camera in cameras:
                if camera.name not in frames and len(frames) < self._config.batch_frames:
                    frame = camera.take()
                    if frame is not None:
                        frames[camera.name] = frame
            if not frames:  # what came was too old
                return ()
            now_s = time.monotonic()
            deadline_s = now_s + self._config.window_s if deadline_s is None else deadline_s
            if self._is_enough(frames, cameras) or now_s >= deadline_s:
                if len(frames) >= self._config.batch_frames:
                    self._notify()  # others may have frames that had no room
                return tuple(frames.values())
            with self._changed:
                self._changed.wait_for(
                    lambda: self._has_news or self._is_closed, deadline_s - now_s
                )
                self._has_news = False

    def _is_enough(self, frames: Mapping[str, Frame], cameras: Sequence[AnyCamera]) -> bool:
        if self._is_closed or len(frames) >= self._config.batch_frames:
            return True
        return all(c.name in frames for c in cameras if c.state is CameraState.LIVE)

    def _in_turn(self) -> list[AnyCamera]:
        with self._changed:
            cameras = list(self._cameras.values())
        if not cameras:
            return []
        self._first = (self._first + 1) % len(cameras)
        return cameras[self._first :] + cameras[: self._first]

    def _named(self, name: str) -> AnyCamera:
        with self._changed:
            if name not in self._cameras:
                known = ", ".join(self._cameras) or "none"
                raise ConfigError(f"camera {name}: expected one of {known}")
            return self._cameras[name]

    def _notify(self) -> None:
        with self._changed:
            self._has_news = True
            self._changed.notify_all()
