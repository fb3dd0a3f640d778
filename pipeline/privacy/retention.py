"""Removing what is too old and what is about somebody, and recording that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.errors import PipelineError, PrivacyError
from pipeline.privacy.audit import AuditLog
from pipeline.privacy.audit_entry import AuditEntry, Detail
from pipeline.privacy.labels import Labels
from pipeline.privacy.limits import RetentionConfig
from pipeline.privacy.places import Place
from pipeline.privacy.receipt import Removed, merged, removal_details

EXPIRED = "expired data"


@dataclass(frozen=True, slots=True)
class Removal:
    """What was removed.

    Attributes:
        removed: What went, or would go.
        entry: Of the audit log; None when nothing went.
    """

    removed: tuple[Removed, ...]
    entry: AuditEntry | None = None


class PartlyRemoved(PrivacyError):
    """Not everything could be removed.

    Attributes:
        removal: What was.
    """

    def __init__(self, message: str, removal: Removal) -> None:
        super().__init__(message)
        self.removal = removal


@dataclass(frozen=True, slots=True)
class Remover:
    """Removes data about people, and records it.

    What is to go is recorded before anything does, and what went after: killed in between, it
    shows in the log that it began, and the same again removes the rest and says that it ended.
    When nothing is to go, nothing is recorded.

    Attributes:
        places: Where to look.
        log: The audit log.
        who: Who asks for it.
        is_dry_run: Only say what would go; nothing is recorded.
        clock: Seconds since 1970.
    """

    places: Sequence[Place]
    log: AuditLog
    who: str
    is_dry_run: bool = False
    clock: Callable[[], float] = time.time

    def purge(self, config: RetentionConfig) -> Removal:
        """Remove what is older than it may be.

        Raises:
            PartlyRemoved: A place cannot be read or written; the others are purged.
            PrivacyError: The log cannot be written.
        """
        limits = config.limits(self.clock())

        def old(place: Place, is_dry_run: bool) -> Iterator[Removed]:
            return place.purge(limits, is_dry_run=is_dry_run)

        return self._remove("purge", EXPIRED, old)

    def forget(self, labels: Labels, *, subject: str, with_everybody: bool = False) -> Removal:
        """Remove what is about somebody.

        Args:
            labels: What the person is called.
            subject: What stands for them in the log for good: a pseudonym.
            with_everybody: Also what shows others, too, where nobody can be taken out alone.

        Raises:
            PartlyRemoved: A place cannot be read or written; the person is gone from the others.
            PrivacyError: The log cannot be written.
        """

        def theirs(place: Place, is_dry_run: bool) -> Iterator[Removed]:
            return place.forget(labels, with_everybody=with_everybody, is_dry_run=is_dry_run)

        return self._remove("forget", subject, theirs)

    def _remove(
        self, action: str, subject: str, going: Callable[[Place, bool], Iterator[Removed]]
    ) -> Removal:
        planned, problems = self._collect(going, is_dry_run=True)
        removal = Removal(tuple(planned))
        begun = f"{action}-begun"
        if not self.is_dry_run and (planned or self._was_cut_short(begun, action, subject)):
            plan: dict[str, Detail] = {
                "count": sum(each.count for each in planned),
                "where": sorted({each.where for each in planned}),
            }
            self.log.record(begun, who=self.who, subject=subject, details=plan)
            removed, problems = self._collect(going, is_dry_run=False)
            done: dict[str, Detail] = {**removal_details(removed)}
            if problems:
                done["problems"] = problems
            entry = self.log.record(action, who=self.who, subject=subject, details=done)
            removal = Removal(tuple(removed), entry)
        if problems:
            raise PartlyRemoved("\n".join(["not everything was removed:", *problems]), removal)
        return removal

    def _was_cut_short(self, begun: str, action: str, subject: str) -> bool:
        """Return whether it was begun before and never said to have ended."""
        entries = self.log.entries() if self.log.path.exists() else ()
        last = None
        for entry in entries:
            if entry.subject == subject and entry.action in {begun, action}:
                last = entry.action
        return last == begun

    def _collect(
        self, going: Callable[[Place, bool], Iterator[Removed]], *, is_dry_run: bool
    ) -> tuple[list[Removed], list[str]]:
        """Return what went, and why more did not: one place's trouble keeps no other's data."""
        removed, problems = [], []
        for place in self.places:
            try:
                for each in going(place, is_dry_run):
                    removed.append(each)  # one by one: what went before it failed has gone
            except (PipelineError, OSError) as error:
                problems.append(f"{place.name}: {error}"[:1000])
        return merged(removed), problems
