"""Everything about one person, gathered into one folder for them to read (subject access).

DIR/
  README.txt          what is here and what each file is; what others share and was left out
  gallery/            who they are, and what they are recognised by
  sightings.jsonl     who was where, when: a line each, with the file it comes from
  audit.jsonl         who searched, enrolled or exported them, and when
  files/              their tracklets, contact sheets and clips
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import PrivacyError
from pipeline.privacy.audit import AuditLog
from pipeline.privacy.audit_entry import AuditEntry
from pipeline.privacy.folders import ClipsFolder, DataFolder
from pipeline.privacy.labels import Labels, UnclearGallery
from pipeline.privacy.places import LinesPlace, Place, RowsPlace


@dataclass(frozen=True, slots=True)
class Sources:
    """Where to look for a person's data.

    Attributes:
        places: Folders of results and clips, sinks' files; galleries are left out.
        logs: Audit logs, each with the uid of the gallery it is beside, where it is.
        galleries: Each writes what a gallery holds of them into a folder.
    """

    places: Sequence[Place] = ()
    logs: Sequence[tuple[AuditLog, str | None]] = ()
    galleries: Sequence[Callable[[Path], None]] = ()


@dataclass(slots=True)
class Gathered:
    """What was found.

    Attributes:
        num_sightings: Lines and rows.
        num_entries: Of audit logs.
        files: Copied, by their path in the folder.
        left_out: Files that show them among others and were not copied.
        num_galleries: Galleries that hold them.
    """

    num_sightings: int = 0
    num_entries: int = 0
    files: list[str] = field(default_factory=list)
    left_out: list[Path] = field(default_factory=list)
    num_galleries: int = 0


def gather(labels: Labels, sources: Sources, out: Path, *, with_clips: bool = False) -> Gathered:
    """Write everything about one person into a new folder and return what there was.

    Args:
        labels: What the person is called.
        sources: Where to look.
        out: The folder, which must not be there yet; only its owner may read it.
        with_clips: Also copy clips, on which others may be seen, too.

    Raises:
        PrivacyError: The folder is there, cannot be written, or a source cannot be read.
    """
    try:
        out.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise PrivacyError(
            f"{out}: expected a folder that can be made anew: {error.strerror}"
        ) from error
    found = Gathered()
    try:
        _gather(labels, sources, out, with_clips, found)
    except OSError as error:
        shutil.rmtree(out, ignore_errors=True)
        where = error.filename or out
        raise PrivacyError(f"{where}: cannot be read or written: {error.strerror}") from error
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)  # half an answer might be taken for a whole one
        raise
    return found


def gather_zip(
    labels: Labels, sources: Sources, out: Path, *, with_clips: bool = False
) -> Gathered:
    """Do as `gather` does, into one new .zip that only its owner may read.

    Raises:
        PrivacyError: As for `gather`.
    """
    if out.exists():
        raise PrivacyError(f"{out}: expected a name that is free, there is a file of that name")
    try:
        # Beside it: what is gathered must not lie about where others may read it.
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
            folder = Path(scratch, "all")
            found = gather(labels, sources, folder, with_clips=with_clips)
            made = Path(shutil.make_archive(str(folder), "zip", folder))
            made.chmod(0o600)
            made.replace(out)
            return found
    except OSError as error:
        raise PrivacyError(f"{out}: cannot be written: {error.strerror}") from error


def _gather(labels: Labels, sources: Sources, out: Path, with_clips: bool, found: Gathered) -> None:
    for number, write in enumerate(sources.galleries, start=1):
        write(out / "gallery" / str(number))
        found.num_galleries = number
    found.num_sightings = _write(out / "sightings.jsonl", _sightings(labels, sources))
    entries = (entry for log in sources.logs for entry in entries_about(*log, labels))
    found.num_entries = _write(out / "audit.jsonl", (json.loads(e.as_bytes()) for e in entries))
    folders = [each for each in sources.places if isinstance(each, DataFolder)]
    for number, folder in enumerate(folders, start=1):
        found.files += _copied(folder.tracklets_of(labels), folder.path, out, number)
        found.left_out += folder.showing_everybody(labels)
    clips = [each for each in sources.places if isinstance(each, ClipsFolder)]
    for number, each in enumerate([*(folder.clips for folder in folders), *clips], start=1):
        paths = list(each.clips_of(labels))
        if with_clips:
            found.files += _copied(paths, each.path.parent, out, number)
        else:
            found.left_out += paths
    (out / "README.txt").write_text(_index(labels, found), encoding="utf-8")


def _copied(paths: Iterable[Path], folder: Path, out: Path, number: int) -> Iterator[str]:
    """Copy files of the folder of a number; yield their names in `out`."""
    for path in paths:
        name = Path("files", str(number), path.relative_to(folder))
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, out / name)
        yield str(name)


def entries_about(log: AuditLog, gallery: str | None, labels: Labels) -> Iterator[AuditEntry]:
    """Yield the entries of a log that are about somebody, or name them.

    Args:
        log: The log.
        gallery: Uid of the gallery that its pseudonyms are of; None where nobody knows.
        labels: What they are called.

    Raises:
        PrivacyError: The log cannot be read.
    """
    for entry in log.entries() if log.path.exists() else ():
        texts: list[object] = [entry.subject]
        for value in entry.details.values():
            texts += value if isinstance(value, list) else [value]
        if labels.are_among(texts, gallery):
            yield entry


def also_called(
    pseudonyms: Collection[str], log: AuditLog, known: Collection[str] = ()
) -> frozenset[str]:
    """Return the pseudonyms of somebody, with those of whom were merged into them.

    Sightings from before a merger name who was there then. One that began and was never said to
    have ended has happened, if whom it was to remove is not there any more.

    Args:
        pseudonyms: Those that are known to be theirs.
        log: That of their gallery.
        known: Everybody's in the gallery.

    Raises:
        PrivacyError: The log cannot be read.
    """
    entries = list(log.entries()) if log.path.exists() else []
    failed = Counter(_merger(entry) for entry in entries if entry.action == "merge-failed")
    found = set(pseudonyms)
    for entry in reversed(entries):
        into, other = _merger(entry)
        if into not in found or not other:
            continue
        if entry.action == "merge-begun" and failed[into, other]:
            failed[into, other] -= 1
        elif entry.action == "merge" or (entry.action == "merge-begun" and other not in known):
            found.add(other)
    return frozenset(found)


def _merger(entry: AuditEntry) -> tuple[str, str]:
    other = entry.details.get("other")
    return entry.subject, other if isinstance(other, str) else ""


def _sightings(labels: Labels, sources: Sources) -> Iterator[Mapping[str, Any]]:
    for place in sources.places:
        if isinstance(place, DataFolder | LinesPlace | RowsPlace):
            try:
                for path, content in place.sightings_of(labels):
                    yield {**content, "found_in": str(path)}
            except UnclearGallery as error:
                raise PrivacyError(f"{place.name}: {error}") from None


def _write(path: Path, lines: Iterator[Mapping[str, Any]]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
    return count


def _index(labels: Labels, found: Gathered) -> str:
    lines = [
        f"What is stored about {' alias '.join(sorted(labels.all))}",
        f"Gathered {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by trackletgait.",
        "",
        f"sightings.jsonl  {found.num_sightings} sightings, a line each: which camera, from when "
        "to when. Times that end in unix_s count seconds since 1970 (UTC), others from the "
        "beginning of the recording.",
        f"audit.jsonl      {found.num_entries} entries of the audit log: who did what, and when.",
        f"gallery/         {found.num_galleries} galleries know this person; a folder each, with "
        "a README.txt of its own.",
        f"files/           {len(found.files)} files: .npz hold silhouettes (outlines of a person "
        "who walks, 64 x 44 pixels) and the numbers computed from them, .png show them, .mp4 are "
        "clips, .json tell what is on a clip.",
    ]
    if found.left_out:
        lines += [
            "",
            "Not copied, since others are seen on them, too. To look at them, ask the operator:",
            *(f"  {path}" for path in found.left_out),
        ]
    return "\n".join(lines) + "\n"
