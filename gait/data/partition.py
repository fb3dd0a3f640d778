"""Who trains and who tests: OpenGait's partition files, and the data sets whose split is a rule."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gait.data.datasets import Split, dataset_named
from gait.errors import DataError

_KEYS = ("TRAIN_SET", "TEST_SET", "PROBE_SET")


@dataclass(frozen=True, slots=True)
class Partition:
    """Subjects to train and to test with, in the order they are used.

    Attributes:
        train: Subjects to train with.
        test: Subjects to test with.
        probe: `subject-condition-view` of the test sequences that are probes; None where the
            protocol decides by condition (all data sets but Gait3D).
    """

    train: list[str]
    test: list[str]
    probe: frozenset[str] | None = None

    def among(self, subjects: Iterable[str]) -> Partition:
        """Return the partition without the subjects that are not among `subjects` (spec c.1)."""
        known = set(subjects)
        return Partition(
            [each for each in self.train if each in known],
            [each for each in self.test if each in known],
            self.probe,
        )


def load_partition(path: Path) -> Partition:
    """Return the partition in a JSON file: `TRAIN_SET`, `TEST_SET`, and for Gait3D `PROBE_SET`.

    Raises:
        DataError: The file is missing, damaged, of another form, or names a subject twice.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot read the partition ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected a partition as JSON, got {error}") from error
    if not isinstance(content, dict) or not set(_KEYS[:2]) <= set(content) <= set(_KEYS):
        found = ", ".join(map(str, content)) if isinstance(content, dict) else "something else"
        raise DataError(
            f"{path}: expected the keys TRAIN_SET, TEST_SET and for Gait3D PROBE_SET, got {found}"
        )
    lists = {key: _texts(path, key, content[key]) for key in _KEYS if key in content}
    if both := set(lists["TRAIN_SET"]) & set(lists["TEST_SET"]):
        raise DataError(
            f"{path}: expected nobody in both TRAIN_SET and TEST_SET, got {some(sorted(both))}"
        )
    probe = lists.get("PROBE_SET")
    return Partition(
        lists["TRAIN_SET"], lists["TEST_SET"], None if probe is None else frozenset(probe)
    )


def partition_for(dataset_name: str, subjects: Iterable[str]) -> Partition:
    """Return the split of a data set whose split is a rule, for the subjects that are there.

    Subjects the rule does not know (`subject 999 of CASIA-B`) are in neither list.

    Raises:
        DataError: Unknown data set, or one whose split is a list (Gait3D): give its file.
    """
    dataset = dataset_named(dataset_name)
    if dataset.split_of is None:
        raise DataError(
            f"{dataset.title}: expected the path of its partition file, as the split is a list "
            "and no rule; take the JSON published with the data set"
        )
    sides: dict[Split | None, list[str]] = {"train": [], "test": [], None: []}
    for subject in sorted(subjects):
        sides[dataset.split_of(subject)].append(subject)
    return Partition(sides["train"], sides["test"])


def _texts(path: Path, key: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        found = value if not isinstance(value, list) else some([repr(each) for each in value])
        raise DataError(f'{path}: {key}: expected a list of texts such as ["001"], got {found}')
    if twice := [each for each, times in Counter(value).items() if times > 1]:
        raise DataError(f"{path}: {key}: expected each entry once, got twice: {some(twice)}")
    return value


def some(values: list[str], limit: int = 5) -> str:
    """Return the first of `values` for a message, and how many more there are."""
    more = f" and {len(values) - limit} more" if len(values) > limit else ""
    return ", ".join(values[:limit]) + more
