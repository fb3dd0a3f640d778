"""Sequences of silhouettes from files: PNG folders, OpenGait pickles, `.npy` and `.npz`.

Whatever the file, the result is uint8 of shape (T, 64, 44) or (T, 64, 64), grey levels 0..255.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from gait.errors import DataError
from gait.silhouette import Reason, normalise

SILHOUETTE_SHAPES = ((64, 44), (64, 64))


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
    * `.npy`, `.npz`: uint8 arrays; an `.npz` holds one sequence an array.

    Raises:
        DataError: The input is missing, damaged, of another kind, or holds no silhouettes.
    """
    if path.is_dir():
        return [_read_folder(path)]
    readers = {".pkl": _read_pickle, ".npy": _read_npy, ".npz": _read_npz}
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
    return [Sequence(name, _checked(name, array)) for name, array in arrays]


def _read_npy(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    with path.open("rb") as file:
        yield str(path), np.lib.format.read_array(file, allow_pickle=False)


def _read_npz(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise DataError(f"{path}: expected an .npz archive, got a truncated or other file")
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            for key in arrays.files:
                yield f"{path}:{key}", arrays[key]


def _read_pickle(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    with path.open("rb") as file:
        try:
            content = _ArrayUnpickler(file).load()
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    if isinstance(content, _PickledArray):
        content = content.array
    if not isinstance(content, np.ndarray):
        raise DataError(
            f"{path}: expected one pickled array, got a {type(content).__name__}; OpenGait's "
            "preprocessing writes one array a file"
        )
    yield str(path), content


def _checked(name: str, array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the array if it is silhouettes; the message says what is wrong otherwise."""
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[1:] not in SILHOUETTE_SHAPES:
        raise DataError(
            f"{name}: expected uint8 of shape (T, 64, 44) or (T, 64, 64), got {array.dtype} of "
            f"shape {array.shape}; normalise masks first, or give them as a folder of PNGs"
        )
    if not len(array):
        raise DataError(f"{name}: expected at least one silhouette, got none")
    _check_levels(name, int(array.max()))
    return array


def _check_levels(name: str, brightest: int) -> None:
    if brightest <= 1:
        found = "only black frames" if brightest == 0 else "0 and 1"
        raise DataError(
            f"{name}: expected grey levels 0..255 with the person white, got {found}; "
            f"{'check the export' if brightest == 0 else 'multiply them by 255'}"
        )


def _read_folder(path: Path) -> Sequence:
    files = sorted(file for file in path.glob("*.png") if "gei.png" not in file.name)
    if not files:
        raise DataError(
            f"{path}: expected a folder with the .png frames of one sequence, got none; "
            "give each sequence's own folder"
        )
    frames = [_read_png(file) for file in files]
    _check_levels(str(path), max(int(frame.max()) for frame in frames))
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


def _read_png(file: Path) -> NDArray[np.uint8]:
    # imdecode, because imread logs instead of raising and cannot open every path
    try:
        data = np.fromfile(file, np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if data.size else None
    except (OSError, cv2.error) as error:
        raise DataError(f"{file}: expected a PNG image, cannot read it ({error})") from error
    if image is None:
        raise DataError(
            f"{file}: expected a PNG image, got a damaged or other file; export it again"
        )
    return image.astype(np.uint8, copy=False)


class _PickledType:
    """Stands for `numpy.dtype` while a pickle is read; only plain uint8 is let through."""

    def __init__(self, code: str, *_: object) -> None:
        if np.dtype(code) != np.uint8:
            raise DataError(f"expected a pickled array of uint8, got one of {np.dtype(code)}")

    def __setstate__(self, state: object) -> None:
        """Ignore byte order and flags: one byte has none."""


class _PickledArray:
    """Stands for `numpy.ndarray` while a pickle is read; `array` holds the pixels afterwards."""

    array: NDArray[np.uint8] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, kind, is_fortran, pixels = state
        self.array = _from_buffer(pixels, kind, shape, "F" if is_fortran else "C")


def _reconstruct(*_: object) -> _PickledArray:
    return _PickledArray()


def _from_buffer(
    pixels: bytes | str, _kind: object, shape: tuple[int, ...], order: Literal["C", "F"] = "C"
) -> NDArray[np.uint8]:
    data = pixels.encode("latin1") if isinstance(pixels, str) else pixels
    return np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(shape, order=order))


def _encode(text: str, _codec: str = "latin1") -> bytes:
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    """Reads a uint8 array and can do nothing else.

    Unpickling means calling what the file names. Only the names numpy writes are known, and
    each leads to a harmless stand-in of this module, not even to numpy's own code.
    """

    _ALLOWED: ClassVar[dict[tuple[str, str], Callable[..., object]]] = {
        ("multiarray", "_reconstruct"): _reconstruct,
        ("numeric", "_frombuffer"): _from_buffer,
        ("numpy", "ndarray"): _PickledArray,
        ("numpy", "dtype"): _PickledType,
        ("_codecs", "encode"): _encode,
    }

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="latin1")  # files of Python 2 hold bytes as text

    def find_class(self, module: str, name: str) -> Any:
        for prefix in ("numpy.core.", "numpy._core."):
            module = module.removeprefix(prefix)
        if (module, name) not in self._ALLOWED:
            raise DataError(
                f"expected a pickled numpy array, got a file that asks for {module}.{name}; "
                "it was refused and nothing was run"
            )
        return self._ALLOWED[module, name]
