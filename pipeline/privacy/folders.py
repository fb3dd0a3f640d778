"""What a folder of results holds about people: of `trackletgait process` and of a live run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PrivacyError
from pipeline.privacy.limits import Limits
from pipeline.privacy.lines import Line, read_lines, rotated
from pipeline.privacy.places import LinesPlace, is_old
from pipeline.privacy.receipt import DataKind, Removed, Tally
from pipeline.recording.clip import ClipRecord
from pipeline.sinks.folder import MARKER, ResultsFolder, StreamFolder
from pipeline.sinks.tracklets import read_tracklet

# A file goes as soon as one of the kinds that it holds is too old.
_FILES: dict[str, tuple[DataKind, ...]] = {
    "streams/*/annotated.mp4": ("video",),
    "streams/*/tracklets/track-*.npz": ("silhouettes", "embeddings"),
    "streams/*/tracklets/track-*.png": ("silhouettes",),
    "streams/*/masks.jsonl": ("silhouettes",),
    "streams/*/tracks.mot.txt": ("sightings",),
    "checked.json": ("sightings",),
    "report.html": ("silhouettes", "sightings"),
}


@dataclass(frozen=True, slots=True)
class ClipsFolder:
    """A folder of clips of a live run, a `Place`.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.path)

    def purge(self, limits: Limits, *, is_dry_run: bool) -> Iterator[Removed]:
        """Remove old clips, with their records."""
        files = [each for end in ("mp4", "json") for each in sorted(self.path.glob(f"*/*.{end}"))]
        old = [path for path in files if not path.is_symlink() and is_old(path, limits.video_s)]
        yield from _remove_files("video", self.name, old, is_dry_run)

    def forget(
        self, labels: frozenset[str], *, with_everybody: bool, is_dry_run: bool
    ) -> Iterator[Removed]:
        """Remove the clips that show them."""
        yield from _remove_files("video", self.name, self.clips_of(labels), is_dry_run)

    def clips_of(self, labels: frozenset[str]) -> Iterator[Path]:
        """Yield the clips, and their records, that show one of `labels`."""
        for path in sorted(self.path.glob("*/*.json")):
            try:
                tracks = ClipRecord.model_validate_json(path.read_bytes()).tracks
            except (OSError, ValueError):  # removed meanwhile, or not a clip's
                continue
            if any(labels.intersection(track.identities) for track in tracks):
                yield from (each for each in (path.with_suffix(".mp4"), path) if each.is_file())


@dataclass(frozen=True, slots=True)
class DataFolder:
    """A folder of ours, a `Place`.

    Attributes:
        path: The folder.
    """

    path: Path

    @classmethod
    def at(cls, path: Path) -> DataFolder:
        """Return the folder.

        Raises:
            PrivacyError: It is none of ours.
        """
        if not (path / MARKER).is_file():
            raise PrivacyError(
                f"{path}: expected a results folder of trackletgait, found no {MARKER} in it; "
                "nothing was touched"
            )
        return cls(path)

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.path)

    @property
    def sightings(self) -> Path:
        """The file of sightings; full ones are beside it."""
        return ResultsFolder(self.path).sightings

    def is_of_another(self, galleries: Collection[str]) -> bool:
        """Return whether its run surely used none of these galleries: pseudonyms are theirs alone.

        A file that was moved to another folder is taken for the same.
        """
        try:
            config = json.loads(ResultsFolder(self.path).run.read_bytes())["config"]
            used = config.get("pipeline", config)["gallery"]["path"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False  # nobody knows
        return used is None or Path(str(used)).name not in {Path(each).name for each in galleries}

    def sightings_of(self, labels: frozenset[str]) -> Iterator[Line]:
        """Yield the lines that name one of `labels`.

        Raises:
            PrivacyError: A file cannot be read.
        """
        for path in rotated(self.sightings):
            yield from (line for line in read_lines(path) if line.is_of(labels))

    def tracklets_of(self, labels: frozenset[str]) -> Iterator[Path]:
        """Yield the tracklets, and their contact sheets, that belong to one of `labels`.

        Raises:
            PipelineError: A tracklet is damaged, so that nobody can tell whose it is.
        """
        for path in sorted(self.path.glob("streams/*/tracklets/track-*.npz")):
            if not path.is_symlink() and read_tracklet(path).identity in labels:
                yield from (each for each in (path.with_suffix(".png"), path) if each.is_file())

    @property
    def clips(self) -> ClipsFolder:
        """Where clips are, unless `recording.folder` says otherwise."""
        return ClipsFolder(self.path / "clips")

    def streams_of(self, labels: frozenset[str]) -> Iterator[StreamFolder]:
        """Yield the folders of the recordings in which one of `labels` was seen."""
        names = {(line.content or {}).get("stream") for line in self.sightings_of(labels)}
        for name in sorted(name for name in names if isinstance(name, str)):
            stream = ResultsFolder(self.path).stream(name)
            if stream.path.is_dir():
                yield stream

    def showing_everybody(self, labels: frozenset[str]) -> list[Path]:
        """Return the files in which one of `labels` is among others and cannot be taken out."""
        files = [
            path
            for stream in self.streams_of(labels)
            for path in (stream.video, stream.masks, stream.tracks)
        ]
        return [path for path in files if path.is_file()]

    def purge(self, limits: Limits, *, is_dry_run: bool) -> Iterator[Removed]:
        """Remove old files, and old lines of sightings."""
        since_s: dict[DataKind, float | None] = {
            "video": limits.video_s,
            "silhouettes": limits.silhouettes_s,
            "embeddings": limits.embeddings_s,
            "sightings": limits.sightings_s,
        }
        going: dict[DataKind, list[Path]] = {kind: [] for kind in since_s}
        for path, kinds in self._files():
            if old := [kind for kind in kinds if is_old(path, since_s[kind])]:
                going[old[0]].append(path)
        yield from self._remove(going, is_dry_run)
        yield from self.clips.purge(limits, is_dry_run=is_dry_run)
        yield from LinesPlace(self.sightings).purge(limits, is_dry_run=is_dry_run)

    def forget(
        self, labels: frozenset[str], *, with_everybody: bool = False, is_dry_run: bool = False
    ) -> Iterator[Removed]:
        """Remove what is about somebody; yield each as it goes.

        Args:
            labels: The name and the pseudonyms of the person.
            with_everybody: Also remove annotated videos, outlines and tracks of the recordings in
                which the person was seen, which show everybody else, too.
            is_dry_run: Only say what would go.

        Raises:
            PipelineError: Something cannot be read or removed; what was yielded is gone.
        """
        pages = [self.path / "report.html", self.path / "checked.json"]
        is_seen = next(self.sightings_of(labels), None) is not None
        groups: dict[DataKind, list[Path]] = {
            "video": self.showing_everybody(labels) if with_everybody else [],
            "silhouettes": list(self.tracklets_of(labels)),
            "sightings": [each for each in pages if is_seen and each.is_file()],
        }
        yield from self.clips.forget(labels, with_everybody=with_everybody, is_dry_run=is_dry_run)
        yield from self._remove(groups, is_dry_run)
        # At last: they tell where else to look, should this be killed half way.
        lines = LinesPlace(self.sightings)
        yield from lines.forget(labels, with_everybody=with_everybody, is_dry_run=is_dry_run)

    def _files(self) -> Iterator[tuple[Path, tuple[DataKind, ...]]]:
        """Yield each file about people that is kept or removed as a whole, and what it holds."""
        for pattern, kinds in _FILES.items():
            for path in sorted(self.path.glob(pattern)):
                if path.is_file() and not path.is_symlink():
                    yield path, kinds

    def _remove(
        self, groups: Mapping[DataKind, Iterable[Path]], is_dry_run: bool
    ) -> Iterator[Removed]:
        for kind, paths in groups.items():
            yield from _remove_files(kind, self.name, paths, is_dry_run)


def _remove_files(
    kind: DataKind, where: str, paths: Iterable[Path], is_dry_run: bool
) -> Iterator[Removed]:
    """Remove files, and then yield what went."""
    tally = Tally(kind, where)
    for path in paths:
        try:
            written_s = path.stat().st_mtime
            with path.open("rb") as file:
                # Reading a video takes long, and a look at what would go needs no digest of it.
                digest = b"" if is_dry_run else hashlib.file_digest(file, "sha256").digest()
            if not is_dry_run:
                path.unlink()
        except FileNotFoundError:  # somebody else removed it
            continue
        except OSError as error:
            raise PrivacyError(f"{path}: cannot be removed: {error.strerror}") from error
        tally.add(digest, written_s)
    if removed := tally.removed:
        yield removed
