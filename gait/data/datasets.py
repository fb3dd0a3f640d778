"""The six benchmarks: how large they are, who trains, and how their raw files become silhouettes.

Sizes and splits: spec c.1. Pretreatment: spec f. Raw layouts: `gait.data.layouts`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gait.data.pretreatment import Rule
from gait.errors import DataError

Split = Literal["train", "test"]
LayoutName = Literal["generic", "ou-mvlp", "gait3d", "grew", "sustech1k"]


@dataclass(frozen=True, slots=True)
class Dataset:
    """What is known about one benchmark.

    Attributes:
        title: As the papers write it.
        num_train: Subjects to train with, complete data set.
        num_test: Subjects to test with.
        num_test_sequences: Sequences of the test subjects; None where only subjects are published.
        layout: How the raw files lie.
        layout_known: Whether that layout is publicly documented, or assumed by us.
        rule: How a raw frame becomes a silhouette.
        pickle_name: File name of a prepared sequence; `{view}` is its view.
        num_inputs: Files a view folder has in the released, ready-made pickles.
        input_index: Which of them, sorted by name, are the silhouettes.
        split_of: The side of a subject, None for neither; None where the split is a list.
    """

    title: str
    num_train: int
    num_test: int
    layout: LayoutName = "generic"
    layout_known: bool = True
    rule: Rule = "benchmark"
    pickle_name: str = "{view}.pkl"
    num_test_sequences: int | None = None
    num_inputs: int = 1
    input_index: int = 0
    split_of: Callable[[str], Split | None] | None = None

    @property
    def data_in_use(self) -> tuple[bool, ...]:
        """Which files of a released view folder are read, in the order of their names."""
        return tuple(index == self.input_index for index in range(self.num_inputs))


def _number(subject: str) -> int:
    return int(subject) if subject.isascii() and subject.isdigit() else -1


def _casia_b(subject: str) -> Split | None:
    number = _number(subject)
    return "train" if 1 <= number <= 74 else "test" if 75 <= number <= 124 else None


def _ou_mvlp(subject: str) -> Split | None:
    number = _number(subject)
    if not 1 <= number <= 10307:
        return None
    # the last subject is odd and tests nevertheless, which makes 5153 and 5154
    return "train" if number % 2 == 1 and number != 10307 else "test"


def _grew(subject: str) -> Split | None:
    if subject.endswith("train") and _number(subject.removesuffix("train")) >= 0:
        return "train"
    return "test" if subject == "probe" or _number(subject) >= 0 else None


def _first_are_train(num_train: int, total: int) -> Callable[[str], Split | None]:
    """Return the rule of a data set numbered from 0 whose first subjects train."""

    def split_of(subject: str) -> Split | None:
        number = _number(subject)
        return None if not 0 <= number < total else "train" if number < num_train else "test"

    return split_of


DATASETS = {
    "casia-b": Dataset("CASIA-B", 74, 50, num_test_sequences=5485, split_of=_casia_b),
    "ou-mvlp": Dataset(
        "OU-MVLP", 5153, 5154, layout="ou-mvlp", num_test_sequences=133_478, split_of=_ou_mvlp
    ),
    "gait3d": Dataset("Gait3D", 3000, 1000, layout="gait3d"),
    "grew": Dataset("GREW", 20_000, 6001, layout="grew", rule="as_is", split_of=_grew),
    "ccpg": Dataset(
        "CCPG",
        100,
        100,
        layout_known=False,
        rule="ccpg",
        pickle_name="{view}-aligned-sils.pkl",
        num_inputs=4,
        split_of=_first_are_train(100, 200),
    ),
    "sustech1k": Dataset(
        "SUSTech1K",
        250,
        800,
        layout="sustech1k",
        layout_known=False,
        rule="resize",
        pickle_name="06-{view}-Camera-Sils_aligned.pkl",
        num_inputs=16,
        input_index=6,
        split_of=_first_are_train(250, 1050),
    ),
}


def dataset_named(name: str) -> Dataset:
    """Return a benchmark by its name.

    Raises:
        DataError: Nobody of that name.
    """
    if name not in DATASETS:
        raise DataError(f"data set: expected one of {', '.join(DATASETS)}, got {name!r}")
    return DATASETS[name]
