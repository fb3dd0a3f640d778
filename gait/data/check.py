"""Whether a data set is what training and evaluation expect, and in words what is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gait.data.check_facts import Facts, FileTask, PackTask, Task, examine
from gait.data.check_rules import Finding, Severity, content_findings, subject_findings
from gait.data.dataset import scan_folders
from gait.data.datasets import Dataset, dataset_named
from gait.data.pack import PackedDataset
from gait.data.parallel import map_in_processes
from gait.data.partition import Partition, load_partition, partition_for


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found in a data set.

    Attributes:
        num_subjects: People.
        num_sequences: Sequences, unreadable ones included.
        num_frames: Silhouettes of the readable ones.
        findings: What is wrong, errors first.
    """

    num_subjects: int
    num_sequences: int
    num_frames: int
    findings: tuple[Finding, ...]

    @property
    def num_errors(self) -> int:
        """How many findings spoil results; 0 is a sound data set."""
        return sum(each.severity is Severity.ERROR for each in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)


def check(
    path: Path,
    *,
    dataset_name: str | None = None,
    partition_path: Path | None = None,
    data_in_use: Sequence[bool] | None = None,
    num_workers: int = 1,
    on_sequence: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Return all that is wrong with a data set; every sequence is read.

    Args:
        path: A root in OpenGait's layout, or a pack.
        dataset_name: Compares the numbers of subjects and sequences with the published ones.
        partition_path: The split; without it the data set's rule if it has one, or none.
        data_in_use: Which pickles of a view folder are the silhouettes; the data set's when None.
        num_workers: Processes.
        on_sequence: Called with (sequences done, sequences in all).

    Raises:
        DataError: There is no data set at `path`, or the partition cannot be read.
    """
    dataset = None if dataset_name is None else dataset_named(dataset_name)
    partition = None if partition_path is None else load_partition(partition_path)
    tasks = _tasks(path, data_in_use, dataset)
    facts: list[Facts] = []
    for each in map_in_processes(examine, tasks, num_workers):
        facts.append(each)
        if on_sequence is not None:
            on_sequence(len(facts), len(tasks))
    if partition is None and dataset_name is not None:
        partition = _ruled(dataset_name, {each.key.subject for each in facts})
    return _report(path, facts, partition, dataset)


def _tasks(
    path: Path, data_in_use: Sequence[bool] | None, dataset: Dataset | None
) -> Sequence[Task]:
    if path.is_file():
        return [PackTask(path, i, key) for i, key in enumerate(PackedDataset(path).keys)]
    if data_in_use is None and dataset is not None:
        data_in_use = dataset.data_in_use
    chosen = None if data_in_use is None else tuple(data_in_use)
    return [FileTask(each, chosen) for each in scan_folders(path)]


def _ruled(dataset_name: str, subjects: set[str]) -> Partition | None:
    has_rule = dataset_named(dataset_name).split_of is not None
    return partition_for(dataset_name, subjects) if has_rule else None


def _report(
    path: Path, facts: list[Facts], partition: Partition | None, dataset: Dataset | None
) -> CheckReport:
    findings = [
        *content_findings(str(path), facts),
        *subject_findings(str(path), facts, partition, dataset),
    ]
    return CheckReport(
        len({each.key.subject for each in facts}),
        len(facts),
        sum(each.num_frames for each in facts),
        tuple(sorted(findings, key=lambda each: each.severity is Severity.WARNING)),
    )
