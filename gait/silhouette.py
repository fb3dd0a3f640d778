"""The one place a mask becomes a silhouette and silhouettes become model input.

Training data and live video go through the same functions, in this order:

    normalise   mask (h, w)                     ->  silhouette (64, 64), or the Reason there is none
    cut         silhouettes (T, 64, 64)         ->  (T, 64, 44), exactly once
    to_model_input          (T, 64, 44) uint8   ->  (T, 64, 44) float in 0..1

`judge` says beforehand whether a mask is worth it. What spoke against a frame is data (`Reason`),
never an exception or a log line.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import cv2
import numpy as np
from numpy.typing import DTypeLike, NDArray

from gait.errors import SilhouetteError

MaskPixels = NDArray[np.bool_] | NDArray[np.uint8]

MIN_PIXEL_SUM = 10_000
"""Grey levels a mask must hold more of: 40 white pixels pass, 39 do not (spec f.1)."""

_MIN_CUT_SIZE = 64
_CUT_COLUMNS_PER_64 = 10
_GREY_LEVELS = 255


class Reason(StrEnum):
    """Why a frame gave no silhouette, or one that should not be trusted."""

    NO_MASK = "no_mask"
    """The segmenter returned nothing for this box."""
    NO_PIXELS = "no_pixels"
    """The mask is empty or nearly so: fewer than 40 white pixels."""
    NO_CENTRE = "no_centre"
    """The person lies in the mask's first column, or is a line too thin to be resized."""
    TOUCHES_EDGE = "touches_edge"
    """The box touches the frame's edge, so part of the body may be out of view."""
    TOO_SMALL = "too_small"
    """The person is too few pixels high."""
    ASPECT = "aspect"
    """The mask is too narrow or too wide for a person who walks."""
    AREA_JUMP = "area_jump"
    """The mask is suddenly much larger or smaller than the track's usual one."""
    OCCLUDED = "occluded"
    """Another box covers too much of this one."""


@dataclass(frozen=True, slots=True)
class SilhouetteLimits:
    """Where `judge` draws its lines.

    Attributes:
        min_height: Height of the person in pixels. Higher keeps only sharp silhouettes (the model
            sees 64 rows), at the price of losing people far from the camera.
        min_aspect: Smallest width / height of the person. Higher drops slivers such as a body half
            behind a post, at the price of losing thin people seen from the front.
        max_aspect: Largest width / height. Lower drops masks of two people merged, at the price
            of losing long strides seen from the side and people who carry or push something.
        max_area_ratio: How many times larger or smaller than usual the area may be. Lower drops
            more masks that lost a leg or gained a neighbour, at the price of cutting the track
            where a person turns or bends.
        max_overlap: Share of the box that another box may cover, 0..1. Higher keeps more frames
            in a crowd, at the price of silhouettes with a neighbour's limbs.
    """

    min_height: int = 48
    min_aspect: float = 0.15
    max_aspect: float = 0.85
    max_area_ratio: float = 1.6
    max_overlap: float = 0.35


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `judge` thinks of one mask.

    Attributes:
        reasons: What speaks against the mask, in the order of `Reason`; empty when it is good.
        quality: 0..1; 0 when any reason speaks against it.
        area: Pixels of the person.
    """

    reasons: tuple[Reason, ...]
    quality: float
    area: int

    @property
    def is_good(self) -> bool:
        """Whether nothing speaks against the mask."""
        return not self.reasons


def judge(
    mask: MaskPixels | None,
    *,
    at_edge: bool = False,
    overlap: float = 0.0,
    previous_area: float | None = None,
    limits: SilhouetteLimits | None = None,
) -> Verdict:
    """Return whether a mask is worth a silhouette, and how good it is.

    The quality of a mask that nothing speaks against is

        min(1, height / 64) * (1 - overlap) * min(r, 1 / r),    r = area / previous_area

    : 1 for an unobstructed person of at least 64 pixels whose area is the usual one. The factor
    of r is 1 when `previous_area` is unknown.

    Args:
        mask: Shape (h, w), any non-zero pixel is the person; None when there is no mask.
        at_edge: Whether the person's box touches the edge of the frame.
        overlap: Share of the person's box that another box covers, 0..1.
        previous_area: Median pixel count of the track's recent good masks, each scaled to the
            height of the present box by (height now / height then) squared; None for a new track.
        limits: Where the lines are drawn; the documented defaults when None.

    Raises:
        SilhouetteError: `mask` is not a 2-D array of bool or uint8.
        ValueError: `overlap` is not in 0..1.
    """
    if not 0.0 <= overlap <= 1.0:
        raise ValueError(f"overlap: expected a share in 0..1, got {overlap}")
    if mask is None:
        return Verdict((Reason.NO_MASK,), 0.0, 0)
    _check_mask(mask)
    area = int(np.count_nonzero(mask))
    if int(mask.sum()) * (_GREY_LEVELS if mask.dtype == np.bool_ else 1) <= MIN_PIXEL_SUM:
        return Verdict((Reason.NO_PIXELS,), 0.0, area)
    height, width = _extent(mask)
    likeness = _likeness(area, previous_area)
    limits = limits or SilhouetteLimits()
    failed = {
        Reason.TOUCHES_EDGE: at_edge,
        Reason.TOO_SMALL: height < limits.min_height,
        Reason.ASPECT: not limits.min_aspect <= width / height <= limits.max_aspect,
        Reason.AREA_JUMP: likeness * limits.max_area_ratio < 1.0,
        Reason.OCCLUDED: overlap > limits.max_overlap,
    }
    reasons = tuple(reason for reason, speaks in failed.items() if speaks)
    quality = min(1.0, height / 64) * (1.0 - overlap) * likeness
    return Verdict(reasons, 0.0 if reasons else quality, area)


@dataclass(frozen=True, slots=True)
class Pretreatment:
    """What differs between the data sets' own ways to make silhouettes (spec f).

    Attributes:
        min_pixel_sum: Grey levels a mask must hold more of. Higher drops more specks, at the
            price of people far away.
        interpolation: OpenCV's number of the resampling filter.
        first_column: Whether a person whose balance lies in the first column is kept.
    """

    min_pixel_sum: int = MIN_PIXEL_SUM
    interpolation: int = cv2.INTER_CUBIC
    first_column: bool = False


BENCHMARK = Pretreatment()
"""What all the benchmarks but CCPG use, and what the pipeline uses on live masks."""


def normalise(
    mask: MaskPixels, size: int = 64, rules: Pretreatment = BENCHMARK
) -> NDArray[np.uint8] | Reason:
    """Return the silhouette of a mask: person filling the rows, centred on the column of balance.

    The pretreatment of the benchmarks (spec f), bit for bit. Only rows are cropped, so one stray
    pixel above the head shrinks the person, and the mask's width takes part in the scale, which is
    rounded down to whole pixels: give the whole frame's width, not a patch around the person, or
    the person is squeezed by up to 4 %.

    Args:
        mask: Shape (h, w), bool, or uint8 in 0..255.
        size: Side of the silhouette in pixels.
        rules: What CCPG does differently.

    Returns:
        Shape (size, size), uint8 with grey edges; or `Reason.NO_PIXELS` or `Reason.NO_CENTRE`
        when there is no silhouette in the mask.

    Raises:
        SilhouetteError: `mask` is not a 2-D array of bool or uint8.
    """
    _check_mask(mask)
    grey = _grey(mask)
    if grey.sum() <= rules.min_pixel_sum:
        return Reason.NO_PIXELS
    body = grey[_rows(grey)]
    width = int(size * (body.shape[1] / body.shape[0]))
    if width == 0:  # the release crashes here
        return Reason.NO_CENTRE
    scaled = cv2.resize(body, (width, size), interpolation=rules.interpolation).astype(np.uint8)
    centre = _balance_column(scaled)
    if centre is None or (centre == 0 and not rules.first_column):
        return Reason.NO_CENTRE
    return _window(scaled, centre, size)


def cut(silhouettes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return silhouettes of the model's width: square ones lose columns, cut ones lose nothing.

    From a square of side w, 10 * (w // 64) columns go on each side (spec b.3.2): 64 becomes 44,
    128 becomes 88. The release would cut 128x88 a second time; we never do.

    Args:
        silhouettes: Shape (T, w, w) with w >= 64, or already cut to (T, 16 k, 11 k).

    Returns:
        Shape (T, 64, 44) for the usual sizes; a view of the input, or the input itself.

    Raises:
        SilhouetteError: Another shape, or not uint8.
    """
    if silhouettes.ndim != 3 or silhouettes.dtype != np.uint8:
        raise SilhouetteError(
            "silhouettes: expected uint8 of shape (T, 64, 44) or (T, 64, 64), "
            f"got {silhouettes.dtype} of shape {silhouettes.shape}"
        )
    height, width = silhouettes.shape[1:]
    if height >= _MIN_CUT_SIZE and width * 64 == height * 44:
        return silhouettes
    if height < _MIN_CUT_SIZE or width != height:
        raise SilhouetteError(
            "silhouettes: expected 64x44 (already cut) or 64x64 (to be cut once), "
            f"got {height}x{width}; make them from masks with gait.silhouette.normalise"
        )
    columns = _CUT_COLUMNS_PER_64 * (width // 64)
    return silhouettes[:, :, columns : width - columns]


def to_model_input(
    silhouettes: NDArray[np.uint8], dtype: DTypeLike = np.float32
) -> NDArray[np.floating[Any]]:
    """Return silhouettes as the network reads them: cut, and 255 grey levels as 0..1.

    Args:
        silhouettes: As `cut` takes them.
        dtype: float32 or float64.

    Returns:
        Shape (T, 64, 44), each value the nearest number of `dtype` to grey / 255.

    Raises:
        SilhouetteError: As `cut`.
    """
    levels = (np.arange(_GREY_LEVELS + 1) / _GREY_LEVELS).astype(dtype)
    return np.asarray(levels[cut(silhouettes)])


def _check_mask(mask: NDArray[Any]) -> None:
    if mask.ndim != 2 or mask.dtype not in (np.bool_, np.uint8):
        raise SilhouetteError(
            f"mask: expected bool or uint8 of shape (h, w), got {mask.dtype} of shape {mask.shape}"
        )


def _grey(mask: MaskPixels) -> NDArray[np.uint8]:
    """Return a mask as grey levels: a bool one as 0 and 255."""
    return mask.astype(np.uint8) * np.uint8(_GREY_LEVELS if mask.dtype == np.bool_ else 1)


def _extent(mask: NDArray[Any]) -> tuple[int, int]:
    """Return height and width of the smallest box around all non-zero pixels."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1


def _likeness(area: int, previous_area: float | None) -> float:
    """Return 1 for the usual area, falling to 0 as it grows or shrinks."""
    if not previous_area:
        return 1.0
    return min(area / previous_area, previous_area / area)


def _rows(mask: NDArray[Any]) -> slice:
    """Return the rows from the first to the last with a non-zero pixel."""
    rows = np.flatnonzero(mask.any(axis=1))
    return slice(int(rows[0]), int(rows[-1]) + 1)


def _balance_column(grey: NDArray[np.uint8]) -> int | None:
    """Return the first column up to which more than half of all grey lies."""
    running = grey.sum(axis=0, dtype=np.int64).cumsum()
    beyond = np.flatnonzero(running > running[-1] / 2)
    return int(beyond[0]) if len(beyond) else None


def _window(grey: NDArray[np.uint8], centre: int, size: int) -> NDArray[np.uint8]:
    """Return `size` columns around `centre`, zero beyond the sides."""
    padded = np.pad(grey, ((0, 0), (size // 2, size // 2)))
    return padded[:, centre : centre + size].copy()
