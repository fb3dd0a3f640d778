"""The --out folder of a live run, the sinks beside it, and the video of people."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gait.closing import Closing
from pipeline.errors import ConfigError, OutputError
from pipeline.live.config import LiveConfig
from pipeline.live.status import SinkStatus
from pipeline.recording.config import RecordingConfig
from pipeline.recording.publishing import Publishing
from pipeline.recording.recording import Recording
from pipeline.sinks.folder import MARKER, ResultsFolder
from pipeline.sinks.jsonl import JsonlSink
from pipeline.sinks.live import Event, LiveSink, Outlet, SinkRunner, close_together
from pipeline.witness import Witness

_FULL_BYTES = 100_000_000
_KEEP = 10
_JOURNAL_FULL_BYTES = 10_000_000
_JOURNAL_KEEP = 2
_CLOSING_S = 1.0
_SIGHTINGS = "sightings.jsonl"
_LOOK_S = 0.01  # between two looks at a file that takes milliseconds


def live_folder(path: Path) -> ResultsFolder:
    """Return the folder of a live run, made if missing; what former live runs wrote stays.

    Raises:
        OutputError: It cannot be made, or holds something else.
    """
    folder = ResultsFolder(path)
    with folder.writing(path):
        path.mkdir(parents=True, exist_ok=True)
        is_ours = (path / MARKER).exists()
        is_taken = folder.run.exists() or folder.sightings.exists()
        if folder.report.exists() or (is_taken and not is_ours):
            raise OutputError(
                f"{path}: expected a new folder or one of `trackletgait run`, found other results; "
                "choose another folder with --out"
            )
        (path / MARKER).write_text("A live run of trackletgait; the next one adds to its files.\n")
    return folder


class Outputs(Closing):
    """Every sink, and what records video, each in its own thread.

    Attributes:
        witnesses: Those that want to be shown every frame.

    Args:
        config: With further sinks.
        folder: For sightings.jsonl and events.jsonl, which rotate; None writes neither.
        sinks: More of them, by name.
        has_sightings: Whether there are any.

    Raises:
        ConfigError: A sink can never work as configured.
        OutputError: A file cannot be opened.
    """

    def __init__(
        self,
        config: LiveConfig,
        folder: ResultsFolder | None,
        sinks: Mapping[str, LiveSink],
        *,
        has_sightings: bool = True,
    ) -> None:
        self._runners: list[Outlet] = []
        self._is_closed = False
        self.witnesses: list[Witness] = []
        starts: list[Callable[[], Outlet]] = []
        if folder is not None:
            starts += [lambda: _sightings(folder)] if has_sightings else []
            starts += [lambda: _journal(folder)]
        starts += [_starting(name, sink) for name, sink in sinks.items()]
        starts += [sink.start for sink in config.sinks]
        try:
            for start in starts:
                self._runners.append(start())
            if config.recording is not None:
                self._add(_recording(config.recording, folder))
            if config.publish is not None:
                self._add(Publishing(config.publish))
        except BaseException:
            self.close()
            raise

    def _add(self, video: Recording | Publishing) -> None:
        self._runners.append(video)
        self.witnesses.append(video)

    def put(self, event: Event) -> None:
        """Pass an event to every sink; never blocks."""
        for runner in self._runners:
            runner.put(event)

    def are_written(self, is_stopped: threading.Event) -> bool:
        """Wait until sightings.jsonl has all that was put; False if stopped before that."""
        files = [runner for runner in self._runners if runner.name == _SIGHTINGS]
        while any(runner.counts.waiting for runner in files):
            if is_stopped.wait(_LOOK_S):
                return False
        return True

    @property
    def runners(self) -> Sequence[Outlet]:
        """All of them."""
        return tuple(self._runners)

    def statuses(self) -> list[SinkStatus]:
        """Return what each sink does now."""
        pairs = [(runner.name, runner.counts) for runner in self._runners]
        return [
            SinkStatus(
                name=name,
                written=counts.written,
                dropped=counts.dropped,
                waiting=counts.waiting,
                error=counts.error,
            )
            for name, counts in pairs
        ]

    def close(self, within_s: float = _CLOSING_S) -> None:
        """Write what is left, but end in time; what hung the first time is not waited for again."""
        if not self._is_closed:
            self._is_closed = True
            close_together(self._runners, within_s)


def _recording(config: RecordingConfig, folder: ResultsFolder | None) -> Recording:
    path = Path(config.folder)
    if not path.is_absolute():
        if folder is None:
            raise ConfigError(
                f"recording.folder: expected an absolute path in a run without --out, got {path}"
            )
        path = folder.path / path
    return Recording(config, path)


def _starting(name: str, sink: LiveSink) -> Callable[[], SinkRunner]:
    return lambda: SinkRunner(sink, name)


def _sightings(folder: ResultsFolder) -> SinkRunner:
    sink = JsonlSink(folder.sightings, rotate_bytes=_FULL_BYTES, keep=_KEEP, is_synced=True)
    return SinkRunner(sink, _SIGHTINGS, kinds={"sighting"})


def _journal(folder: ResultsFolder) -> SinkRunner:
    path = folder.path / "events.jsonl"
    sink = JsonlSink(path, rotate_bytes=_JOURNAL_FULL_BYTES, keep=_JOURNAL_KEEP)
    return SinkRunner(sink, "events.jsonl", kinds={"camera", "overload"})
