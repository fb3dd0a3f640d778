"""How long each kind of data is kept, and the purge that keeps to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import Field

from gait.strict import StrictModel
from pipeline.errors import PipelineError, PrivacyError
from pipeline.privacy.audit import AuditLog
from pipeline.privacy.audit_entry import AuditEntry
from pipeline.privacy.folders import DataFolder, remove_files
from pipeline.privacy.lines import Line, remove_lines, rotated
from pipeline.privacy.receipt import DataKind, Removed, removal_details
from pipeline.privacy.rows import remove_rows

_DAY_S = 86400.0
EXPIRED = "expired data"


class RetentionConfig(StrictModel):
    """For how many days data are kept; null keeps them for good.

    Higher lets questions be answered that come later, at the price of holding data about people
    for longer, which the law wants a reason for.

    Attributes:
        video_days: Annotated videos and recordings.
        silhouettes_days: Silhouettes and outlines: of the gallery, tracklets, masks, contact
            sheets and reports.
        embeddings_days: Embeddings of enrolled people, since they were stored, and tracklets that
            hold one. Who has none left is not recognised any more.
        sightings_days: Who was where, when: files and databases of sightings, reports, tracks.
        pseudonyms_days: Everything about people who are known by a pseudonym only, since they
            were last seen.
    """

    video_days: float | None = Field(default=None, ge=0)
    silhouettes_days: float | None = Field(default=None, ge=0)
    embeddings_days: float | None = Field(default=None, ge=0)
    sightings_days: float | None = Field(default=None, ge=0)
    pseudonyms_days: float | None = Field(default=1.0, ge=0)

    def limits(self, now_s: float) -> Limits:
        """Return from which moments on data are kept, at the moment `now_s` (Unix time)."""

        def since(days: float | None) -> float | None:
            return None if days is None else now_s - days * _DAY_S

        return Limits(
            now_s=now_s,
            video_s=since(self.video_days),
            silhouettes_s=since(self.silhouettes_days),
            embeddings_s=since(self.embeddings_days),
            sightings_s=since(self.sightings_days),
            pseudonyms_s=since(self.pseudonyms_days),
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """What is older goes; in seconds since 1970, None keeps all.

    Attributes:
        now_s: Enrolments that expire up to now go.
        video_s: Videos.
        silhouettes_s: Silhouettes.
        embeddings_s: Embeddings of enrolled people.
        sightings_s: Sightings.
        pseudonyms_s: People known by a pseudonym only.
    """

    now_s: float
    video_s: float | None = None
    silhouettes_s: float | None = None
    embeddings_s: float | None = None
    sightings_s: float | None = None
    pseudonyms_s: float | None = None


class Place(Protocol):
    """Where data about people are."""

    @property
    def name(self) -> str:
        """What it is, for the log."""

    def purge(self, limits: Limits, *, is_dry_run: bool) -> Iterator[Removed]:
        """Remove what is older than the limits, or only say what would go; yield each as it goes.

        Raises:
            PipelineError: It cannot be read or written; what was yielded is gone.
        """


@dataclass(frozen=True, slots=True)
class FolderPlace:
    """A folder of results, of recorded files or of a live run."""

    folder: DataFolder

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder.path)

    def purge(self, limits: Limits, *, is_dry_run: bool) -> Iterator[Removed]:
        """Remove old files, and old lines of sightings."""
        since_s: dict[DataKind, float | None] = {
            "video": limits.video_s,
            "silhouettes": limits.silhouettes_s,
            "embeddings": limits.embeddings_s,
            "sightings": limits.sightings_s,
        }
        going: dict[DataKind, list[Path]] = {kind: [] for kind in since_s}
        for path, kinds in self.folder.files():
            old = [kind for kind in kinds if _is_before(path, since_s[kind])]
            if old:
                going[old[0]].append(path)
        for kind, paths in going.items():
            if removed := remove_files(kind, self.folder.path, paths, is_dry_run=is_dry_run):
                yield removed
        yield from LinesPlace(self.folder.sightings).purge(limits, is_dry_run=is_dry_run)


@dataclass(frozen=True, slots=True)
class LinesPlace:
    """A file of events, with the full ones beside it (the `jsonl` sink)."""

    path: Path

    @property
    def name(self) -> str:
        """The file."""
        return str(self.path)

    def purge(self, limits: Limits, *, is_dry_run: bool) -> Iterator[Removed]:
        """Remove old lines."""
        if limits.sightings_s is None:
            return
        for path in rotated(self.path):
            goes = _written_before(limits.sightings_s, path)
            if removed := remove_lines(path, goes, is_dry_run=is_dry_run):
                yield removed


@dataclass(frozen=True, slots=True)
class RowsPlace:
    """A database of events (the `sqlite` sink)."""

    path: Path

    @property
    def name(self) -> str:
        """The file."""
        return str(self.path)

    def purge(self, limits: Limits, *, is_dry_run: bool) -> Iterator[Removed]:
        """Remove old sightings."""
        if limits.sightings_s is None or not self.path.is_file():
            return
        removed = remove_rows(self.path, before_s=limits.sightings_s, is_dry_run=is_dry_run)
        if removed:
            yield removed


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge did.

    Attributes:
        removed: What went, or would go.
        entry: Of the audit log; None when nothing went.
    """

    removed: tuple[Removed, ...]
    entry: AuditEntry | None = None


def purge(
    places: Sequence[Place],
    config: RetentionConfig,
    *,
    log: AuditLog,
    who: str,
    is_dry_run: bool = False,
    clock: Callable[[], float] = time.time,
) -> Purged:
    """Remove what is older than it may be, and record it.

    What is to go is recorded before anything does, and what went after: killed in between, it
    shows in the log that it began, and the next purge removes the rest. When nothing is to go,
    nothing is recorded.

    Args:
        places: Where to look.
        config: How long data are kept.
        log: The audit log.
        who: Who asks for it.
        is_dry_run: Only say what would go; nothing is recorded.
        clock: Seconds since 1970.

    Raises:
        PipelineError: A place cannot be read or written. The others are purged all the same.
    """
    limits = config.limits(clock())
    planned, problems = _removals(places, limits, is_dry_run=True)
    entry = None
    if is_dry_run or not planned:
        removed = planned
    else:
        log.record("purge-begun", who=who, subject=EXPIRED, details=removal_details(planned))
        removed, problems = _removals(places, limits, is_dry_run=False)
        details = {**removal_details(removed), "problems": problems}
        entry = log.record("purge", who=who, subject=EXPIRED, details=details)
    if problems:
        raise PrivacyError("\n".join(["not everything could be purged:", *problems]))
    return Purged(tuple(removed), entry)


def _removals(
    places: Sequence[Place], limits: Limits, *, is_dry_run: bool
) -> tuple[list[Removed], list[str]]:
    """Return what went, and why more did not: one place's trouble keeps no other's data."""
    removed, problems = [], []
    for place in places:
        try:
            for each in place.purge(limits, is_dry_run=is_dry_run):
                removed.append(each)  # one by one: what went before it failed has gone
        except PipelineError as error:
            problems.append(f"{place.name}: {error}"[:1000])
    return removed, problems


def _is_before(path: Path, since_s: float | None) -> bool:
    return since_s is not None and path.stat().st_mtime < since_s


def _written_before(since_s: float, path: Path) -> Callable[[Line], bool]:
    """Return whether a line is old: what does not say when it was written, with its file."""
    is_old_file = _is_before(path, since_s)
    return lambda line: is_old_file if line.at_unix_s is None else line.at_unix_s < since_s
