"""run.json: how a run was made and how it ended. Written at the start, and again at the end."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, JsonValue, ValidationError

from gait.strict import StrictModel
from pipeline.errors import OutputError
from pipeline.sinks.folder import ResultsFolder, clean_text

Text = Annotated[
    str, BeforeValidator(lambda value: clean_text(value) if isinstance(value, str) else value)
]
"""Text that UTF-8 can hold; a file name of undecodable bytes shows them as escapes."""


class StageSpeed(StrictModel):
    """What one stage did and how long it took.

    Attributes:
        name: Such as detect.
        calls: How often it ran.
        items: Frames, crops or tracklets it was given, summed.
        seconds: Wall time inside it, summed; stages overlap, so the sum over stages may exceed
            the run's time.
        items_per_s: None when nothing was done.
    """

    name: str
    calls: int
    items: int
    seconds: float
    items_per_s: float | None = None


class ModelFile(StrictModel):
    """A network that was used.

    Attributes:
        role: detector, segmenter, appearance or encoder.
        name: File name, or what the network is when it has no file.
        sha256: Of the file, in hex; None without a file.
    """

    role: str
    name: Text
    sha256: str | None = None


class StreamReport(StrictModel):
    """What one recording was and what came of it.

    Attributes:
        name: The stream's name.
        path: Where it was read from.
        folder: Its folder of results, relative to run.json.
        width: Pixels of its first frame; 0 when nothing could be decoded.
        height: The same, vertical.
        fps: Frames a second the container promises; None when it does not say.
        duration_s: Seconds the container promises; None when it does not say.
        frames: Frames that were processed.
        from_s: The stream's clock at the first frame processed.
        to_s: The stream's clock at the last frame processed.
        seconds: Wall time it took; None when it shared the models with other streams.
        tracks: People followed, whether recognised or not.
        people: Different identities among them.
        problem: What went wrong, in words; None when nothing did.
        video_start_s: The stream's clock at the annotated video's first picture; None when there
            is no video.
    """

    name: Text
    path: Text
    folder: str
    width: int = 0
    height: int = 0
    fps: float | None = None
    duration_s: float | None = None
    frames: int = 0
    from_s: float = 0.0
    to_s: float = 0.0
    seconds: float | None = None
    tracks: int = 0
    people: int = 0
    problem: Text | None = None
    video_start_s: float | None = None


class RunRecord(StrictModel):
    """Everything about a run but its sightings.

    Attributes:
        schema_version: Of this file; 1.
        status: running while it works (and for ever when it was killed), then finished,
            interrupted by the user, or failed.
        problem: Why it failed, in words.
        started: With time zone.
        finished: With time zone; None while running.
        command: The command line.
        config: The configuration, complete with defaults.
        versions: Of trackletgait, Python and the libraries that decide the numbers.
        models: The networks that were used.
        encoder: What the encoder is, in words.
        encoder_is_trained: Whether its embeddings mean anything.
        gallery: Uid of the gallery whose pseudonyms the sightings name; None where nobody does.
        stages: What each stage did and how long it took.
        streams: The recordings, in the order given.
    """

    schema_version: Literal[1] = 1
    status: Literal["running", "finished", "interrupted", "failed"]
    problem: Text | None = None
    started: datetime
    finished: datetime | None = None
    command: tuple[Text, ...] = ()
    config: dict[str, JsonValue] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    models: tuple[ModelFile, ...] = ()
    encoder: Text
    encoder_is_trained: bool
    gallery: str | None = None
    stages: tuple[StageSpeed, ...] = ()
    streams: tuple[StreamReport, ...] = ()

    @property
    def seconds(self) -> float | None:
        """Wall time of the run, or None while it is running."""
        return None if self.finished is None else (self.finished - self.started).total_seconds()


def write_run(folder: ResultsFolder, run: RunRecord) -> Path:
    """Write run.json and return its path.

    Raises:
        OutputError: It cannot be written; a former run.json is still whole.
    """
    folder.write(folder.run, run.model_dump_json(indent=2).encode() + b"\n")
    return folder.run


def read_run(folder: ResultsFolder) -> RunRecord:
    """Return what run.json says.

    Raises:
        OutputError: It is missing, damaged or of another schema version.
    """
    try:
        return RunRecord.model_validate_json(folder.run.read_bytes())
    except OSError as error:
        raise OutputError(
            f"{folder.run}: expected a results folder with a run.json: {error.strerror}"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise OutputError(
            f"{folder.run}: expected a run.json of schema version 1: {where}: {first['msg']}"
        ) from error
