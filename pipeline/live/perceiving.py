"""The perceiving half of a live run: cameras in, tracklets into a queue.

cameras -> perception (a thread) -> queue
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from pydantic import JsonValue

from gait.closing import Closing
from gait.runtimes.machine import cores
from gait.strict import StrictModel
from pipeline.config import PipelineConfig
from pipeline.errors import PipelineError
from pipeline.latency import Latencies
from pipeline.live.cameras import CameraDesk
from pipeline.live.clocks import StreamClocks
from pipeline.live.config import LiveConfig
from pipeline.live.failures import Failures
from pipeline.live.instruments import Instruments
from pipeline.live.overload import Level, OverloadPolicy, Step
from pipeline.live.perception import LivePerception
from pipeline.live.status import Board, CameraStatus
from pipeline.perception import Perception
from pipeline.sinks.live import Event, camera_event
from pipeline.sources.camera_state import CameraState, Change
from pipeline.sources.cameras import Cameras
from pipeline.telemetry import Telemetry
from pipeline.transport.superseding import SupersedingQueue
from pipeline.witness import Witness

logger = logging.getLogger(__name__)

_TROUBLE = (CameraState.STALLED, CameraState.BACKING_OFF, CameraState.FAILED_CONFIG)


class Perceiving(Closing):
    """Cameras, the models that find people in them, and what gives way when they are too slow.

    Args:
        config: Of the run.
        reread: Reads the configuration again; None where there is no file.
        queue: Where tracklets go.
        is_streaming: Whether tracklets continue each other.
        tell: Where events go; must not block.
        witnesses: Who is shown every frame; they must not block.
        instruments: Shown what the cameras do.
        latencies: Where the time from capture to track is counted.
        telemetry: Where the time of each step is added up.
        failures: Told how each batch went, and when nothing can be perceived any more.

    Raises:
        ConfigError: A stage cannot be what it is asked to be.
        ModelError: A model cannot be loaded.
    """

    def __init__(
        self,
        config: LiveConfig,
        reread: Callable[[], LiveConfig] | None,
        queue: SupersedingQueue,
        *,
        is_streaming: bool,
        tell: Callable[[Event], None],
        witnesses: Sequence[Witness],
        instruments: Instruments,
        latencies: Latencies,
        telemetry: Telemetry,
        failures: Failures,
    ) -> None:
        self._tell = tell
        self._instruments = instruments
        self._failures = failures
        self._end_after_s = config.end_after_s
        models = as_live(config.pipeline)
        self.perception = Perception(models, telemetry, is_streaming=is_streaming)
        self.board = Board(latencies)
        self.overload = OverloadPolicy(config.overload, self)
        self.cameras = Cameras(self, config.batching)
        self.desk = CameraDesk(self.cameras, config, reread)
        self._seeing = LivePerception(
            self.perception,
            queue.put,
            clocks=StreamClocks(),
            board=self.board,
            failures=failures,
            overload=self.overload,
            is_present=lambda name: name in self.cameras.by_name,
            witnesses=witnesses,
        )
        self._thread = threading.Thread(target=self._work, name="perception", daemon=True)
        self._closing = threading.Thread(target=self.cameras.close, name="closing", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()
        self.desk.begin()

    def tick(self, waited_s: float) -> None:
        """Once a second: show, and end the tracks of cameras that give no frames.

        Args:
            waited_s: How long tracklets have waited for identity.
        """
        cameras = self.cameras.by_name
        self.overload.tracklets_wait(waited_s)
        self.board.tick(cameras)
        for name, camera in cameras.items():
            if self.board.silent_for_s(camera) > self._end_after_s:
                self._seeing.end_tracks(name)
        self._instruments.show_cameras(cameras, self.board.rows(cameras), self.overload)

    def rows(self) -> list[CameraStatus]:
        """Return every camera's status."""
        return self.board.rows(self.cameras.by_name)

    def end(self, within_s: float) -> None:
        """End all tracks; a batch that takes longer is lost, and cameras that hang are left."""
        self._closing.start()
        self._thread.join(within_s)
        if self._thread.is_alive():
            logger.warning("perception is still at work: its last batch is lost")
        else:
            self._seeing.finish()

    def join(self, within_s: float) -> None:
        """Wait until the cameras are closed."""
        self._closing.join(within_s)

    def close(self) -> None:
        """Close cameras and models, but no model that a thread which hangs still uses."""
        self.cameras.close()
        if not self._thread.is_alive():  # closing them under the thread would crash
            self.perception.close()

    # What the threads tell.

    def changed(self, change: Change) -> None:
        """A camera is in another state."""
        self.board.changed(change)
        self._instruments.changed(change)
        self._tell(camera_event(change, time.time()))
        level = logging.WARNING if change.state in _TROUBLE else logging.INFO
        logger.log(level, "camera %s: %s", change.camera, _words(change))

    def reached(self, level: Level, before: Level, reason: str) -> None:
        """Something gives way, or comes back."""
        logger.warning("overload: %s, was %s: %s", level.value, before.value, reason)
        content: dict[str, JsonValue] = {"level": level.value, "before": before.value}
        self._tell(Event("overload", time.time(), {**content, "reason": reason}))

    def stepped(self, step: Step) -> None:
        """A camera is looked at less often, or more often again."""
        logger.info(
            "overload: camera %s: 1 frame in %d, was 1 in %d: %s",
            *(step.camera, step.to_stride, step.from_stride, step.reason),
        )
        content: dict[str, JsonValue] = {"camera": step.camera, "stride": step.to_stride}
        more: dict[str, JsonValue] = {"before": step.from_stride, "reason": step.reason}
        self._tell(Event("overload", time.time(), {**content, **more}))

    def _work(self) -> None:
        try:
            for batch in self.cameras.batches():
                self._seeing.take(batch)
        except BaseException as error:  # none is expected here: those of a batch are dealt with
            logger.exception("perception ended")
            words = f"perception ended: {type(error).__name__}: {error}"
            self._failures.give_up(PipelineError(words))


def as_live(config: PipelineConfig) -> PipelineConfig:
    """Return the configuration without steps that run ahead: what waits there would grow old.

    Instead each step uses all cores by itself, unless told how many.
    """
    runtime = config.runtime.model_copy(update={"ahead": 0})
    steps = {name: _on_all_cores(getattr(config, name)) for name in ("detector", "segmenter")}
    return config.model_copy(update={"runtime": runtime, **steps})


def _on_all_cores(step: StrictModel) -> StrictModel:
    if "threads" not in type(step).model_fields or "threads" in step.model_fields_set:
        return step
    return step.model_copy(update={"threads": cores()})


def _words(change: Change) -> str:
    reason = "" if change.reason is None else f": {change.reason}"
    retry = "" if change.retry_in_s is None else f"; next attempt in {change.retry_in_s:.1f} s"
    return f"{change.state.value}{reason}{retry}"
