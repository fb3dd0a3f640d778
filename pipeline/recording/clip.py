"""One clip: the video, and beside it what is on it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import av
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gait.data.atomic import write_atomically
from gait.errors import DataError
from gait.strict import StrictModel
from pipeline.recording.moment import Identities, Moment, Told
from pipeline.recording.shelf import part_of, record_of
from pipeline.sinks.encoder import Encoding, PictureEncoder

# A file of fragments, each of which plays without what follows, that is made into an ordinary one
# at the end: what a killed process leaves can be watched, and what is whole plays everywhere.
_FRAGMENTS = {"movflags": "+hybrid_fragmented+frag_keyframe", "flush_packets": "1"}
_MOST_NAMES = 20


class TrackOnClip(StrictModel):
    """Somebody on a clip.

    Attributes:
        track_id: The track on that camera.
        start_unix_s: First moment on the clip, in seconds since 1970.
        end_unix_s: Last moment on the clip.
        identity: Who; None until somebody is recognised.
        formerly: Who else it was said to be: the clip may show them.
        sighting: Id of the sighting's events; None until there is one.
        gallery: Uid of the gallery that calls them so.
    """

    track_id: int
    start_unix_s: float
    end_unix_s: float
    identity: str | None = None
    formerly: Annotated[tuple[str, ...], Field(strict=False)] = ()
    sighting: str | None = None
    gallery: str | None = None

    @property
    def identities(self) -> tuple[str, ...]:
        """Everybody who it was said to be."""
        return (*self.formerly, self.identity) if self.identity else self.formerly


class ClipRecord(StrictModel):
    """What is on a clip: the JSON beside it.

    Attributes:
        schema_version: Of this file; 1.
        camera: Whose pictures.
        file: The clip's name.
        complete: False while it is written, and of one that was cut off.
        start_unix_s: When its first picture came to be, in seconds since 1970.
        end_unix_s: The same of its last picture.
        frames: Pictures on it.
        width: Pixels.
        height: Pixels.
        codec: What encoded it.
        annotated: Whether people are drawn into the pictures.
        tracks: Who is on it, in the order they came.
    """

    schema_version: Literal[1] = 1
    camera: str
    file: str
    complete: bool = False
    start_unix_s: float
    end_unix_s: float
    frames: int = 0
    width: int
    height: int
    codec: str
    annotated: bool
    tracks: Annotated[tuple[TrackOnClip, ...], Field(strict=False)] = ()


class ClipNote:
    """The record of a clip and its file, which may change when the clip has long been written."""

    def __init__(self, clip: Path, record: ClipRecord) -> None:
        self._clip = clip
        self._record = record
        self._tracks: dict[int, TrackOnClip] = {}

    @property
    def record(self) -> ClipRecord:
        """What is on the clip so far."""
        return self._record.model_copy(update={"tracks": tuple(self._tracks.values())})

    def saw(self, moment: Moment, identities: Identities) -> list[int]:
        """Add a picture and return the ids of tracks that were not on the clip before."""
        end_s, frames = round(moment.at_unix_s, 3), self._record.frames + 1
        self._record = self._record.model_copy(update={"end_unix_s": end_s, "frames": frames})
        new = [track.track_id for track in moment.tracks if track.track_id not in self._tracks]
        for track_id in new:
            told = identities.of(moment.camera, track_id)
            self._tracks[track_id] = TrackOnClip(
                track_id=track_id,
                start_unix_s=end_s,
                end_unix_s=end_s,
                identity=told.identity if told else None,
                sighting=told.sighting if told else None,
                gallery=told.gallery if told else None,
            )
        for track in moment.tracks:
            self._change(track.track_id, {"end_unix_s": end_s})
        return new

    def learn(self, told: Told) -> None:
        """Add who a track is, and save it unless the clip has been removed since.

        Raises:
            OSError: It cannot be written.
        """
        formerly = [
            each for each in self._tracks[told.track_id].identities if each != told.identity
        ]
        update = {
            "identity": told.identity,
            "sighting": told.sighting,
            "gallery": told.gallery,
        }
        self._change(told.track_id, {**update, "formerly": tuple(formerly[-_MOST_NAMES:])})
        if self._clip.exists() or part_of(self._clip).exists():
            self.save()

    def complete(self) -> None:
        """Say that the clip is whole.

        Raises:
            OSError: It cannot be written.
        """
        self._record = self._record.model_copy(update={"complete": True})
        self.save()

    def save(self) -> None:
        """Write the file.

        Raises:
            OSError: It cannot be written.
        """
        data = self.record.model_dump_json(indent=1).encode() + b"\n"
        try:
            write_atomically(record_of(self._clip), data, durable=False)
        except DataError as error:
            raise OSError(getattr(error.__cause__, "errno", None), str(error)) from error

    def _change(self, track_id: int, update: Mapping[str, object]) -> None:
        self._tracks[track_id] = self._tracks[track_id].model_copy(update=update)


class Clip:
    """Writes pictures under another name, and gives the file its own when it is whole.

    Args:
        path: Where it will be.
        first: Its first picture.
        encoding: How to compress.
        annotated: Whether people are drawn.

    Raises:
        OSError: It cannot be written; and from every method.
    """

    def __init__(self, path: Path, first: Moment, encoding: Encoding, *, annotated: bool) -> None:
        canvas = first.placement.canvas
        start_s = round(first.at_unix_s, 3)
        record = ClipRecord(
            camera=first.camera,
            file=path.name,
            start_unix_s=start_s,
            end_unix_s=start_s,
            width=canvas.width,
            height=canvas.height,
            codec=encoding.codec,
            annotated=annotated,
        )
        self.path = path
        self.canvas = canvas
        self.note = ClipNote(path, record)
        self.start_s = self.end_s = first.at_unix_s
        self._file = _WholeFile(part_of(path))
        try:
            self.note.save()
            container = av.open(self._file, "w", format="mp4", options=_FRAGMENTS)
            self._encoder = PictureEncoder(container, canvas, encoding)
        except BaseException:
            self._file.close()
            part_of(path).unlink(missing_ok=True)
            record_of(path).unlink(missing_ok=True)
            raise

    def add(self, moment: Moment, image: NDArray[np.uint8], identities: Identities) -> list[int]:
        """Append a picture and return the ids of tracks that were not on the clip before."""
        self._encoder.add(image, moment.at_unix_s - self.start_s)
        self.end_s = moment.at_unix_s
        new = self.note.saw(moment, identities)
        if new:
            self.note.save()
        return new

    def finish(self) -> None:
        """Write what is left, and give the file its name."""
        try:
            self._encoder.finish()
        finally:
            self._file.close()
        part_of(self.path).replace(self.path)
        self.note.complete()

    def give_up(self) -> None:
        """Close the file as it is."""
        self._file.close()
        self._encoder.give_up()


class _WholeFile:
    """Writes all or raises. Of ours, not FFmpeg's: that would hold up all of Python on a disk.

    After it has failed once it takes nothing more: FFmpeg goes on writing after an error, and at
    the end it changes the beginning, from where what came before can be read.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        # Unbuffered: what was written is the operating system's, and survives a kill.
        self._file = open(os.open(path, flags, 0o640), "wb", buffering=0)  # noqa: SIM115
        self._error: OSError | None = None

    @property
    def closed(self) -> bool:
        """Whether it is; PyAV then writes no end."""
        return self._file.closed

    def write(self, data: bytes) -> int:
        if self._error is not None:
            raise self._error
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._error = error
            raise
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
