"""Real tracklets that come with the package: to compare runtimes by, and to calibrate with.

Cut from the bundled clip of pedestrians by the pipeline itself; scripts/reference_tracklets.py
made the file.
"""

from __future__ import annotations

import functools
import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gait.errors import DataError
from gait.tracklet import SILHOUETTE_HW

FILE = Path(__file__).with_name("reference.npz")

Tracklets = tuple[NDArray[np.uint8], ...]


def reference_tracklets() -> Tracklets:
    """Return the tracklets runtimes are compared by: each (T, 64, 44) uint8, T of 1 to 64.

    Raises:
        DataError: The installation is damaged.
    """
    return _load(FILE)[0]


def calibration_tracklets() -> Tracklets:
    """Return tracklets of other people, to choose the ranges of int8 by; each (T, 64, 44) uint8.

    Raises:
        DataError: The installation is damaged.
    """
    return _load(FILE)[1]


def pack_tracklets(
    reference: Sequence[NDArray[np.uint8]], calibration: Sequence[NDArray[np.uint8]]
) -> bytes:
    """Return the content of the file that `reference_tracklets` and the other read."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        reference=np.concatenate(reference),
        reference_lengths=[len(each) for each in reference],
        calibration=np.concatenate(calibration),
        calibration_lengths=[len(each) for each in calibration],
    )
    return buffer.getvalue()


@functools.cache
def _load(path: Path) -> tuple[Tracklets, Tracklets]:
    try:
        with np.load(path, allow_pickle=False) as npz:
            return _split(npz, "reference"), _split(npz, "calibration")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path}: expected the tracklets that come with the package, got a missing or damaged "
            f"file ({error}); reinstall trackletgait"
        ) from error


def _split(npz: np.lib.npyio.NpzFile, name: str) -> Tracklets:
    silhouettes, lengths = npz[name], npz[f"{name}_lengths"]
    if silhouettes.dtype != np.uint8 or silhouettes.shape != (lengths.sum(), *SILHOUETTE_HW):
        raise ValueError(f"{name} has {silhouettes.dtype} of shape {silhouettes.shape}")
    silhouettes.flags.writeable = False  # one copy serves all callers
    return tuple(np.split(silhouettes, np.cumsum(lengths)[:-1]))
