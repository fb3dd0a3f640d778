"""Raw PNG frames of a benchmark to OpenGait's layout, in parallel and resumable.

A sequence is written whole or not at all, and then noted in a journal. Killed at any moment and
started again, what the journal notes and is still there as noted is not done again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gait.data.atomic import PARTIAL_SUFFIX
from gait.data.dataset import SequenceKey
from gait.data.datasets import dataset_named
from gait.data.layouts import LAYOUTS, RawSequence, find_raw_sequences
from gait.data.parallel import map_in_processes
from gait.data.pickles import write_silhouettes
from gait.data.pretreatment import FrameFault, Rule, pretreat
from gait.errors import DataError
from gait.silhouette import Reason

logger = logging.getLogger(__name__)

_JOURNAL = Path(".prepare") / "journal.jsonl"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What became of one raw sequence.

    Attributes:
        key: Which walk.
        num_frames: Raw frames found.
        num_kept: Silhouettes written; 0 when the sequence has no file.
        skipped: Names of the frames that gave no silhouette, by reason.
        size: Bytes of the written file, 0 for none.
        stamp: When the raw folder last gained or lost a frame, in its file system's nanoseconds.
    """

    key: SequenceKey
    num_frames: int
    num_kept: int
    skipped: dict[str, list[str]]
    size: int
    stamp: int

    def to_line(self) -> bytes:
        """Return the journal's line."""
        return json.dumps(asdict(self), separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Prepared:
        """Return what `to_line` wrote.

        Raises:
            ValueError, TypeError, KeyError: The line is torn.
        """
        content: dict[str, Any] = json.loads(line)
        return cls(SequenceKey(**content.pop("key")), **content)


@dataclass(frozen=True, slots=True)
class _Task:
    raw: RawSequence
    rule: Rule
    target: Path

    def is_done(self, noted: Prepared) -> bool:
        """Whether the raw folder and the written file are still as noted."""
        try:
            size = self.target.stat().st_size if self.target.is_file() else 0
            return (noted.size, noted.stamp) == (size, self.raw.folder.stat().st_mtime_ns)
        except OSError:  # `_prepare` says which
            return False


@dataclass(frozen=True, slots=True)
class Plan:
    """What `prepare` will do.

    Attributes:
        out: Root of the prepared data set.
        settings: What the output depends on; noted in the journal's first line.
        tasks: One a raw sequence.
    """

    out: Path
    settings: dict[str, str]
    tasks: list[_Task]


def plan_preparation(raw: Path, out: Path, dataset_name: str, layout: str | None = None) -> Plan:
    """Return which raw sequence becomes which file.

    Args:
        raw: Root of the raw frames.
        out: Root of the prepared data set.
        dataset_name: A name of `gait.data.datasets.DATASETS`: its rule for frames is used.
        layout: Where the raw frames lie; the data set's own when None.

    Raises:
        DataError: Unknown data set or layout, or nothing in `raw` that fits it.
    """
    dataset = dataset_named(dataset_name)
    layout = layout or dataset.layout
    if layout not in LAYOUTS:
        raise DataError(f"layout: expected one of {', '.join(LAYOUTS)}, got {layout!r}")
    tasks = [
        _Task(each, dataset.rule, _target(out, each.key, dataset.pickle_name))
        for each in find_raw_sequences(raw, layout)
    ]
    settings = {"dataset": dataset_name, "layout": layout, "raw": str(raw.resolve())}
    return Plan(out, settings, tasks)


def prepare(plan: Plan, num_workers: int = 1) -> Iterator[Prepared]:
    """Yield what became of each sequence: first those already done, then the others as they are.

    Args:
        plan: As `plan_preparation` made it.
        num_workers: Processes. More are faster up to the number of cores, at the price of memory.

    Raises:
        DataError: `out` cannot be written or was prepared from something else, or another
            preparation of it is running.
    """
    with _open_journal(plan) as (journal, noted):
        remaining = []
        for task in plan.tasks:
            entry = noted.get(task.raw.key)
            if entry is not None and task.is_done(entry):
                yield entry
            else:
                remaining.append(task)
        logger.info("%s: %d sequences left to prepare", plan.out, len(remaining))
        for result in map_in_processes(_prepare, remaining, num_workers):
            _append(journal, result.to_line(), plan.out)
            yield result


def _prepare(task: _Task) -> Prepared:
    try:
        return _convert(task)
    except OSError as error:
        raise DataError(
            f"{task.raw.folder}: cannot read it, or replace {task.target} "
            f"({error.strerror or error}); mend that and run the same command again"
        ) from error


def _convert(task: _Task) -> Prepared:
    stamp = task.raw.folder.stat().st_mtime_ns  # before the names are read: a late frame is noticed
    frames = task.raw.frames()
    silhouettes, skipped = _pretreat_all(frames, task.rule)
    _clear(task.target)
    if silhouettes:
        write_silhouettes(task.target, np.stack(silhouettes))
    size = task.target.stat().st_size if silhouettes else 0
    return Prepared(task.raw.key, len(frames), len(silhouettes), skipped, size, stamp)


def _pretreat_all(
    frames: list[Path], rule: Rule
) -> tuple[list[NDArray[np.uint8]], dict[str, list[str]]]:
    silhouettes: list[NDArray[np.uint8]] = []
    skipped: dict[str, list[str]] = {}
    for file in frames:
        outcome = pretreat(file, rule)
        if isinstance(outcome, (Reason, FrameFault)):
            skipped.setdefault(str(outcome), []).append(file.name)
        else:
            silhouettes.append(outcome)
    return silhouettes, skipped


def _target(out: Path, key: SequenceKey, pickle_name: str) -> Path:
    return out / key.subject / key.condition / key.view / pickle_name.format(view=key.view)


def _clear(target: Path) -> None:
    """Remove what an earlier run left: an outdated file, and what it had begun when killed."""
    target.unlink(missing_ok=True)
    for partial in target.parent.glob(f".*{PARTIAL_SUFFIX}"):
        partial.unlink()


@contextlib.contextmanager
def _open_journal(plan: Plan) -> Iterator[tuple[BinaryIO, dict[SequenceKey, Prepared]]]:
    path = plan.out / _JOURNAL
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise DataError(
            f"{plan.out}: cannot write there ({error.strerror or error}); choose a folder that "
            "is writable and has room"
        ) from error
    with file:
        _lock(file, plan.out)
        noted = _read_journal(file, plan)
        yield file, noted


def _lock(file: BinaryIO, out: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise DataError(
            f"{out}: another `data prepare` is writing there; wait for it or end it"
        ) from error


def _read_journal(file: BinaryIO, plan: Plan) -> dict[SequenceKey, Prepared]:
    """Return what is noted, the file cut behind its last whole line."""
    file.seek(0)
    lines = file.read().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):  # killed while writing it
        file.truncate(sum(map(len, lines[:-1])))
        lines.pop()
    if not lines:
        _append(file, json.dumps(plan.settings).encode() + b"\n", plan.out)
        return {}
    _check_settings(lines[0], plan)
    noted = {}
    for line in lines[1:]:
        with contextlib.suppress(ValueError, TypeError, KeyError):  # its sequence is done again
            entry = Prepared.from_line(line)
            noted[entry.key] = entry
    return noted


def _check_settings(line: bytes, plan: Plan) -> None:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if found != plan.settings:
        raise DataError(
            f"{plan.out}: expected an empty folder or one prepared with {plan.settings}, "
            f"got one prepared with {found}; choose another folder or remove it"
        )


def _append(file: BinaryIO, line: bytes, out: Path) -> None:
    try:
        file.write(line)
        file.flush()
    except OSError as error:
        raise DataError(
            f"{out}: cannot note what is done ({error.strerror or error}); make room and run the "
            "same command again, it continues where it stopped"
        ) from error
