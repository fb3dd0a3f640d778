"""Where the raw frames of each data set lie, and which walk each folder is.

generic      subject/condition/view/*.png                                   CASIA-B, CCPG
ou-mvlp      Silhouette_VIEW-SEQUENCE/subject/*.png
gait3d       [2D_Silhouettes/]subject/camera_video/sequence/*.png
grew         train/subject/video/*.png, test/gallery/subject/video/*.png, test/probe/video/*.png
sustech1k    subject/condition/view/[*Sils_aligned/]*.png
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from gait.data.dataset import SequenceKey, subfolders
from gait.errors import DataError

_OU_MVLP_FOLDER = re.compile(r"Silhouette_(?P<view>\d+)-(?P<sequence>\d+)")
_SUSTECH1K_FOLDER = re.compile(r".*sils[_-]aligned", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RawSequence:
    """The folder with the frames of one walk."""

    key: SequenceKey
    folder: Path

    def frames(self) -> list[Path]:
        """Return the frames in the order of their names, without the energy image (spec f)."""
        with os.scandir(self.folder) as entries:
            names = [
                each.name
                for each in entries
                if each.name.lower().endswith(".png") and "gei.png" not in each.name
            ]
        return [self.folder / name for name in sorted(names)]


def find_raw_sequences(root: Path, layout: str) -> list[RawSequence]:
    """Return the walks below `root`, sorted by subject, condition and view.

    Raises:
        DataError: `root` cannot be read, nothing in it fits the layout, or two folders are the
            same walk.
    """
    try:
        found = sorted(LAYOUTS[layout](root), key=lambda each: each.key)
    except OSError as error:
        raise DataError(f"{root}: cannot read the raw data ({error})") from error
    if not found:
        raise DataError(
            f"{root}: expected {EXPECTED[layout]}, got none; give the folder above these, or "
            "another --layout"
        )
    for one, other in pairwise(found):
        if one.key == other.key:
            raise DataError(
                f"{other.folder}: expected one folder for {other.key}, got {one.folder} too; "
                "remove one"
            )
    return found


def _generic(root: Path) -> Iterator[RawSequence]:
    for subject in subfolders(root):
        for condition in subfolders(subject):
            for view in subfolders(condition):
                yield RawSequence(SequenceKey(subject.name, condition.name, view.name), view)


def _ou_mvlp(root: Path) -> Iterator[RawSequence]:
    for folder in subfolders(root):
        if match := _OU_MVLP_FOLDER.fullmatch(folder.name):
            for subject in subfolders(folder):
                yield RawSequence(
                    SequenceKey(subject.name, match["sequence"], match["view"]), subject
                )


def _gait3d(root: Path) -> Iterator[RawSequence]:
    inner = root / "2D_Silhouettes"
    return _generic(inner if inner.is_dir() else root)


def _grew(root: Path) -> Iterator[RawSequence]:
    # the benchmark's sequences are unnumbered; in string order the first two become 01 and 02
    for subject in _folders_if_there(root / "train"):
        for video in subfolders(subject):
            yield RawSequence(SequenceKey(f"{subject.name}train", "00", video.name), video)
    for subject in _folders_if_there(root / "test" / "gallery"):
        for number, video in enumerate(subfolders(subject), start=1):
            yield RawSequence(SequenceKey(subject.name, f"{number:02}", video.name), video)
    for video in _folders_if_there(root / "test" / "probe"):
        yield RawSequence(SequenceKey("probe", "03", video.name), video)


def _sustech1k(root: Path) -> Iterator[RawSequence]:
    for each in _generic(root):
        aligned = [
            inner for inner in subfolders(each.folder) if _SUSTECH1K_FOLDER.fullmatch(inner.name)
        ]
        yield RawSequence(each.key, aligned[0] if aligned else each.folder)


LAYOUTS: dict[str, Callable[[Path], Iterator[RawSequence]]] = {
    "generic": _generic,
    "ou-mvlp": _ou_mvlp,
    "gait3d": _gait3d,
    "grew": _grew,
    "sustech1k": _sustech1k,
}

EXPECTED: dict[str, str] = {
    "generic": "folders subject/condition/view with PNG frames",
    "ou-mvlp": "folders Silhouette_VIEW-SEQUENCE/subject with PNG frames",
    "gait3d": "folders subject/camera_video/sequence with PNG frames",
    "grew": "folders train/subject/video, test/gallery/subject/video or test/probe/video",
    "sustech1k": "folders subject/condition/view with PNG frames or a folder ...Sils_aligned",
}
"""What lies below the root, in words."""


def _folders_if_there(folder: Path) -> list[Path]:
    return subfolders(folder) if folder.is_dir() else []
