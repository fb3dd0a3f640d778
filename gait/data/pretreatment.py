"""From a raw frame of a data set to its silhouette: each data set's own rule (spec f)."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Literal, assert_never

import cv2
import numpy as np
from numpy.typing import NDArray

from gait.errors import DataError
from gait.silhouette import Pretreatment, Reason, normalise

Rule = Literal["benchmark", "ccpg", "resize", "as_is"]

SIZE = 64
CCPG = Pretreatment(min_pixel_sum=0, interpolation=cv2.INTER_AREA, first_column=True)


class FrameFault(StrEnum):
    """Why a frame is skipped before any rule sees its pixels, beside `gait.silhouette.Reason`."""

    UNREADABLE = "unreadable"
    """The file is no image, or a damaged one."""
    ZERO_ONE = "levels_0_1"
    """The mask is made of 0 and 1 instead of 0 and 255."""
    WRONG_SIZE = "wrong_size"
    """The rule takes frames of 64x64 as they are, and this one is of another size."""


Skip = Reason | FrameFault


def pretreat(file: Path, rule: Rule) -> NDArray[np.uint8] | Skip:
    """Return the silhouette of one frame, shape (64, 64) uint8, or why there is none.

    * `benchmark`: crop the rows, scale, centre (CASIA-B, OU-MVLP, Gait3D);
    * `ccpg`: the same with area interpolation, no lower limit of pixels, and a person in the first
      column accepted;
    * `resize`: only scale to 64x64, as SUSTech1K's frames are aligned already;
    * `as_is`: keep, as GREW's frames are 64x64 already.
    """
    try:
        frame = read_png(file)
    except DataError:
        return FrameFault.UNREADABLE
    if frame.max(initial=0) == 1:
        return FrameFault.ZERO_ONE
    match rule:
        case "benchmark":
            return normalise(frame, SIZE)
        case "ccpg":
            return normalise(frame, SIZE, CCPG)
        case "resize":
            return cv2.resize(frame, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
        case "as_is":
            return frame if frame.shape == (SIZE, SIZE) else FrameFault.WRONG_SIZE
    assert_never(rule)


def read_png(file: Path) -> NDArray[np.uint8]:
    """Return an image file as grey levels, shape (h, w).

    Raises:
        DataError: It cannot be read.
    """
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
