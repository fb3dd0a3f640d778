"""What `data check` objects to, and how it says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gait.data.check_facts import Facts
from gait.data.datasets import Dataset
from gait.data.partition import Partition, some
from gait.data.prepare_report import SHORT

_MANY_FRAMES = 0.25
_FEW_SEQUENCES = 0.05


class Severity(StrEnum):
    """Whether a finding spoils results (error) or deserves a look (warning)."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        severity: Errors make `data check` exit with 1.
        kind: Which rule, one word.
        where: File, folder or subject.
        message: What was expected, what came, what to do.
    """

    severity: Severity
    kind: str
    where: str
    message: str


def content_findings(root: str, facts: Sequence[Facts]) -> list[Finding]:
    """Return what is wrong with files and pixels: damaged, mixed, cut twice, repeated, too few."""
    sound = [each for each in facts if each.error is None]
    return [
        *(_error("file", each.where, each.error) for each in facts if each.error is not None),
        *_widths(root, sound),
        *_cut_twice(root, sound),
        *_duplicates(sound),
        *_few_frames(sound),
    ]


def subject_findings(
    root: str, facts: Sequence[Facts], partition: Partition | None, dataset: Dataset | None
) -> list[Finding]:
    """Return what is wrong with who is there: against the partition and the published sizes."""
    counts = Counter(each.key.subject for each in facts)
    found: list[Finding] = []
    if partition is not None:
        found += _strangers(root, counts, partition)
        found += _missing(root, counts, partition)
        found += _probes(root, facts, partition)
    found += _alone(root, counts, partition)
    if dataset is not None:
        found += _sizes(root, counts, partition, dataset)
    return found


def _widths(root: str, facts: Sequence[Facts]) -> Iterator[Finding]:
    cut, whole = ([each for each in facts if each.width == width] for width in (44, 64))
    if cut and whole:
        fewer = min(cut, whole, key=len)
        yield _error(
            "mixed",
            root,
            f"expected one width, got {len(cut)} sequences of 64x44 (cut) and {len(whole)} of "
            f"64x64 (to be cut once); the fewer are {_keys(fewer)}; prepare them all the same way",
        )


def _cut_twice(root: str, facts: Sequence[Facts]) -> Iterator[Finding]:
    clipped = [each for each in facts if each.clipped > _MANY_FRAMES]
    if not clipped:
        return
    many = len(clipped) > _FEW_SEQUENCES * len(facts)
    yield Finding(
        Severity.ERROR if many else Severity.WARNING,
        "cut-twice",
        root,
        f"{len(clipped)} of {len(facts)} sequences look cut twice: in a quarter of their frames "
        f"or more the person ends sharply at both sides ({_keys(clipped)}); "
        "64x44 silhouettes must not be cut again: "
        + ("prepare them again from the PNGs" if many else "look at them, they may just be wide"),
    )


def _duplicates(facts: Sequence[Facts]) -> Iterator[Finding]:
    of_digest: dict[bytes, list[Facts]] = {}
    for each in facts:
        of_digest.setdefault(each.digest, []).append(each)
    for same in of_digest.values():
        if len(same) > 1:
            yield _error(
                "duplicate",
                same[0].where,
                f"{len(same)} sequences have the same pixels: {_keys(same)}; copies teach that "
                "two walks are one: keep the right one",
            )


def _few_frames(facts: Sequence[Facts]) -> Iterator[Finding]:
    for each in facts:
        if each.num_black:
            yield _warning(
                "black", each.where, f"{each.num_black} of {each.num_frames} frames show nobody"
            )
        if each.num_frames < SHORT:
            yield _warning(
                "short", each.where, f"only {each.num_frames} frames, a walk has {SHORT} or more"
            )


def _strangers(root: str, counts: Counter[str], partition: Partition) -> Iterator[Finding]:
    known = {*partition.train, *partition.test}
    if strangers := sorted(set(counts) - known):
        yield _error(
            "stranger",
            root,
            f"{len(strangers)} subjects are in neither list of the partition and would be "
            f"ignored: {some(strangers)}; add them to it or move them away",
        )


def _missing(root: str, counts: Counter[str], partition: Partition) -> Iterator[Finding]:
    for side, subjects in (("TRAIN_SET", partition.train), ("TEST_SET", partition.test)):
        if missing := [each for each in subjects if each not in counts]:
            yield _error(
                "missing",
                root,
                f"{len(missing)} of {len(subjects)} subjects of {side} are not there: "
                f"{some(missing)}; copy them, or results are not comparable",
            )


def _probes(root: str, facts: Sequence[Facts], partition: Partition) -> Iterator[Finding]:
    test = set(partition.test)
    there = {str(each.key) for each in facts if each.key.subject in test}
    if missing := sorted((partition.probe or frozenset()) - there):
        yield _error(
            "missing",
            root,
            f"{len(missing)} of {len(partition.probe or ())} sequences of PROBE_SET are not among "
            f"those of TEST_SET: {some(missing)}; copy them, or results are not comparable",
        )


def _alone(root: str, counts: Counter[str], partition: Partition | None) -> Iterator[Finding]:
    training = counts if partition is None else [e for e in partition.train if e in counts]
    if alone := sorted(each for each in training if counts[each] == 1):
        yield _error(
            "alone",
            root,
            f"{len(alone)} subjects to train with have a single sequence, so nothing to compare "
            f"it with: {some(alone)}; add a sequence, or leave them out of the partition",
        )


def _sizes(
    root: str, counts: Counter[str], partition: Partition | None, dataset: Dataset
) -> Iterator[Finding]:
    if partition is None:
        yield from _differs(
            root, dataset, "subjects", len(counts), dataset.num_train + dataset.num_test
        )
        return
    train, test = ([e for e in side if e in counts] for side in (partition.train, partition.test))
    yield from _differs(root, dataset, "training subjects", len(train), dataset.num_train)
    yield from _differs(root, dataset, "test subjects", len(test), dataset.num_test)
    if dataset.num_test_sequences is not None:
        num_sequences = sum(counts[each] for each in test)
        yield from _differs(
            root, dataset, "test sequences", num_sequences, dataset.num_test_sequences
        )


def _differs(
    root: str, dataset: Dataset, what: str, found: int, expected: int
) -> Iterator[Finding]:
    if found != expected:
        yield _error(
            "size",
            root,
            f"{dataset.title} has {expected} {what}, got {found}; "
            + ("copy what is missing" if found < expected else "remove what does not belong to it"),
        )


def _keys(facts: Sequence[Facts]) -> str:
    return some([str(each.key) for each in facts])


def _error(kind: str, where: str, message: str | None) -> Finding:
    return Finding(Severity.ERROR, kind, where, message or "")


def _warning(kind: str, where: str, message: str) -> Finding:
    return Finding(Severity.WARNING, kind, where, message)
