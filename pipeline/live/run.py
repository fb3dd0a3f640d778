"""Many cameras, live: what `trackletgait run`, `perceive` and `identify` run.

    run       cameras -> perception -> queue -> identity -> sinks
    perceive  cameras -> perception -> queue -> sending -> spool (disk) == link ==>
    identify  == link ==> receiving -> kept (disk) -> identity -> sinks

Perception, identity, sending and every sink have a thread each. Nothing that is slow or broken on
the right holds up what is on its left.
"""

from __future__ import annotations

import logging
import os
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gait.closing import Closing
from pipeline.errors import ConfigError, OutputError, PipelineError
from pipeline.identity import Identity
from pipeline.latency import Latencies
from pipeline.live.cameras import CameraDesk, refuse_missing_files
from pipeline.live.commands import Commands
from pipeline.live.config import LiveConfig
from pipeline.live.control import ControlSocket
from pipeline.live.failures import Failures
from pipeline.live.identity import LiveIdentity, TrackletSource
from pipeline.live.instruments import Instruments
from pipeline.live.links import ListenAt, SendTo
from pipeline.live.outputs import Outputs, live_folder
from pipeline.live.overload import Level
from pipeline.live.perceiving import Perceiving
from pipeline.live.receiving import LiveReceiving
from pipeline.live.record import LiveRecord
from pipeline.live.sending import LiveSending
from pipeline.live.status import LinkStatus, RunStatus, known
from pipeline.live.streams import StreamBoard
from pipeline.perception import Perception
from pipeline.privacy.finding import live_purge
from pipeline.privacy.galleries import GalleryPlace
from pipeline.privacy.links import LinkPlace
from pipeline.privacy.places import Place
from pipeline.sinks.folder import ResultsFolder
from pipeline.sinks.live import Event, LiveSink
from pipeline.stages.encode_streaming import streams
from pipeline.telemetry import Telemetry
from pipeline.transport.superseding import SupersedingQueue
from pipeline.version import __version__
from pipeline.web.control import HttpControl

logger = logging.getLogger(__name__)

_TICK_S = 1.0
_ENDING_S = 4.6  # of the 5 s that whoever stops the run must wait
_BATCH_S, _TAKING_S, _LINK_S, _SINKS_S = 1.2, 2.0, 0.5, 2.0  # at most, and of what is left


class LiveRun(Closing):
    """One run over live cameras, or one half of it, until it is stopped.

        with LiveRun(load_live_config(path), out=Path("live")) as run:
            run.run()               # another thread, or a signal, calls run.stop()

    Args:
        config: Cameras, models, where events go.
        out: Folder for sightings.jsonl, events.jsonl, run.json, the control socket and what a link
            keeps on disk; None writes nothing.
        reread: Reads the configuration again when the run is told to; None where there is no file.
        command: The command line, for run.json.
        sinks: Further places events go to, by name; closed with the run.
        link: Where the other half is: `SendTo` only perceives, `ListenAt` only identifies, and
            both want a folder; None does both.

    Attributes:
        identity: Of the identifying half; None in one that perceives.
        perceiving: The perceiving half; None in one that identifies.

    Raises:
        ConfigError: The configuration cannot be used.
        LinkError: The link cannot be opened.
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
        link: SendTo | ListenAt | None = None,
    ) -> None:
        self.config = config
        self._began_s = time.monotonic()
        self._wishes: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._problem: PipelineError | None = None
        if link is not None:
            link.check()
        refuse_missing_files(config.cameras)
        with ExitStack() as opened:
            folder = None if out is None else live_folder(out)
            has_sightings = not isinstance(link, SendTo)
            outputs = Outputs(config, folder, sinks or {}, has_sightings=has_sightings)
            self.outputs = opened.enter_context(outputs)
            self.latencies = Latencies()
            self.telemetry = Telemetry()
            has_cameras = not isinstance(link, ListenAt)
            self.instruments = Instruments(config.metrics, self.latencies, has_cameras=has_cameras)
            opened.callback(self.instruments.close)
            self._join(link, folder, reread, opened)
            if folder is not None:
                opened.enter_context(live_purge(config, folder.path, list(self._places())))
            self._control = self._open_control(config, folder, opened)
            if config.control_http is not None:
                token = config.control_http.read_token()
                self.instruments.obey(HttpControl(Commands(self), token))
            self._record = LiveRecord(folder, config, command, self.perception, self.identity)
            self._opened = opened.pop_all()

    def run(self) -> None:
        """Read, find, recognise and tell until `stop`; then write what is left.

        Raises:
            PipelineError: A step failed the same way again and again.
        """
        self._record.write("running")
        self.taking.start()
        if self.perceiving is not None:
            self.perceiving.start()
        self.instruments.health.models_loaded()
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

    @property
    def perception(self) -> Perception | None:
        """The models of the perceiving half."""
        return None if self.perceiving is None else self.perceiving.perception

    @property
    def desk(self) -> CameraDesk | None:
        """Where cameras come and go."""
        return None if self.perceiving is None else self.perceiving.desk

    def status(self) -> RunStatus:
        """Return what the run does now."""
        counts = self.queue.counts
        return RunStatus(
            version=__version__,
            pid=os.getpid(),
            uptime_s=round(time.monotonic() - self._began_s, 1),
            cameras=[] if self.perceiving is None else self.perceiving.rows(),
            streams=[] if self.receiving is None else self.streams.rows(),
            link=self._link_status(),
            sinks=self.outputs.statuses(),
            overload=(self.perceiving.overload.level if self.perceiving else Level.CALM).value,
            queue=self.queue.depth,
            queue_lost=counts.superseded + counts.dropped,
            sightings=0 if self.naming is None else self.naming.num_sightings,
            failures={failures.step: failures.count for failures in self._failures},
            latency_s={
                stage: [known(seconds) for seconds in self.latencies.percentiles(stage)]
                for stage in self.latencies.stages
            },
        )

    # Its parts.

    def _join(
        self,
        link: SendTo | ListenAt | None,
        folder: ResultsFolder | None,
        reread: Callable[[], LiveConfig] | None,
        opened: ExitStack,
    ) -> None:
        """Load the models and join what runs here, as drawn at the top of this file."""
        self.identity: Identity | None = None
        self.perceiving: Perceiving | None = None
        self.receiving: LiveReceiving | None = None
        self.sending: LiveSending | None = None
        self.naming: LiveIdentity | None = None
        self.taking: LiveIdentity | LiveSending  # one of the two takes the tracklets
        self.queue = SupersedingQueue()
        self.streams = StreamBoard(self.latencies)
        self._failures: list[Failures] = []
        if isinstance(link, SendTo):
            sends = opened.enter_context(link.open(_wanted(folder)))
            self.sending = LiveSending(self.queue, sends, self._failing("link"))
            self.taking = self.sending
            walks_grow = streams(self.config.pipeline.encoder, self.config.pipeline.assembler)
            self._perceive(reread, opened, is_streaming=walks_grow)
        elif isinstance(link, ListenAt):
            identity = self._load_identity(opened)
            receives = opened.enter_context(link.open(_wanted(folder)))
            self.receiving = LiveReceiving(receives, self.outputs.are_written)
            told = self.receiving.told_before(_wanted(folder).sightings)
            self.taking = self._identify(
                identity, self.receiving, written=self.receiving.written, told=told
            )
        else:
            identity = self._load_identity(opened)
            overload = self._perceive(reread, opened, is_streaming=identity.is_streaming).overload
            self.taking = self._identify(identity, self.queue, rest_s=overload.identity_rest_s)

    def _perceive(
        self,
        reread: Callable[[], LiveConfig] | None,
        opened: ExitStack,
        *,
        is_streaming: bool,
    ) -> Perceiving:
        failures = self._failing("perception")
        self.perceiving = Perceiving(
            self.config,
            reread,
            self.queue,
            is_streaming=is_streaming,
            tell=self.outputs.put,
            witnesses=self.outputs.witnesses,
            instruments=self.instruments,
            latencies=self.latencies,
            telemetry=self.telemetry,
            failures=failures,
        )
        return opened.enter_context(self.perceiving)

    def _load_identity(self, opened: ExitStack) -> Identity:
        self.identity = identity = Identity(self.config.pipeline, self.telemetry)

        def give_back() -> None:  # but not to a thread that hangs and still uses it
            if self.naming is None or not self.naming.is_alive:
                identity.close()

        opened.callback(give_back)
        return identity

    def _identify(self, identity: Identity, source: TrackletSource, **more: Any) -> LiveIdentity:
        self.naming = LiveIdentity(
            identity,
            source,
            self._tell,
            observe=self.streams.identified,
            failures=self._failing("identity"),
            gallery=identity.gallery.store.uid,
            **more,
        )
        return self.naming

    def _failing(self, step: str) -> Failures:
        self._failures.append(Failures(step, self.stop))
        return self._failures[-1]

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

    def _places(self) -> Iterator[Place]:
        """Yield what holds data about people and is open here."""
        if self.identity is not None:
            yield GalleryPlace(self.identity.gallery.store)
        if (end := self.sending or self.receiving) is not None:
            yield LinkPlace(end.link)

    def _tell(self, event: Event) -> None:
        if event.content.get("event") == "ended":
            camera = str(event.content["camera"])
            self.instruments.metrics.sighting(camera if camera in self.streams else "others")
        self.outputs.put(event)

    # Its life.

    def _next_wish(self) -> str:
        try:
            return self._wishes.get(timeout=_TICK_S)
        except queue.Empty:
            return ""

    def _tick(self) -> None:
        """Once a second: count, show, and end the tracks of cameras that give no frames."""
        link = self._link_status()
        if self.perceiving is not None:
            self.perceiving.tick(max(self.queue.age_s, link.waiting_s if link else 0.0))
        self.instruments.show_rest(self.queue, self.outputs.runners, link)

    def _link_status(self) -> LinkStatus | None:
        end = self.sending or self.receiving
        return None if end is None else end.status()

    def _reload(self) -> None:
        try:
            if self.desk is None:
                raise ConfigError(
                    "this half has no cameras; restart it to change its configuration"
                )
            self.desk.reload()
        except ConfigError as error:
            logger.error("reload: nothing has changed: %s", error)

    def _end(self) -> None:
        """Write what is left; what hangs is left to end with the process."""
        logger.info("ending: writing what is left")
        deadline_s = time.monotonic() + _ENDING_S
        if self.perceiving is not None:
            self.perceiving.end(_BATCH_S)
        if not self.taking.end(_TAKING_S):
            logger.warning(self.taking.when_lost)
        if self.sending is not None:
            self.sending.close(_LINK_S)
        self.outputs.close(min(_SINKS_S, deadline_s - time.monotonic()))
        if self.perceiving is not None:
            self.perceiving.join(max(0.0, deadline_s - time.monotonic()))


def _wanted(folder: ResultsFolder | None) -> ResultsFolder:
    if folder is None:
        raise OutputError("a link wants a folder for what it keeps on disk; give one with --out")
    return folder
