"""Many cameras, live: what `trackletgait run` runs.

    cameras -> perception (a thread) -> queue -> identity (a thread) -> sinks (a thread each)

Nothing that is slow or broken on the right holds up what is on its left.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from pydantic import JsonValue

from gait.closing import Closing
from pipeline.config import PipelineConfig
from pipeline.errors import ConfigError, PipelineError
from pipeline.identity import Identity
from pipeline.latency import Latencies
from pipeline.live_cameras import CameraDesk
from pipeline.live_clocks import StreamClocks
from pipeline.live_commands import Commands
from pipeline.live_config import LiveConfig
from pipeline.live_control import ControlSocket
from pipeline.live_failures import Failures
from pipeline.live_identity import LiveIdentity
from pipeline.live_instruments import Instruments
from pipeline.live_outputs import Outputs, live_folder
from pipeline.live_perception import LivePerception
from pipeline.live_record import LiveRecord
from pipeline.live_status import Board, RunStatus, known
from pipeline.overload import Level, OverloadPolicy, Step
from pipeline.perception import Perception
from pipeline.sinks.folder import ResultsFolder
from pipeline.sinks.live import Event, LiveSink, camera_event
from pipeline.sources.camera_state import CameraState, Change
from pipeline.sources.cameras import Cameras
from pipeline.telemetry import Telemetry
from pipeline.transport.superseding import SupersedingQueue
from pipeline.version import __version__

logger = logging.getLogger(__name__)

_TICK_S = 1.0
_ENDING_S = 4.6  # of the 5 s that whoever stops the run must wait
_BATCH_S, _IDENTITY_S, _SINKS_S = 1.2, 2.0, 2.0  # at most, and of what is left

_TROUBLE = (CameraState.STALLED, CameraState.BACKING_OFF, CameraState.FAILED_CONFIG)


class LiveRun(Closing):
    """One run over live cameras, until it is stopped.

        with LiveRun(load_live_config(path), out=Path("live")) as run:
            run.run()               # another thread, or a signal, calls run.stop()

    Args:
        config: Cameras, models, where events go.
        out: Folder for sightings.jsonl, events.jsonl, run.json and the control socket; None
            writes nothing.
        reread: Reads the configuration again when the run is told to; None where there is no file.
        command: The command line, for run.json.
        sinks: Further places events go to, by name; closed with the run.

    Raises:
        ConfigError: The configuration cannot be used.
        ModelError: A model cannot be loaded.
        OutputError: A file, folder or port cannot be used.
    """

    def __init__(
        self,
        config: LiveConfig,
        *,
        out: Path | None = None,
        reread: Callable[[], LiveConfig] | None = None,
        command: Sequence[str] = (),
        sinks: Mapping[str, LiveSink] | None = None,
    ) -> None:
        self.config = config
        self._began_s = time.monotonic()
        self._wishes: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._problem: PipelineError | None = None
        with ExitStack() as opened:
            folder = None if out is None else live_folder(out)
            self.outputs = opened.enter_context(Outputs(config, folder, sinks or {}))
            self.latencies = Latencies()
            self.instruments = Instruments(config.metrics, self.latencies)
            opened.callback(self.instruments.close)
            self._load(config, opened)
            self.desk = CameraDesk(self.cameras, config, reread)
            self._control = self._open_control(config, folder, opened)
            self._record = LiveRecord(folder, config, command, self.perception, self.identity)
            self._opened = opened.pop_all()

    def run(self) -> None:
        """Read, find, recognise and tell until `stop`; then write what is left.

        Raises:
            PipelineError: A step failed the same way again and again.
        """
        self._record.write("running")
        self._naming.start()
        self._perceiving.start()
        self.instruments.health.models_loaded()
        self.desk.begin()
        while (wish := self._next_wish()) != "stop":
            if wish == "reload":
                self._reload()
            self._tick()
        self._end()
        self._record.write(
            "failed" if self._problem else "finished",
            problem=None if self._problem is None else str(self._problem),
            stages=self.telemetry.stages,
        )
        if self._problem is not None:
            raise self._problem

    def stop(self, problem: PipelineError | None = None) -> None:
        """End soon and cleanly, from any thread or signal handler; the first problem counts."""
        self._problem = self._problem or problem
        self._wishes.put("stop")

    def reload(self) -> None:
        """Read the cameras' file again soon, from any thread or signal handler."""
        self._wishes.put("reload")

    def close(self) -> None:
        """Free everything; harmless the second time, and also when it never ran."""
        self._opened.close()

    def abandon(self) -> None:
        """Remove what would be left behind by a process that ends at once."""
        if self._control is not None:
            self._control.path.unlink(missing_ok=True)

    def status(self) -> RunStatus:
        """Return what the run does now."""
        counts = self.queue.counts
        return RunStatus(
            version=__version__,
            pid=os.getpid(),
            uptime_s=round(time.monotonic() - self._began_s, 1),
            cameras=self.board.rows(self.cameras.by_name),
            sinks=self.outputs.statuses(),
            overload=self.overload.level.value,
            queue=self.queue.depth,
            queue_lost=counts.superseded + counts.dropped,
            sightings=self._naming.num_sightings,
            failures={failures.step: failures.count for failures in self._failures},
            latency_s={
                stage: [known(seconds) for seconds in self.latencies.percentiles(stage)]
                for stage in self.latencies.stages
            },
        )

    # What the threads tell.

    def changed(self, change: Change) -> None:
        """A camera is in another state."""
        self.board.changed(change)
        self.instruments.changed(change)
        self.outputs.put(camera_event(change, time.time()))
        level = logging.WARNING if change.state in _TROUBLE else logging.INFO
        logger.log(level, "camera %s: %s", change.camera, _words(change))

    def reached(self, level: Level, before: Level, reason: str) -> None:
        """Something gives way, or comes back."""
        logger.warning("overload: %s, was %s: %s", level.value, before.value, reason)
        content: dict[str, JsonValue] = {"level": level.value, "before": before.value}
        self.outputs.put(Event("overload", time.time(), {**content, "reason": reason}))

    def stepped(self, step: Step) -> None:
        """A camera is looked at less often, or more often again."""
        logger.info(
            "overload: camera %s: every %d. frame, was every %d.: %s",
            *(step.camera, step.to_stride, step.from_stride, step.reason),
        )
        content: dict[str, JsonValue] = {"camera": step.camera, "stride": step.to_stride}
        more: dict[str, JsonValue] = {"before": step.from_stride, "reason": step.reason}
        self.outputs.put(Event("overload", time.time(), {**content, **more}))

    def _tell(self, event: Event) -> None:
        if event.content.get("event") == "ended":
            self.instruments.metrics.sighting(str(event.content["camera"]))
        self.outputs.put(event)

    # Its parts.

    def _load(self, config: LiveConfig, opened: ExitStack) -> None:
        """Load the models and join the halves."""
        self.telemetry = Telemetry()
        self.identity = Identity(config.pipeline, self.telemetry)
        try:
            self.perception = Perception(
                _one_after_another(config.pipeline),
                self.telemetry,
                is_streaming=self.identity.is_streaming,
            )
        except BaseException:
            self.identity.close()
            raise
        self.board = Board(self.latencies)
        self.overload = OverloadPolicy(config.overload, self)
        self.queue = SupersedingQueue()
        self.cameras = Cameras(self, config.batching)
        clocks = StreamClocks()
        self._failures = Failures("perception", self.stop), Failures("identity", self.stop)
        self._seeing = LivePerception(
            self.perception,
            self.queue.put,
            clocks=clocks,
            board=self.board,
            failures=self._failures[0],
            overload=self.overload,
            is_present=lambda name: name in self.cameras.by_name,
            witnesses=self.outputs.witnesses,
        )
        self._naming = LiveIdentity(
            self.identity,
            self.queue,
            self._tell,
            clocks=clocks,
            latencies=self.latencies,
            failures=self._failures[1],
            overload=self.overload,
        )
        self._perceiving = threading.Thread(target=self._perceive, name="perception", daemon=True)
        opened.callback(self._give_back_models)
        opened.enter_context(self.cameras)

    def _open_control(
        self, config: LiveConfig, folder: ResultsFolder | None, opened: ExitStack
    ) -> ControlSocket | None:
        if config.control is None:
            return None
        path = Path(config.control)
        if not path.is_absolute():
            if folder is None:
                return None
            path = folder.path / path
        return opened.enter_context(ControlSocket(path, Commands(self)))

    def _perceive(self) -> None:
        try:
            for batch in self.cameras.batches():
                self._seeing.take(batch)
        except BaseException as error:  # none is expected here: those of a batch are dealt with
            logger.exception("perception ended")
            self.stop(PipelineError(f"perception ended: {type(error).__name__}: {error}"))

    # Its life.

    def _next_wish(self) -> str:
        try:
            return self._wishes.get(timeout=_TICK_S)
        except queue.Empty:
            return ""

    def _tick(self) -> None:
        """Once a second: count, show, and end the tracks of cameras that give no frames."""
        cameras = self.cameras.by_name
        self.overload.tracklets_wait(self.queue.age_s)
        self.board.tick(cameras)
        for name, camera in cameras.items():
            if self.board.silent_for_s(camera) > self.config.end_after_s:
                self._seeing.end_tracks(name)
        self.instruments.show_cameras(cameras, self.board.rows(cameras), self.overload)
        self.instruments.show_rest(self.queue, self.outputs.runners)

    def _reload(self) -> None:
        try:
            self.desk.reload()
        except ConfigError as error:
            logger.error("reload: nothing has changed: %s", error)

    def _end(self) -> None:
        """Write what is left; what hangs is left to end with the process."""
        logger.info("ending: writing what is left")
        deadline_s = time.monotonic() + _ENDING_S
        closing = threading.Thread(target=self.cameras.close, name="closing", daemon=True)
        closing.start()
        self._perceiving.join(_BATCH_S)
        if self._perceiving.is_alive():
            logger.warning("perception is still at work: its last batch is lost")
        else:
            self._seeing.finish()
        if not self._naming.end(_IDENTITY_S):
            logger.warning("identity is still at work: its last tracklets are lost")
        self.outputs.close(min(_SINKS_S, deadline_s - time.monotonic()))
        closing.join(max(0.0, deadline_s - time.monotonic()))

    def _give_back_models(self) -> None:
        """Close the models, but none that a thread which hangs still uses: that would crash."""
        with ExitStack() as each:
            if not self._naming.is_alive:
                each.callback(self.identity.close)
            if not self._perceiving.is_alive():
                each.callback(self.perception.close)


def _one_after_another(config: PipelineConfig) -> PipelineConfig:
    """Return the configuration without steps that run ahead: what waits there would grow old."""
    runtime = config.runtime.model_copy(update={"ahead": 0})
    return config.model_copy(update={"runtime": runtime})


def _words(change: Change) -> str:
    reason = "" if change.reason is None else f": {change.reason}"
    retry = "" if change.retry_in_s is None else f"; next attempt in {change.retry_in_s:.1f} s"
    return f"{change.state.value}{reason}{retry}"
