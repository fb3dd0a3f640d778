"""Recorded files in, a folder of results out: what `trackletgait process` runs."""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from gait.closing import close_all
from gait.errors import GaitError
from gait.tracklet import Tracklet
from pipeline.config import PipelineConfig
from pipeline.errors import OutputError, PipelineError, SourceError
from pipeline.reading import Reader
from pipeline.runner import Pipeline
from pipeline.sinks.folder import ResultsFolder
from pipeline.sinks.recorder import Recorder
from pipeline.sinks.report import write_report
from pipeline.sinks.run import ModelFile, RunRecord, StageSpeed, StreamReport, write_run
from pipeline.sinks.sightings import SightingLog
from pipeline.sinks.tracklets import TrackletStore
from pipeline.sinks.video import annotate
from pipeline.sources.inputs import expand, open_source, stream_names
from pipeline.sources.source import Source, StreamInfo
from pipeline.telemetry import Telemetry
from pipeline.values import Embedding, Frame, Match, Sighting
from pipeline.version import __version__
from trackers.boxes import Mask, Tracks

logger = logging.getLogger(__name__)

_VERSIONED = ("torch", "numpy", "opencv-python-headless", "av", "onnxruntime")

Step = Literal["reading", "read", "drawing", "drawn", "failed"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one stream has come.

    Attributes:
        stream: The stream's name.
        step: What is being done with it.
        frames: Frames the step has done.
        total: Frames it expects to do, None when the file does not say.
        tracks: Tracks followed so far; a person who was lost for a while has several.
        people: Different identities recognised so far.
        problem: What went wrong with the stream, in words.
    """

    stream: str
    step: Step
    frames: int = 0
    total: int | None = None
    tracks: int = 0
    people: int = 0
    problem: str | None = None


@dataclass(slots=True)
class _StreamState:
    name: str
    path: Path
    info: StreamInfo | None = None
    total: int | None = None
    frames: int = 0
    from_s: float | None = None
    to_s: float = 0.0
    tracks: set[int] = field(default_factory=set)
    problem: str | None = None
    people: set[str] = field(default_factory=set)
    identities: dict[int, str | None] = field(default_factory=dict)
    sighted: dict[tuple[int, float], str | None] = field(default_factory=dict)
    video_start_s: float | None = None

    def sight(self, sighting: Sighting) -> None:
        self.identities[sighting.track_id] = sighting.identity
        self.sighted[sighting.track_id, sighting.start_s] = sighting.identity

    def settle(self) -> None:
        # until now it had everybody whom a track was said to be at any time
        self.people = {who for who in self.sighted.values() if who is not None}

    def report(self, folder: ResultsFolder) -> StreamReport:
        info = self.info
        return StreamReport(
            name=self.name,
            path=str(self.path),
            folder=str(folder.stream(self.name).path.relative_to(folder.path)),
            width=info.width if info else 0,
            height=info.height if info else 0,
            fps=info.fps if info else None,
            duration_s=info.duration_s if info else None,
            frames=self.frames,
            from_s=self.from_s or 0.0,
            to_s=self.to_s,
            tracks=len(self.tracks),
            people=len(self.people),
            problem=self.problem,
            video_start_s=self.video_start_s,
        )


class FileRun:
    """One run over recorded files.

        run = FileRun(["entrance.mp4", "yard/"], out="results")
        for sighting in run.sightings():
            print(sighting.identity, sighting.stream, sighting.start_s)
        print(run.problems)

    A file that cannot be read, or not to its end, is noted in `problems` and does not stop the
    others.

    Args:
        inputs: Video files, folders of videos, folders of images, or globs.
        out: Folder for the results; None keeps nothing.
        config: How to do it; None for the defaults.
        command: The command line, for run.json.
        on_progress: Called from the run's threads, often; it must be quick.

    Raises:
        SourceError: None of the inputs is there.
        ConfigError: The configuration cannot be used.
        ModelError: A model cannot be loaded.
        OutputError: `out` cannot be written.
    """

    def __init__(
        self,
        inputs: Sequence[str | Path] | str | Path,
        *,
        out: str | Path | None = None,
        config: PipelineConfig | None = None,
        command: Sequence[str] = (),
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self.config = config or PipelineConfig()
        paths, missing = expand([inputs] if isinstance(inputs, str | Path) else inputs)
        self._missing = [str(problem) for problem in missing]
        if not paths:
            raise SourceError("\n".join(self._missing) or "no input was given")
        self._streams = {
            name: _StreamState(name, path)
            for name, path in zip(stream_names(paths), paths, strict=True)
        }
        self._command = tuple(command)
        self._on_progress = on_progress
        self._started = datetime.now(UTC)
        self.telemetry = Telemetry()
        self.pipeline = Pipeline(self.config, self.telemetry)
        try:  # last: it clears away a former run, which a mistake above must not cost
            self.folder = None if out is None else ResultsFolder.create(Path(out))
        except OutputError:
            self.pipeline.close()
            raise
        self._reader = Reader(
            [(state.path, state.name) for state in self._streams.values()],
            self.config.read,
            self.config.runtime,
            self,
        )
        self._recorders: dict[str, Recorder] = {}
        self._tracklets = (
            TrackletStore(self.folder) if self.folder and self.config.output.tracklets else None
        )
        self._interrupted = threading.Event()

    @property
    def problems(self) -> list[str]:
        """What could not be read, a line each."""
        return self._missing + [
            f"{state.path}: {state.problem}"
            if str(state.path) not in state.problem
            else state.problem
            for state in self._streams.values()
            if state.problem
        ]

    @property
    def read_anything(self) -> bool:
        """Whether any frame of any input was processed."""
        return any(state.frames for state in self._streams.values())

    @property
    def was_interrupted(self) -> bool:
        """Whether `interrupt` ended the run early."""
        return self._interrupted.is_set()

    def interrupt(self) -> None:
        """End soon and cleanly: read no more, embed no more, write what was found."""
        self._interrupted.set()
        self._reader.stop()
        self.pipeline.interrupt()

    def sightings(self) -> Iterator[Sighting]:
        """Yield every sighting as soon as its track ends; then write the videos and the report.

        Closing the iterator early ends the run as an interrupt does, without the videos.
        """
        status: Literal["finished", "interrupted", "failed"] = "failed"
        problem: str | None = "stopped before its end"
        self._write_run("running")
        try:
            yield from self._run()
            self._draw_videos()
            status, problem = "finished", None
            if self.was_interrupted:
                status = "interrupted"
        except (PipelineError, GaitError, OSError) as error:
            problem = str(error)
            raise
        finally:
            self._write_run(status, problem)
            self._write_report()

    def _run(self) -> Iterator[Sighting]:
        with ExitStack() as stack:
            stack.callback(self.pipeline.close)
            stack.callback(self._close_recorders)
            log = stack.enter_context(SightingLog(self.folder)) if self.folder else None
            for sighting in self.pipeline.run(self._reader.batches(), self):
                self._streams[sighting.stream].sight(sighting)
                if log is not None:
                    log.write(sighting)
                yield sighting
        for state in self._streams.values():
            state.settle()

    # What the reader tells (in its own thread).

    def opened(self, source: Source) -> None:
        """Note what a file says of itself."""
        state = self._streams[source.name]
        state.info = source.info
        state.total = self.config.read.expected_frames(source.info)
        self._tell(state, "reading")

    def ended(self, name: str, problem: str | None) -> None:
        """Note how a file ended."""
        state = self._streams[name]
        state.problem = problem
        if problem is not None:
            logger.info("%s: %s", name, problem)
        if state.info is None:
            self._tell(state, "failed")

    # What the pipeline shows: perception in its thread, identity in the caller's.

    def saw(self, frame: Frame, tracks: Tracks, masks: Sequence[Mask | None]) -> None:
        """Record one frame."""
        state = self._streams[frame.stream]
        state.frames += 1
        state.from_s = frame.time_s if state.from_s is None else state.from_s
        state.to_s = frame.time_s
        state.tracks.update(tracks.track_ids.tolist())
        if self.folder is not None:
            if frame.stream not in self._recorders:
                self._recorders[frame.stream] = Recorder(self.folder, frame.stream)
            self._recorders[frame.stream].write(frame, tracks, tuple(masks))
        self._tell(state, "reading")

    def recognised(
        self, tracklet: Tracklet, embedding: Embedding | None, match: Match | None
    ) -> None:
        """Record one tracklet."""
        identity = None if match is None else match.identity
        if identity is not None:
            self._streams[tracklet.stream].people.add(identity)
        if self._tracklets is not None:
            with self.telemetry.timed("write tracklets"):
                self._tracklets.write(tracklet, embedding=embedding, identity=identity)

    def _tell(self, state: _StreamState, step: Step, frames: int | None = None) -> None:
        drawing = step in {"drawing", "drawn"}
        self._on_progress(
            Progress(
                stream=state.name,
                step=step,
                frames=state.frames if frames is None else frames,
                total=state.frames if drawing else state.total,
                tracks=len(state.tracks),
                people=len(state.people),
                problem=state.problem,
            )
        )

    def _close_recorders(self) -> None:
        close_all(self._recorders.values())

    def _draw_videos(self) -> None:
        """Decode every stream again and draw on it what was found; identities are known now."""
        for state in self._streams.values():
            if state.frames == 0:
                continue
            self._tell(state, "read")
            if self.folder is not None and self.config.output.video:
                with self.telemetry.timed("draw", state.frames):
                    self._draw_video(self.folder, state)
                self._tell(state, "drawn")

    def _draw_video(self, folder: ResultsFolder, state: _StreamState) -> None:
        def on_progress(frames: int) -> None:
            self._tell(state, "drawing", frames)

        with open_source(state.path, state.name, self.config.read) as source:
            video = annotate(source, folder, state.name, state.identities, on_progress=on_progress)
        state.video_start_s = None if video is None else video.start_s

    def _write_run(
        self,
        status: Literal["running", "finished", "interrupted", "failed"],
        problem: str | None = None,
    ) -> None:
        folder = self.folder
        if folder is None:
            return
        encoder = self.pipeline.identity.encoder
        record = RunRecord(
            status=status,
            problem=problem,
            started=self._started,
            finished=None if status == "running" else datetime.now(UTC),
            command=self._command,
            config=self.config.model_dump(mode="json"),
            versions=versions_used(),
            models=tuple(self._models()),
            encoder=encoder.description,
            encoder_is_trained=encoder.is_trained,
            gallery=self.pipeline.identity.gallery.store.uid,
            stages=tuple(
                StageSpeed(
                    name=name,
                    calls=spent.calls,
                    items=spent.items,
                    seconds=spent.seconds,
                    items_per_s=spent.items / spent.seconds if spent.seconds else None,
                )
                for name, spent in self.telemetry.stages.items()
            ),
            streams=tuple(state.report(folder) for state in self._streams.values()),
        )
        write_run(folder, record)

    def _models(self) -> Iterator[ModelFile]:
        stages: Mapping[str, object] = {
            "detector": self.pipeline.perception.detector,
            "appearance": self.pipeline.perception.appearance,
            "segmenter": self.pipeline.perception.segmenter,
            "encoder": self.pipeline.identity.encoder,
        }
        for role, stage in stages.items():
            if stage is not None:
                name = getattr(stage, "description", type(stage).__name__)
                yield ModelFile(role=role, name=name, sha256=getattr(stage, "model_hash", None))

    def _write_report(self) -> None:
        if self.folder is None:
            return
        try:
            write_report(self.folder)
        except OutputError as error:
            # the run's own error, if there is one, must not be hidden by this one
            logger.error("%s", error)


def process(
    inputs: Sequence[str | Path] | str | Path,
    *,
    out: str | Path | None = None,
    config: PipelineConfig | None = None,
) -> Iterator[Sighting]:
    """Yield who was where, when, in recorded files, as soon as each person has left.

    Args:
        inputs: Video files, folders of videos, folders of images, or globs.
        out: Folder for the report, tracks, silhouettes and annotated videos; None keeps nothing.
        config: How to do it, from `pipeline.load_config`; None for the defaults.

    Raises:
        PipelineError: See `FileRun`. A file that cannot be read is logged as a warning; when none
            can be, that is a SourceError.
    """
    run = FileRun(inputs, out=out, config=config)
    yield from run.sightings()
    if not run.read_anything:
        raise SourceError("\n".join(run.problems))
    for problem in run.problems:
        logger.warning("%s", problem)


def versions_used() -> dict[str, str]:
    """Return the versions of what a run depends on, by name."""
    versions = {"trackletgait": __version__, "python": platform.python_version()}
    for distribution in _VERSIONED:
        try:
            versions[distribution] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
