"""The results folder: the names of everything in it, and writing that never leaves half a file.

    DIR/
      .trackletgait          says that this folder is ours to overwrite
      run.json               how the run was made and how it ended
      sightings.jsonl        who was where, when
      checked.json           which identities are right, where somebody knows
      report.html            the same for people
      streams/<name>/
        tracks.mot.txt       boxes, MOTChallenge
        masks.jsonl          boxes and outlines, per frame
        annotated.mp4        the recording with what was found drawn on it
        tracklets/           track-000007-f000123.npz and the same .png

docs/outputs.md describes every file.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gait.closing import Closing
from pipeline.errors import OutputError

MARKER = ".trackletgait"
ROOM_NEEDED_BYTES = 50_000_000
PART = ".part"
_LONGEST_NAME = 60
_WORDS = {
    errno.ENOSPC: "no room left on the disk",
    errno.EDQUOT: "your disk quota is used up",
    errno.EFBIG: "the file would grow beyond what is allowed",
    errno.EACCES: "you may not write there",
    errno.EPERM: "you may not write there",
    errno.EROFS: "the disk is read-only",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "there is a file of that name, expected a folder",
    errno.ENOENT: "no such place",
}


@dataclass(frozen=True, slots=True)
class StreamFolder:
    """The files of one stream."""

    path: Path

    @property
    def tracks(self) -> Path:
        """Boxes in the MOTChallenge format."""
        return self.path / "tracks.mot.txt"

    @property
    def masks(self) -> Path:
        """Boxes and outlines, a line a frame."""
        return self.path / "masks.jsonl"

    @property
    def video(self) -> Path:
        """The annotated video."""
        return self.path / "annotated.mp4"

    @property
    def tracklets(self) -> Path:
        """The folder of tracklets and their contact sheets."""
        return self.path / "tracklets"

    def tracklet(self, track_id: int, first_frame: int) -> Path:
        """The npz of one tracklet; its contact sheet has the suffix .png."""
        return self.tracklets / f"track-{track_id:06d}-f{first_frame:06d}.npz"


@dataclass(frozen=True, slots=True)
class ResultsFolder:
    """A folder of results. Constructing it only names things; `create` makes and empties it.

    Attributes:
        path: The folder.
    """

    path: Path

    @classmethod
    def create(cls, path: Path, *, room_bytes: int = ROOM_NEEDED_BYTES) -> ResultsFolder:
        """Return the folder, made if missing, emptied of a former run and checked for writing.

        Files of a former run are removed so that two runs never mix; all other files stay.

        Args:
            path: The folder to make.
            room_bytes: Free bytes to ask for. Higher fails earlier instead of half way, at the
                price of refusing disks on which a short run would still fit.

        Raises:
            OutputError: It is a file, cannot be written, has no room, or holds files of our
                names that no run of ours made.
        """
        folder = cls(Path(path))
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            folder._refuse_foreign()
            (folder.path / MARKER).write_text("Results of trackletgait; a new run replaces them.\n")
            folder._clear()
            free = shutil.disk_usage(folder.path).free
        except OSError as error:
            raise OutputError(
                f"cannot write results to {path}: {words_of(error)}; choose another folder with "
                "--out"
            ) from error
        if free < room_bytes:
            raise OutputError(
                f"cannot write results to {path}: expected {room_bytes / 1e6:.0f} MB of room, "
                f"found {free / 1e6:.0f} MB; free some or choose another folder with --out"
            )
        return folder

    @property
    def run(self) -> Path:
        """How the run was made and how it ended."""
        return self.path / "run.json"

    @property
    def sightings(self) -> Path:
        """Who was where, when: a line a sighting."""
        return self.path / "sightings.jsonl"

    @property
    def checked(self) -> Path:
        """Which identities are right; only there when the truth is known."""
        return self.path / "checked.json"

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.path / "report.html"

    @property
    def streams(self) -> Path:
        """The folder of the streams' folders."""
        return self.path / "streams"

    def stream(self, name: str) -> StreamFolder:
        """The files of the stream called `name`, whatever characters the name holds."""
        return StreamFolder(self.streams / folder_name(name))

    def make_stream(self, name: str) -> StreamFolder:
        """The same, made on the disk."""
        stream = self.stream(name)
        with self.writing(stream.path):
            stream.tracklets.mkdir(parents=True, exist_ok=True)
        return stream

    @contextmanager
    def writing(self, path: Path) -> Iterator[None]:
        """Translate a failure to write `path` into words that say what is already safe.

        Raises:
            OutputError: Instead of any OSError.
        """
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"cannot write {path}: {words_of(error)}. {self.safe_on_disk()}"
            ) from error

    def write(self, path: Path, data: bytes) -> None:
        """Write a small file so that there is never half of it: all of `data`, or as before.

        Raises:
            OutputError: It cannot be written.
        """
        part = path.with_name(path.name + PART)
        with self.writing(path):
            try:
                part.write_bytes(data)
                part.replace(path)
            except OSError:
                with suppress(OSError):
                    part.unlink()
                raise

    def safe_on_disk(self) -> str:
        """Say what the folder already holds, in one sentence."""
        if not self.path.is_dir():
            return "Nothing was written."
        streams = self._stream_folders()
        frames = sum(_count_lines(stream.masks) for stream in streams)
        tracklets = sum(len(list(stream.tracklets.glob("*.npz"))) for stream in streams)
        return (
            f"Already safe in {self.path}: {_count_lines(self.sightings)} sightings, "
            f"{frames} frames of tracks and {tracklets} tracklets."
        )

    def _stream_folders(self) -> list[StreamFolder]:
        if not self.streams.is_dir():
            return []
        return [StreamFolder(path) for path in sorted(self.streams.iterdir()) if path.is_dir()]

    def _refuse_foreign(self) -> None:
        """Without our marker, a report.html here is somebody else's."""
        if (self.path / MARKER).exists():
            return
        for path in (self.run, self.sightings, self.report, self.streams):
            if path.exists():
                raise OutputError(
                    f"cannot write results to {self.path}: {path.name} is there already and was "
                    "not made by trackletgait; choose another folder with --out"
                )

    def _clear(self) -> None:
        ours = [self.run, self.sightings, self.checked, self.report]
        for stream in self._stream_folders():
            ours += [stream.tracks, stream.masks, stream.video]
            if stream.tracklets.is_dir():
                ours += [p for p in stream.tracklets.iterdir() if _is_tracklet_file(p.name)]
        for path in ours:
            path.unlink(missing_ok=True)
            path.with_name(path.name + PART).unlink(missing_ok=True)
        for stream in self._stream_folders():
            for emptied in (stream.tracklets, stream.path):
                with suppress(OSError):  # it holds a file that is not ours, or is not there
                    emptied.rmdir()


class LineFile(Closing):
    """A text file that grows by whole lines and is never left with half of one.

    Every write reaches the operating system at once, so a killed process loses nothing written;
    a write that a full disk cut short is taken back.
    """

    def __init__(self, folder: ResultsFolder, path: Path) -> None:
        self._folder, self._path = folder, path
        with folder.writing(path):
            self._file = io.FileIO(path, "w")

    def write(self, lines: str) -> None:
        """Append `lines`, which end with a newline.

        Raises:
            OutputError: There is no room; the lines before are safe.
        """
        rest = memoryview(lines.encode())
        whole = self._file.tell()
        with self._folder.writing(self._path):
            try:
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError:
                os.ftruncate(self._file.fileno(), whole)
                self._file.seek(whole)
                raise

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        self._file.close()


def folder_name(stream: str) -> str:
    """Return a safe folder name for a stream: its own name where possible, else one with a hash."""
    safe = re.sub(r"[^\w.-]+", "_", stream)[:_LONGEST_NAME].lstrip(".")
    if safe == stream and safe:
        return safe
    digest = hashlib.sha256(stream.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{safe}-{digest}"


def clean_text(text: str) -> str:
    """Return text that UTF-8 can hold: file names of undecodable bytes show them as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _is_tracklet_file(name: str) -> bool:
    return re.fullmatch(r"track-\d+-f\d+\.(npz|png)(\.part)?", name) is not None


def _count_lines(path: Path) -> int:
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


def words_of(error: OSError) -> str:
    """Return why something cannot be written."""
    return _WORDS.get(error.errno or 0) or error.strerror or str(error)
