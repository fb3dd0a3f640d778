"""What a folder of results holds about people: of `trackletgait process` and of a live run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PrivacyError
from pipeline.privacy.labels import Labels
from pipeline.privacy.limits import Limits
from pipeline.privacy.places import LinesPlace, PathPlace, is_old
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
_ROUNDED_S = 0.001  # by which sightings are


@dataclass(frozen=True, slots=True)
class ClipsFolder(PathPlace):
    """A folder of clips of a live run, a `Place`."""

    def purge(self, limits: Limits, *, is_dry_run: bool) -> Iterator[Removed]:
        """Remove old clips, with their records."""
        files = [each for end in ("mp4", "json") for each in sorted(self.path.glob(f"*/*.{end}"))]
        old = [path for path in files if not path.is_symlink() and is_old(path, limits.video_s)]
        yield from _remove_files("video", self.name, old, is_dry_run)

    def forget(
        self, labels: Labels, *, with_everybody: bool, is_dry_run: bool
    ) -> Iterator[Removed]:
        """Remove the clips that show them."""
        yield from _remove_files("video", self.name, self.clips_of(labels), is_dry_run)

    def clips_of(self, labels: Labels) -> Iterator[Path]:
        """Yield the clips, and their records, that show somebody.

        Raises:
            PrivacyError: One may as well show somebody of another gallery.
        """
        for path in sorted(self.path.glob("*/*.json")):
            try:
                tracks = ClipRecord.model_validate_json(path.read_bytes()).tracks
            except (OSError, ValueError):  # removed meanwhile, or not a clip's
                continue
            if any(labels.are_among(t.identities, t.gallery or self.gallery) for t in tracks):
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
    def gallery(self) -> str | None:
        """Uid of the gallery that its newest run used; None when nobody knows."""
        try:
            used = json.loads(ResultsFolder(self.path).run.read_bytes())["gallery"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return used if isinstance(used, str) else None

    @property
    def sightings(self) -> LinesPlace:
        """The file of sightings; full ones are beside it."""
        return LinesPlace(ResultsFolder(self.path).sightings, self.gallery)

    def sightings_of(self, labels: Labels) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield the sightings that name somebody, each with the file it is in.

        Raises:
            PrivacyError: A file cannot be read.
        """
        return self.sightings.sightings_of(labels)

    def tracklets_of(self, labels: Labels) -> Iterator[Path]:
        """Yield the tracklets, and their contact sheets, that belong to somebody.

        A tracklet names who its track was taken for when it was written; who it turned out to be
        later, the sightings tell.

        Raises:
            PipelineError: A tracklet is damaged, so that nobody can tell whose it is.
        """
        gallery, spans = self.gallery, self._spans_of(labels)
        for path in sorted(self.path.glob("streams/*/tracklets/track-*.npz")):
            if path.is_symlink():
                continue
            stored = read_tracklet(path)
            first_s, last_s = stored.tracklet.times_s[[0, -1]]
            theirs = spans.get(stored.tracklet.track, ())
            is_theirs = any(start <= last_s and first_s <= end for start, end in theirs)
            if is_theirs or labels.are_among([stored.identity], gallery):
                yield from (each for each in (path.with_suffix(".png"), path) if each.is_file())

    def _spans_of(self, labels: Labels) -> dict[tuple[str, int], list[tuple[float, float]]]:
        """Return from when to when each track was theirs, as far as is known by now."""
        newest: dict[tuple[str, int, float], dict[str, Any]] = {}
        spans: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for _, content in self.sightings_of(labels):
            with suppress(KeyError, TypeError):  # it is damaged
                newest[content["stream"], content["track_id"], content["start_s"]] = content
        for (stream, track_id, start_s), content in newest.items():
            end_s, who = content.get("end_s"), [content.get("identity")]
            is_theirs = labels.are_among(who, content.get("gallery", self.gallery))
            if is_theirs and isinstance(start_s, int | float) and isinstance(end_s, int | float):
                span = start_s - _ROUNDED_S, end_s + _ROUNDED_S
                spans.setdefault((stream, track_id), []).append(span)
        return spans

    @property
    def clips(self) -> ClipsFolder:
        """Where clips are, unless `recording.folder` says otherwise."""
        return ClipsFolder(self.path / "clips", self.gallery)

    def streams_of(self, labels: Labels) -> Iterator[StreamFolder]:
        """Yield the folders of the recordings in which one of `labels` was seen."""
        names = {content.get("stream") for _, content in self.sightings_of(labels)}
        for name in sorted(name for name in names if isinstance(name, str)):
            stream = ResultsFolder(self.path).stream(name)
            if stream.path.is_dir():
                yield stream

    def showing_everybody(self, labels: Labels) -> list[Path]:
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
        yield from self.sightings.purge(limits, is_dry_run=is_dry_run)

    def forget(
        self, labels: Labels, *, with_everybody: bool = False, is_dry_run: bool = False
    ) -> Iterator[Removed]:
        """Remove what is about somebody; yield each as it goes.

        Args:
            labels: What the person is called.
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
        yield from self.sightings.forget(
            labels, with_everybody=with_everybody, is_dry_run=is_dry_run
        )

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
