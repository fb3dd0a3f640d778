"""What a mask must satisfy before it may become a silhouette.

A segmentation network answers whatever box it is given. Where two people were boxed as one, or
nobody at all, its answer is a wild shape; these guards cut it back or drop it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gait.strict import StrictModel
from trackers.boxes import Mask


class MaskGuards(StrictModel):
    """Limits for a mask, relative to its box.

    Attributes:
        padding: How far beyond the box the person may reach, in box heights. Higher keeps hands
            and feet the box cut off, at the price of pieces of neighbours.
        min_area: Smallest share of the box's area. Higher drops half-hidden people.
        max_area: Largest share. Lower drops masks that spilled over the background, and with them
            people in wide coats.
        min_height: Smallest height in box heights. Higher drops people of whom only a part was
            found.
        max_aspect: Largest width over height. Lower drops merged people and people with
            outstretched arms.
        min_box_px: Boxes that are not this high give no mask.
    """

    padding: float = Field(default=0.08, ge=0, le=1)
    min_area: float = Field(default=0.12, ge=0, le=1)
    max_area: float = Field(default=0.9, gt=0, le=4)
    min_height: float = Field(default=0.6, ge=0, le=1)
    max_aspect: float = Field(default=1.1, gt=0)
    min_box_px: float = Field(default=16.0, ge=1)


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of whole pixels of a frame; `right` and `bottom` lie outside it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.right - self.left, self.bottom - self.top


def padded_region(
    xyxy: NDArray[np.float32], frame_hw: tuple[int, int], guards: MaskGuards
) -> Region | None:
    """Return the part of the frame a box's mask may cover, None when the box is too small."""
    xyxy = np.clip(xyxy, 0, [frame_hw[1], frame_hw[0]] * 2)
    height = float(xyxy[3] - xyxy[1])
    if height < guards.min_box_px or xyxy[2] - xyxy[0] < 1:
        return None
    low = np.floor(xyxy[:2] - guards.padding * height).clip(0).astype(int).tolist()
    high = np.ceil(xyxy[2:] + guards.padding * height).astype(int).tolist()
    return Region(low[0], low[1], min(high[0], frame_hw[1]), min(high[1], frame_hw[0]))


def guarded(
    pixels: NDArray[np.bool_], region: Region, xyxy: NDArray[np.float32], guards: MaskGuards
) -> Mask | None:
    """Return the person of a box out of a region's pixels, None when it does not look like one.

    Args:
        pixels: Shape of the region, which of its pixels the network called person.
        region: Where they lie, from `padded_region`.
        xyxy: Shape (4,), the box in the frame.
        guards: The limits.
    """
    kept = _component_of_box(pixels, region, xyxy)
    if kept is None:
        return None
    visible = np.clip(xyxy, 0, [region.right, region.bottom] * 2)
    box_w, box_h = (visible[2:] - visible[:2]).tolist()
    rows, columns = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
    height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
    share = int(kept.sum()) / (box_w * box_h)
    if not guards.min_area <= share <= guards.max_area:
        return None
    if height < guards.min_height * box_h or width > guards.max_aspect * height:
        return None
    cut = kept[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Mask(np.ascontiguousarray(cut), region.left + int(columns[0]), region.top + int(rows[0]))


def _component_of_box(
    pixels: NDArray[np.bool_], region: Region, xyxy: NDArray[np.float32]
) -> NDArray[np.bool_] | None:
    """Return the connected component with most pixels in the box's middle half."""
    count, labels = cv2.connectedComponents(pixels.astype(np.uint8), connectivity=8)
    quarter = (xyxy[2] - xyxy[0]) / 4
    left = max(int(xyxy[0] + quarter) - region.left, 0)
    right = max(int(np.ceil(xyxy[2] - quarter)) - region.left, left + 1)
    sizes = np.bincount(labels[:, left:right].ravel(), minlength=count)
    sizes[0] = 0  # the background
    best = int(sizes.argmax())
    return None if sizes[best] == 0 else np.asarray(labels == best)
