"""Pickled silhouettes, read without running anything and written whole or not at all.

Unpickling means calling what the file names; here only the names numpy writes are known, and each
leads to a harmless stand-in of this module.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from gait.data.atomic import write_atomically
from gait.errors import DataError

SILHOUETTE_SHAPES = ((64, 44), (64, 64))


def read_pickle(path: Path) -> NDArray[np.uint8]:
    """Return the one uint8 array of a pickle, whatever its shape; nothing in the file is run.

    Raises:
        DataError: The file cannot be read, is damaged, or holds or asks for anything else.
    """
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file).load()
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot read it ({error.strerror or error})") from error
    except Exception as error:  # pickle and numpy raise whatever a damaged file provokes
        raise DataError(
            f"{path}: expected one pickled uint8 array of silhouettes, got a damaged file or one "
            f"with other content ({type(error).__name__}: {error}); export it again"
        ) from error
    array = content.array if isinstance(content, _PickledArray) else content
    if not isinstance(array, np.ndarray):
        raise DataError(
            f"{path}: expected one pickled array, got a {type(content).__name__}; the layout "
            "has one array (T, 64, 64) or (T, 64, 44) a file, all frames of one width"
        )
    return array


def read_silhouettes(path: Path) -> NDArray[np.uint8]:
    """Return the silhouettes of a pickle, shape (T, 64, 44) or (T, 64, 64), read-only.

    Raises:
        DataError: As `read_pickle`, or the array is not silhouettes.
    """
    return check_silhouettes(str(path), read_pickle(path))


def write_silhouettes(path: Path, silhouettes: NDArray[np.uint8]) -> None:
    """Write a pickle that OpenGait reads under any numpy, whole or not at all.

    Raises:
        DataError: It cannot be written.
    """
    data = pickle.dumps(silhouettes, protocol=3)
    # numpy 2 names its module numpy._core, which numpy before 1.26 does not know
    portable = data.replace(b"cnumpy._core.", b"cnumpy.core.", 1)
    # not durable: a data set has 100,000 of these, and `prepare` notes each one's size
    write_atomically(path, portable, durable=False)


def check_silhouettes(name: str, array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the array if it is silhouettes; the message says what is wrong otherwise.

    Raises:
        DataError: `array` is not uint8 of shape (T, 64, 44) or (T, 64, 64) with T >= 1, or has no
            grey level above 1.
    """
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[1:] not in SILHOUETTE_SHAPES:
        raise DataError(
            f"{name}: expected uint8 of shape (T, 64, 44) or (T, 64, 64), got {array.dtype} of "
            f"shape {array.shape}{_advice(array.shape)}"
        )
    if not len(array):
        raise DataError(f"{name}: expected at least one silhouette, got none")
    check_levels(name, int(array.max()))
    return array


def check_levels(name: str, brightest: int) -> None:
    """Refuse pixels that are all black or that are 0 and 1 instead of 0 and 255.

    Raises:
        DataError: `brightest`, the highest grey level, is 0 or 1.
    """
    if brightest <= 1:
        found = "only black frames" if brightest == 0 else "0 and 1"
        raise DataError(
            f"{name}: expected grey levels 0..255 with the person white, got {found}; "
            f"{'check the export' if brightest == 0 else 'multiply them by 255'}"
        )


def _advice(shape: tuple[int, ...]) -> str:
    if shape[1:] == (64, 24):
        return ": these are 64x44 silhouettes cut a second time; take the 64x44 ones"
    return "; normalise masks first, or give them as a folder of PNGs"


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
    pixels: bytes | str,
    _kind: object,
    shape: tuple[int, ...],
    order: Literal["C", "F", "K"],
    axes: tuple[int, ...] | None = None,
) -> NDArray[np.uint8]:
    data = np.frombuffer(pixels.encode("latin1") if isinstance(pixels, str) else pixels, np.uint8)
    if order == "K":  # numpy 2.3 and later, of a transposed array: in the order of its memory
        return np.ascontiguousarray(data.reshape(shape).transpose(axes))
    return np.ascontiguousarray(data.reshape(shape, order=order))


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
