"""Sequences of silhouettes from files: PNG folders, OpenGait pickles, `.npy` and `.npz`.

Whatever the file, the result is uint8 of shape (T, 64, 44) or (T, 64, 64), grey levels 0..255.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gait.data.pickles import SILHOUETTE_SHAPES, check_levels, check_silhouettes, read_pickle
from gait.data.pretreatment import read_png
from gait.errors import DataError
from gait.silhouette import Reason, normalise


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """All silhouettes of one walk.

    Attributes:
        name: The path it was read from, as given; `path:key` for an array of an `.npz`.
        silhouettes: Shape (T, 64, 44) or (T, 64, 64) with T >= 1, uint8.
        skipped: How many frames of a folder of masks gave no silhouette, by reason.
    """

    name: str
    silhouettes: NDArray[np.uint8]
    skipped: tuple[tuple[Reason, int], ...] = ()


def read_sequences(path: Path) -> list[Sequence]:
    """Return the sequences of one input: one, or as many as an `.npz` has arrays.

    * A folder: its `.png` files in the order of their names, without OpenGait's `gei.png`. If all
      are 64x44 or all are 64x64 they are silhouettes and stay as they are; frames of any other
      size are masks of the whole picture and are normalised, one by one.
    * `.pkl`: a pickled uint8 array, as OpenGait writes it; nothing else is unpickled.
    * `.npy`, `.npz`: uint8 arrays; an `.npz` holds one sequence an array, or, as the tracklets of
      a results folder do, one array `silhouettes` among others that are left alone.

    Raises:
        DataError: The input is missing, damaged, of another kind, or holds no silhouettes.
    """
    if path.is_dir():
        return [_read_folder(path)]
    readers = {".pkl": _read_pkl, ".npy": _read_npy, ".npz": _read_npz}
    if path.suffix.lower() not in readers:
        raise DataError(
            f"{path}: expected a folder of silhouette PNGs, a .pkl, .npy or .npz file, "
            f"got {'a file of another kind' if path.exists() else 'nothing there'}; check the path"
        )
    try:
        arrays = list(readers[path.suffix.lower()](path))
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot read it ({error.strerror or error})") from error
    except Exception as error:  # pickle, numpy and zlib raise whatever a damaged file provokes
        raise DataError(
            f"{path}: expected one uint8 array of silhouettes ({path.suffix}), got a damaged "
            f"file or one with other content ({type(error).__name__}: {error}); export it again"
        ) from error
    if not arrays:
        raise DataError(f"{path}: expected at least one array, got none")
    return [Sequence(name, check_silhouettes(name, array)) for name, array in arrays]


def _read_pkl(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    yield str(path), read_pickle(path)


def _read_npy(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    with path.open("rb") as file:
        yield str(path), np.lib.format.read_array(file, allow_pickle=False)


def _read_npz(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise DataError(f"{path}: expected an .npz archive, got a truncated or other file")
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            if "silhouettes" in arrays.files:  # a tracklet of a results folder, or one like it
                yield str(path), arrays["silhouettes"]
                return
            for key in arrays.files:
                yield f"{path}:{key}", arrays[key]


def _read_folder(path: Path) -> Sequence:
    files = sorted(file for file in path.glob("*.png") if "gei.png" not in file.name)
    if not files:
        raise DataError(
            f"{path}: expected a folder with the .png frames of one sequence, got none; "
            "give each sequence's own folder"
        )
    frames = [read_png(file) for file in files]
    check_levels(str(path), max(int(frame.max()) for frame in frames))
    shapes = {frame.shape for frame in frames}
    if len(shapes) == 1 and shapes <= set(SILHOUETTE_SHAPES):
        return Sequence(str(path), np.stack(frames))
    if len(shapes) > 1 and shapes <= set(SILHOUETTE_SHAPES):
        raise DataError(f"{path}: expected all frames 64x44 or all 64x64, got both; separate them")
    return _normalise_all(str(path), frames)


def _normalise_all(name: str, masks: list[NDArray[np.uint8]]) -> Sequence:
    outcomes = [normalise(mask) for mask in masks]
    skipped = Counter(each for each in outcomes if isinstance(each, Reason))
    silhouettes = [each for each in outcomes if not isinstance(each, Reason)]
    if not silhouettes:
        raise DataError(
            f"{name}: expected masks with a person in them, none of {len(masks)} frames gave a "
            f"silhouette ({', '.join(f'{reason}: {n}' for reason, n in skipped.items())})"
        )
    return Sequence(name, np.stack(silhouettes), tuple(sorted(skipped.items())))
