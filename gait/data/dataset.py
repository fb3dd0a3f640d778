"""Sequences of a data set, one pickle each in OpenGait's layout, or packed in one file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from gait.data.pickles import read_silhouettes
from gait.errors import DataError


@dataclass(frozen=True, slots=True, order=True)
class SequenceKey:
    """Which walk: who, under which condition, seen by which camera.

    `str` gives `subject-condition-view`, the form of Gait3D's `PROBE_SET`.
    """

    subject: str
    condition: str
    view: str

    def __str__(self) -> str:
        return f"{self.subject}-{self.condition}-{self.view}"


class GaitDataset(Protocol):
    """Sequences that can be read in any order."""

    @property
    def keys(self) -> Sequence[SequenceKey]:
        """Which walk each sequence is; conditions and views of a subject are sorted (spec c.1)."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Frames of each sequence, shape (N,)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Return one sequence, shape (T, 64, 44) or (T, 64, 64), read-only.

        Raises:
            DataError: It is damaged or no silhouettes; the message names the file.
        """

    def select(self, subjects: Iterable[str]) -> GaitDataset:
        """Return the sequences of `subjects`, in their order, without a copy."""


@dataclass(frozen=True, slots=True)
class ViewFolder:
    """One walk on disk: a folder `subject/condition/view` and the pickles in it, by name."""

    key: SequenceKey
    folder: Path
    files: tuple[Path, ...]

    def file_in_use(self, data_in_use: Sequence[bool] | None) -> Path:
        """Return the pickle with the silhouettes.

        Args:
            data_in_use: One entry a file, in the order of their names, one of them True. May be
                None, and is not asked, where a folder has but one file.

        Raises:
            DataError: No file, or a choice that does not fit.
        """
        if not self.files:
            raise DataError(
                f"{self.folder}: expected the .pkl of a sequence, got none; prepare or copy it "
                "again, or remove the folder"
            )
        if len(self.files) == 1:
            return self.files[0]
        names = ", ".join(file.name for file in self.files)
        if data_in_use is None:
            raise DataError(
                f"{self.folder}: expected one .pkl, got {len(self.files)}: {names}; say with "
                "data_in_use which of them are the silhouettes"
            )
        if len(data_in_use) != len(self.files):
            raise DataError(
                f"{self.folder}: expected {len(data_in_use)} .pkl files, as data_in_use has that "
                f"many entries, got {len(self.files)}: {names}"
            )
        return self.files[_index_in_use(data_in_use)]


def scan_folders(root: Path) -> list[ViewFolder]:
    """Return all folders `root/subject/condition/view`, sorted; hidden names are left out.

    Raises:
        DataError: `root` cannot be read or has no such folder.
    """
    try:
        found = [
            ViewFolder(SequenceKey(*folder.parts[-3:]), folder, _pickles(folder))
            for subject in subfolders(root)
            for condition in subfolders(subject)
            for folder in subfolders(condition)
        ]
    except OSError as error:
        raise DataError(
            f"{root}: expected a packed file or a folder of subject/condition/view/*.pkl; "
            f"cannot read {error.filename}: {error.strerror}"
        ) from error
    if not found:
        raise DataError(
            f"{root}: expected folders subject/condition/view with a .pkl in each, got none; "
            "`trackletgait data prepare` makes them from PNGs"
        )
    return found


class FolderDataset:
    """OpenGait's layout: `root/subject/condition/view/*.pkl`.

    A pickle cannot run anything here: a file that names more than a uint8 array is refused.

    Args:
        root: The data set.
        data_in_use: Which pickles of a view folder are the silhouettes, in the order of their
            names (`Dataset.data_in_use` has it for the released pickles); None if each folder
            has but one.

    Raises:
        DataError: The folder is no data set, or `data_in_use` does not fit it.
    """

    def __init__(self, root: Path, data_in_use: Sequence[bool] | None = None) -> None:
        if data_in_use is not None:
            _index_in_use(data_in_use)
        entries = scan_folders(root)
        self._fill([(each.key, each.file_in_use(data_in_use)) for each in entries])

    def _fill(self, entries: list[tuple[SequenceKey, Path]]) -> None:
        self.keys = [key for key, _ in entries]
        self.files = [file for _, file in entries]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Frames of each sequence; the first use reads every file, which a packed one need not."""
        return np.array([len(self[index]) for index in range(len(self))], np.int64)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Return one sequence, read from its file each time.

        Raises:
            DataError: It is damaged or no silhouettes.
        """
        return read_silhouettes(self.files[index])

    def select(self, subjects: Iterable[str]) -> Self:
        """Return the sequences of `subjects`, in their order."""
        chosen = object.__new__(type(self))
        chosen._fill([(self.keys[i], self.files[i]) for i in indices_of(self.keys, subjects)])
        return chosen


def indices_of(keys: Sequence[SequenceKey], subjects: Iterable[str]) -> list[int]:
    """Return the indices of the keys of `subjects`, in the order of `subjects`, then of `keys`."""
    of_subject: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        of_subject.setdefault(key.subject, []).append(index)
    return [index for subject in subjects for index in of_subject.get(subject, ())]


def _index_in_use(data_in_use: Sequence[bool]) -> int:
    if sum(data_in_use) != 1:
        raise DataError(
            "data_in_use: expected one True, as a sequence is the silhouettes of one file, "
            f"got {list(data_in_use)}"
        )
    return list(data_in_use).index(True)


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in `folder`, sorted, without hidden ones.

    Raises:
        OSError: It cannot be read.
        DataError: A name is not UTF-8, which no index, partition or table could hold.
    """
    with os.scandir(folder) as entries:
        names = [each.name for each in entries if each.is_dir() and not each.name.startswith(".")]
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{folder}: expected names in UTF-8, got {name!a}; rename it"
            ) from error
    return [folder / name for name in sorted(names)]


def _pickles(folder: Path) -> tuple[Path, ...]:
    with os.scandir(folder) as entries:
        names = [
            each.name
            for each in entries
            if each.name.endswith(".pkl") and not each.name.startswith(".")
        ]
    return tuple(folder / name for name in sorted(names))
