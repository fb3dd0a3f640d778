"""Who searched, enrolled, exported and forgot: a log that cannot be changed unseen.

Every line carries the hash of the one before. So a line that is changed, taken out or put in
breaks the chain, and `FILE.head`, or a note of it that is kept elsewhere, tells when lines at the
end are missing. Whoever may write both files can still write a whole new log: only a note kept
elsewhere (`trackletgait audit head`) shows that.
"""

from __future__ import annotations

import fcntl
import getpass
import io
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gait.data.atomic import write_atomically
from gait.errors import DataError
from pipeline.errors import PrivacyError
from pipeline.privacy.audit_entry import (
    LONGEST_LINE,
    AuditEntry,
    AuditHead,
    Detail,
    chained,
    checked,
    hash_of,
    parsed,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """What `AuditLog.verify` found.

    Attributes:
        head: The last entry that can be trusted.
        first_broken: Number of the first line that cannot be; None when all can.
        num_missing: Entries that were there once and are gone from the end.
        torn_bytes: Length of a last line that was never written to its end: the process was killed
            before it said that it had recorded anything. The next entry repairs it.
        is_end_known: Whether a head told how far the log goes; without one, entries that are
            missing at its end are not missed.
        problem: What is wrong, in words; None when nothing is.
    """

    head: AuditHead
    first_broken: int | None = None
    num_missing: int = 0
    torn_bytes: int = 0
    is_end_known: bool = True
    problem: str | None = None

    @property
    def is_sound(self) -> bool:
        """Whether nothing was changed and nothing is missing."""
        return self.problem is None


class AuditLog:
    """Records who did what, for good.

        log = AuditLog(audit_path(Path("people.gallery")))
        log.record("search", who=current_user(), subject="person-7K3Q", details={"basis": "..."})
        assert log.verify().is_sound

    An entry is on the disk when `record` returns. Any number of threads and processes may record
    into one file. Nothing is held between calls.

    Args:
        path: The file, made with the first entry; only its owner may read it.
        clock: Seconds since 1970.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def record(
        self,
        action: str,
        *,
        who: str,
        subject: str,
        details: Mapping[str, Detail] | None = None,
    ) -> AuditEntry:
        """Append an entry and return it once the disk has it.

        Args:
            action: What was done, as a word: letters, digits and -.
            who: Who did it.
            subject: To whom or what.
            details: Texts, numbers and lists of texts. Passwords in addresses are hidden, what is
                longer than 2000 letters or 100 texts is cut, and says so.

        Raises:
            ValueError: The action is no word, or details hold what must not be in a log:
                embeddings, secrets, bytes.
            PrivacyError: It cannot be written, or the log was changed or cut: nothing is added,
                so that what happened to it can still be seen.
        """
        content = checked(action, who, subject, details or {})
        with self._locked() as file:
            torn = _torn_bytes(file)
            head = self._trusted_end(file)
            if torn:
                logger.warning("%s: a torn last line of %d bytes is removed", self._path, torn)
                repair = checked("repair", who, "audit log", {"torn_bytes": torn})
                head = self._append(file, head, repair)[1]
            entry, head = self._append(file, head, content)
            self._write_head(head)
            return entry

    def entries(self) -> Iterator[AuditEntry]:
        """Yield the entries up to the first line that is none; see `verify` for whether to trust.

        Raises:
            PrivacyError: The file cannot be read.
        """
        # Without a lock: lines only come, and whoever reads may take long, or record meanwhile.
        with self._reading() as file:
            for line in _lines(file):
                entry = parsed(line)
                if entry is None:
                    return
                yield entry

    def verify(self, *, kept: AuditHead | None = None) -> AuditVerdict:
        """Return whether every line is as it was written and none is missing.

        Args:
            kept: The head as it was noted elsewhere at some time.

        Raises:
            PrivacyError: The file cannot be read.
        """
        heads = [head for head in (self._read_head(), kept) if head is not None and head.number]
        with self._reading() as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH)  # no half-written line is mistaken for torn
            return _verdict(file, heads)

    def head(self) -> AuditHead:
        """Return the end of the log, to be noted elsewhere.

        Raises:
            PrivacyError: The log cannot be trusted.
        """
        verdict = self.verify()
        if verdict.problem:
            raise PrivacyError(f"{self._path}: {verdict.problem}")
        return verdict.head

    def _append(
        self, file: io.FileIO, head: AuditHead, content: dict[str, Any]
    ) -> tuple[AuditEntry, AuditHead]:
        entry = chained(head, self._clock(), content)
        whole = file.seek(0, os.SEEK_END)
        rest = memoryview(entry.as_bytes() + b"\n")
        try:
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
            if not whole:
                self._sync_folder()
        except OSError:
            file.truncate(whole)
            raise
        return entry, AuditHead(entry.number, entry.hash)

    def _trusted_end(self, file: io.FileIO) -> AuditHead:
        """Return the head to go on from, with a torn last line taken away.

        Raises:
            PrivacyError: The last line is none of ours, or lines are missing.
        """
        end = file.seek(0, os.SEEK_END) - _torn_bytes(file)
        start = max(0, end - LONGEST_LINE)
        file.seek(start)
        last = file.read(end - start).rstrip(b"\n").rpartition(b"\n")[2]
        entry = parsed(last) if last else None
        if last and (entry is None or hash_of(entry) != entry.hash):
            raise PrivacyError(self._distrusted("its last line was changed"))
        head = AuditHead(entry.number, entry.hash) if entry else AuditHead()
        noted = self._read_head() or AuditHead()
        if noted.number > head.number or (noted.number == head.number and noted != head):
            raise PrivacyError(self._distrusted(f"it had {noted.number} entries and has not now"))
        file.truncate(end)
        return head

    def _distrusted(self, problem: str) -> str:
        return (
            f"{self._path}: {problem}; look with `trackletgait audit verify`, keep the file and "
            f"{self._head_path.name} for whoever looks into it, and move both away to begin anew"
        )

    @property
    def _head_path(self) -> Path:
        return self._path.with_name(self._path.name + ".head")

    def _read_head(self) -> AuditHead | None:
        try:
            with self._head_path.open(encoding="ascii", errors="replace") as file:
                return AuditHead.parse(file.read(200))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise PrivacyError(f"{self._head_path}: cannot be read: {error.strerror}") from error
        except PrivacyError as error:
            raise PrivacyError(f"{self._head_path}: {error}") from None

    def _write_head(self, head: AuditHead) -> None:
        try:
            write_atomically(self._head_path, f"{head}\n".encode())
        except DataError as error:
            # The entry is safe; a head that is behind only notices less.
            logger.warning("%s", error)

    def _sync_folder(self) -> None:
        """Make sure that a power cut does not lose the name of a new file."""
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def _locked(self) -> Iterator[io.FileIO]:
        """Give the file, made if missing, while no other thread or process has it."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with io.FileIO(descriptor, "r+") as file:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX)
                yield file
        except OSError as error:
            raise PrivacyError(
                f"{self._path}: cannot be recorded in: {error.strerror or error}; nothing that is "
                "to be recorded may happen without"
            ) from error

    @contextmanager
    def _reading(self) -> Iterator[io.FileIO]:
        try:
            with io.FileIO(self._path) as file:
                yield file
        except OSError as error:
            raise PrivacyError(
                f"{self._path}: the audit log cannot be read: {error.strerror or error}"
            ) from error


def audit_path(of: Path) -> Path:
    """Return where the audit log of a gallery's file, or of a folder, is."""
    return of / "audit.jsonl" if of.is_dir() else of.with_name(of.name + ".audit.jsonl")


def current_user() -> str:
    """Return who runs this program: the name of the account, and who stands behind `sudo`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's number without a name
        user = f"user {os.getuid()}"
    behind = os.environ.get("SUDO_USER")
    return f"{behind} as {user}" if behind and behind != user else user


def _verdict(file: io.FileIO, heads: Sequence[AuditHead]) -> AuditVerdict:
    """Follow the chain from the first line to the last."""
    torn = _torn_bytes(file)
    file.seek(0)
    trusted = AuditHead()
    for number, line in enumerate(_lines(file), start=1):
        entry = parsed(line)
        problem = _problem_of(entry, trusted, heads)
        if entry is None or problem:
            return AuditVerdict(
                trusted, number, torn_bytes=torn, problem=f"line {number}: {problem}"
            )
        trusted = AuditHead(entry.number, entry.hash)
    longest = max((head.number for head in heads), default=0)
    missing = max(0, longest - trusted.number)
    problem = f"the last {missing} of {longest} entries are missing" if missing else None
    return AuditVerdict(
        trusted,
        num_missing=missing,
        torn_bytes=torn,
        is_end_known=bool(heads) or not trusted.number,
        problem=problem,
    )


def _problem_of(
    entry: AuditEntry | None, before: AuditHead, heads: Sequence[AuditHead]
) -> str | None:
    if entry is None:
        return "it is no entry of an audit log"
    if hash_of(entry) != entry.hash:
        return "it was changed: its hash is not that of its content"
    if entry.number != before.number + 1 or entry.before != before.hash:
        return "it does not follow the line before: lines were taken out, put in or moved"
    if any(head.number == entry.number and head.hash != entry.hash for head in heads):
        return "it is another entry than the one that was noted: the log was written anew"
    return None


def _lines(file: io.FileIO) -> Iterator[bytes]:
    """Yield the whole lines, none longer than a line can be, without their newlines."""
    with io.BufferedReader(io.FileIO(os.dup(file.fileno()))) as reader:
        while line := reader.readline(LONGEST_LINE + 1):
            if line.endswith(b"\n"):
                yield line[:-1]
            elif len(line) > LONGEST_LINE:
                yield line  # too long to be ours: whoever parses it says so
                return


def _torn_bytes(file: io.FileIO) -> int:
    """Return how many bytes follow the last newline."""
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - LONGEST_LINE)
    file.seek(start)
    return size - start - (file.read(size - start).rfind(b"\n") + 1)
