"""Where data about people are, and how they go from there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipeline.privacy.labels import Labels
from pipeline.privacy.limits import Limits
from pipeline.privacy.lines import Line, read_lines, remove_lines, rotated
from pipeline.privacy.receipt import Removed
from pipeline.privacy.rows import remove_rows, rows_of

_SLACK_S = 86400.0
"""By how much lines of a file may be out of order: by a day, should a clock have been set."""


class Place(Protocol):
    """Where data about people are."""

    @property
    def name(self) -> str:
        """What it is, for the log."""

    @property
    def gallery(self) -> str | None:
        """Uid of the gallery whose pseudonyms stand there; None where nobody knows."""

    def purge(self, limits: Limits, *, is_dry_run: bool) -> Iterator[Removed]:
        """Remove what is older than the limits, or only say what would go; yield each as it goes.

        Raises:
            PipelineError: It cannot be read or written; what was yielded is gone.
        """

    def forget(
        self, labels: Labels, *, with_everybody: bool, is_dry_run: bool
    ) -> Iterator[Removed]:
        """Remove what is about somebody, or only say what would go; yield each as it goes.

        Args:
            labels: What the person is called.
            with_everybody: Also what shows others, too, where nobody can be taken out alone.
            is_dry_run: Only say what would go.

        Raises:
            PipelineError: It cannot be read or written; what was yielded is gone.
        """


@dataclass(frozen=True, slots=True)
class PathPlace:
    """A file or a folder.

    Attributes:
        path: Where it is.
        gallery: Uid of the gallery of what there does not say of which it is; None where nobody
            knows.
    """

    path: Path
    gallery: str | None = None

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)


@dataclass(frozen=True, slots=True)
class LinesPlace(PathPlace):
    """A file of events, with the full ones beside it (the `jsonl` sink)."""

    def purge(self, limits: Limits, *, is_dry_run: bool) -> Iterator[Removed]:
        """Remove old lines."""
        if limits.sightings_s is None:
            return
        for path in rotated(self.path):
            goes = _written_before(limits.sightings_s, path)
            ends = _written_after(limits.sightings_s + _SLACK_S)
            if removed := remove_lines(path, goes, ends=ends, is_dry_run=is_dry_run):
                yield removed

    def forget(
        self, labels: Labels, *, with_everybody: bool, is_dry_run: bool
    ) -> Iterator[Removed]:
        """Remove the lines that name them."""
        for path in rotated(self.path):
            lines = remove_lines(
                path, lambda line: line.is_of(labels, self.gallery), is_dry_run=is_dry_run
            )
            if lines is not None:
                yield lines

    def sightings_of(self, labels: Labels) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield the sightings that name them, each with the file it is in.

        Raises:
            PrivacyError: A file cannot be read.
        """
        for path in rotated(self.path):
            for line in read_lines(path):
                if line.is_of(labels, self.gallery):
                    yield path, line.content or {"damaged": line.raw.decode("utf-8", "replace")}


@dataclass(frozen=True, slots=True)
class RowsPlace(PathPlace):
    """A database of events (the `sqlite` sink)."""

    def purge(self, limits: Limits, *, is_dry_run: bool) -> Iterator[Removed]:
        """Remove old sightings."""
        if limits.sightings_s is None or not self.path.is_file():
            return
        removed = remove_rows(self.path, before_s=limits.sightings_s, is_dry_run=is_dry_run)
        if removed:
            yield removed

    def forget(
        self, labels: Labels, *, with_everybody: bool, is_dry_run: bool
    ) -> Iterator[Removed]:
        """Remove the sightings that name them."""
        if removed := remove_rows(self.path, labels=labels, is_dry_run=is_dry_run):
            yield removed

    def sightings_of(self, labels: Labels) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield the sightings that name them, each with the file it is in.

        Raises:
            PrivacyError: It cannot be read, or is no database of the sink.
        """
        for content in rows_of(self.path, labels):
            yield self.path, content


def is_old(path: Path, since_s: float | None) -> bool:
    """Return whether a file was last written before a moment; not if it is gone by now."""
    try:
        return since_s is not None and path.stat().st_mtime < since_s
    except FileNotFoundError:
        return False


def _written_before(since_s: float, path: Path) -> Callable[[Line], bool]:
    """Return whether a line is old: what does not say when it was written, with its file."""
    is_old_file = is_old(path, since_s)
    return lambda line: is_old_file if line.at_unix_s is None else line.at_unix_s < since_s


def _written_after(moment_s: float) -> Callable[[Line], bool]:
    return lambda line: line.at_unix_s is not None and line.at_unix_s > moment_s
