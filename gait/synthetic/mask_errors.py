"""How masks differ from the exact ones, in numbers that a noise model can be fitted to.

Legend of the shape suffixes: T frames, B bands from head to feet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gait.synthetic.noise import BANDS

LUMP = 0.03
"""A piece farther than this from where it should be, in person heights, is a lump."""

_NARROW = 0.025  # half the width below which gaps and limbs count as narrow, in person heights
_FEWEST_FRAMES = 8
_LATER = 8  # frames between two errors that may be the same

_Masks = NDArray[np.uint8]
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class MaskErrors:
    """What was done to masks. Lengths are person heights, areas thousandths of a squared one.

    Attributes:
        swell: How far outside the true outline theirs lies on average, lumps left out; (B,).
        jitter: Standard deviation of the same; (B,).
        missing: Area of missing lumps a frame; (B,).
        extra: Area of lumps that do not belong to the person; (B,).
        with_missing: Share of frames that miss a lump.
        with_extra: Share of frames with a lump too many.
        missing_area: Of what is missing in such a frame.
        extra_area: Of what is too much in such a frame.
        area_ratio: Area over exact area.
        area_flicker: How much that changes from frame to frame (standard deviation).
        area_spread: How much it differs between walks (standard deviation of their medians).
        iou: Intersection over union with the exact masks.
        iou_spread: How much that differs between walks.
        iou_lowest: The IoU that 5 % of the frames fall below.
        perimeter_ratio: Length of the outline over the exact one's.
        gaps_filled: Share of the narrow gaps, between legs or arm and trunk, that are filled.
        thin_lost: Share of the thin parts, feet, hands and straps, that are lost.
        holes: Share of frames with a hole that is not in the exact mask.
        top_off: Standard deviation of where the mask begins.
        bottom_off: Standard deviation of where it ends.
        same_error: IoU of the wrong pixels of two consecutive frames, lumps left out.
        same_error_later: The same of frames 8 apart.
        same_missing: IoU of the missing lumps of two consecutive frames, where there are any.
        same_extra: The same of lumps too many.
        fade: How fast 1 - IoU falls with the person's height in pixels: at 1, by half when the
            height doubles.
    """

    swell: _Floats
    jitter: _Floats
    missing: _Floats
    extra: _Floats
    with_missing: float
    with_extra: float
    missing_area: float
    extra_area: float
    area_ratio: float
    area_flicker: float
    area_spread: float
    iou: float
    iou_spread: float
    iou_lowest: float
    perimeter_ratio: float
    gaps_filled: float
    thin_lost: float
    holes: float
    top_off: float
    bottom_off: float
    same_error: float
    same_error_later: float
    same_missing: float
    same_extra: float
    fade: float

    @classmethod
    def between(cls, walks: Iterable[tuple[_Masks, _Masks]]) -> MaskErrors:
        """Compare walks' spoilt masks with the exact ones.

        Args:
            walks: Exact and spoilt masks of each, shape (T, H, W), uint8, person-centred. Frames
                in which either is empty are left out, and walks with fewer than 8 others.

        Raises:
            ValueError: No walk is left.
        """
        all_walks = [_frames(exact, spoilt) for exact, spoilt in walks]
        kept = [frames for frames in all_walks if len(frames) >= _FEWEST_FRAMES]
        if not kept:
            raise ValueError(
                f"walks: expected one with at least {_FEWEST_FRAMES} frames of both masks, got none"
            )
        return cls(**_outline(kept), **_lumps(kept), **_areas(kept), **_shape(kept))


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """One frame's errors; `count`, `total`, `squares` of outline pixels' offsets, each (B,)."""

    count: _Floats
    total: _Floats
    squares: _Floats
    missing: _Floats
    extra: _Floats
    area: float
    iou: float
    perimeter: float
    gaps: tuple[int, int]
    thin: tuple[int, int]
    hole: float
    top: float
    bottom: float
    height: int
    wrong: NDArray[np.bool_]
    missing_at: NDArray[np.bool_]
    extra_at: NDArray[np.bool_]


def _frames(exact: _Masks, spoilt: _Masks) -> list[_Frame]:
    both = exact.any(axis=(1, 2)) & spoilt.any(axis=(1, 2))
    return [_frame(a, b) for a, b in zip(exact[both] > 0, spoilt[both] > 0, strict=True)]


def _frame(exact: NDArray[np.bool_], spoilt: NDArray[np.bool_]) -> _Frame:
    top, bottom = _rows(exact)
    height = bottom - top
    band = ((np.arange(len(exact)) + 0.5 - top) / height * BANDS).clip(0, BANDS - 1).astype(int)
    beyond, beyond_spoilt = _distance(exact) / height, _distance(spoilt) / height
    depth = _distance(~exact) / height
    rim = _rim(spoilt) & (beyond < LUMP) & (depth < LUMP)
    offset = np.where(exact, 1 / height - depth, beyond)[rim]  # an exact rim is 1 px deep: 0
    of_rim = band[np.nonzero(rim)[0]]
    missing, extra = exact & (beyond_spoilt > LUMP), spoilt & (beyond > LUMP)
    narrow = _closing(exact, _NARROW * height) & ~exact
    thin = _closing(~exact, _NARROW * height) & exact
    spoilt_top, spoilt_bottom = _rows(spoilt)
    union = int((exact | spoilt).sum())
    return _Frame(
        count=np.bincount(of_rim, minlength=BANDS).astype(np.float64),
        total=np.bincount(of_rim, offset, BANDS).astype(np.float64),
        squares=np.bincount(of_rim, offset**2, BANDS).astype(np.float64),
        missing=np.bincount(band, missing.sum(axis=1), BANDS) / height**2,
        extra=np.bincount(band, extra.sum(axis=1), BANDS) / height**2,
        area=float(spoilt.sum() / exact.sum()),
        iou=float((exact & spoilt).sum() / union),
        perimeter=float(_rim(spoilt).sum() / _rim(exact).sum()),
        gaps=(int((narrow & spoilt).sum()), int(narrow.sum())),
        thin=(int((thin & ~spoilt).sum()), int(thin.sum())),
        hole=float((_holes(spoilt) & exact).sum() / height**2),
        top=(spoilt_top - top) / height,
        bottom=(spoilt_bottom - bottom) / height,
        height=height,
        wrong=(exact ^ spoilt) & ~missing & ~extra,
        missing_at=missing,
        extra_at=extra,
    )


def _outline(walks: list[list[_Frame]]) -> dict[str, Any]:
    frames = [frame for walk in walks for frame in walk]
    count = np.maximum(np.sum([frame.count for frame in frames], axis=0), 1)
    swell = np.sum([frame.total for frame in frames], axis=0) / count
    squares = np.sum([frame.squares for frame in frames], axis=0) / count
    return {"swell": swell, "jitter": np.sqrt(np.maximum(squares - swell**2, 0))}


def _lumps(walks: list[list[_Frame]]) -> dict[str, Any]:
    frames = [frame for walk in walks for frame in walk]
    found: dict[str, Any] = {}
    for name in ("missing", "extra"):
        areas = 1000 * np.stack([getattr(frame, name) for frame in frames])
        whole = areas.sum(axis=1)
        found[name] = areas.mean(axis=0)
        found[f"with_{name}"] = float((whole > 0).mean())
        found[f"{name}_area"] = float(whole[whole > 0].mean()) if whole.any() else 0.0
    return found


def _areas(walks: list[list[_Frame]]) -> dict[str, Any]:
    areas = [np.array([frame.area for frame in walk]) for walk in walks]
    overlaps = [np.array([frame.iou for frame in walk]) for walk in walks]
    return {
        "area_ratio": float(np.concatenate(areas).mean()),
        "area_flicker": float(np.median([np.diff(each).std() for each in areas])),
        "area_spread": float(np.std([np.median(each) for each in areas])),
        "iou": float(np.concatenate(overlaps).mean()),
        "iou_spread": float(np.std([np.median(each) for each in overlaps])),
        "iou_lowest": float(np.quantile(np.concatenate(overlaps), 0.05)),
    }


def _shape(walks: list[list[_Frame]]) -> dict[str, Any]:
    frames = [frame for walk in walks for frame in walk]
    filled, gaps = np.sum([frame.gaps for frame in frames], axis=0).tolist()
    lost, thin = np.sum([frame.thin for frame in frames], axis=0).tolist()
    return {
        "perimeter_ratio": float(np.mean([frame.perimeter for frame in frames])),
        "gaps_filled": filled / max(gaps, 1),
        "thin_lost": lost / max(thin, 1),
        "holes": float(np.mean([frame.hole > 2e-4 for frame in frames])),
        "top_off": float(np.std([frame.top for frame in frames])),
        "bottom_off": float(np.std([frame.bottom for frame in frames])),
        "same_error": _sameness(walks, "wrong", 1),
        "same_error_later": _sameness(walks, "wrong", _LATER),
        "same_missing": _sameness(walks, "missing_at", 1),
        "same_extra": _sameness(walks, "extra_at", 1),
        "fade": _fade(walks),
    }


def _fade(walks: list[list[_Frame]]) -> float:
    heights = np.log([np.mean([frame.height for frame in walk]) for walk in walks])
    errors = np.log([1.001 - np.mean([frame.iou for frame in walk]) for walk in walks])
    apart = heights - heights.mean()
    return float(-(apart @ errors) / max(apart @ apart, 1e-9))


def _sameness(walks: list[list[_Frame]], name: str, later: int) -> float:
    pairs = [
        (getattr(first, name), getattr(second, name))
        for walk in walks
        for first, second in zip(walk[:-later], walk[later:], strict=True)
    ]
    unions = np.array([(a | b).sum() for a, b in pairs])
    shared = np.array([(a & b).sum() for a, b in pairs])
    return float((shared / np.maximum(unions, 1)).sum() / max((unions > 0).sum(), 1))


def _rows(mask: NDArray[np.bool_]) -> tuple[int, int]:
    rows = np.flatnonzero(mask.any(axis=1))
    return int(rows[0]), int(rows[-1]) + 1


def _distance(mask: NDArray[np.bool_]) -> _Floats:
    """Return how many pixels each pixel is from the mask, 0 in it."""
    outside = (~mask).astype(np.uint8)
    return cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_5).astype(np.float64)


def _rim(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask's pixels with a side towards the outside."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(mask & ~inner)


def _closing(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    near = _distance(mask) <= radius
    return np.asarray(_distance(~near) > radius)


def _holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return what lies inside the mask without being part of it."""
    _, labels = cv2.connectedComponents(np.pad(~mask, 1, constant_values=True).astype(np.uint8))
    return np.asarray((labels[1:-1, 1:-1] != labels[0, 0]) & ~mask)
