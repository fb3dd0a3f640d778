"""Masks of a mesh from the few edges at which it turns away.

Turn every projected triangle the same way round and add up how often each pixel is inside one. In
that sum the two sides of an edge between triangles that face alike cancel, and only the outline's
edges are left: about one in fifteen. They are filled row by row. Nothing is assumed of the mesh:
one with holes or triangles wound at random only has more such edges.

Legend of the shape suffixes: T frames, V vertices, F faces, E edges, N edges of an outline.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ON = 255


class Outline:
    """The edges of a mesh, ready to fill it as often as one likes.

    Args:
        faces: Shape (F, 3), corners as indices of vertices, in any winding.
        device: Where to compute.
    """

    def __init__(self, faces: NDArray[np.int32], device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        corners = faces.astype(np.int64)
        self._faces = torch.from_numpy(corners).to(self._device)
        ends, sides = _paired(corners)
        self._ends = torch.from_numpy(ends).to(self._device)
        self._sides = torch.from_numpy(sides).to(self._device)

    def fill(self, pixels: NDArray[np.float32], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
        """Return what is covered by any triangle.

        A pixel is set when its centre lies in a triangle. Triangles with a corner that has no pixel
        (NaN) are left out.

        Args:
            pixels: Vertices in pixels, shape (T, V, 2).
            size_hw: Height and width of the masks.

        Returns:
            Shape (T, H, W), uint8, 0 or 255, the same on every device.
        """
        x_TV, y_TV = torch.from_numpy(pixels).to(self._device).unbind(-1)
        frame, edge, weight = self._outline(x_TV, y_TV)
        start, end = self._ends[:, edge]
        x0, y0, x1, y1 = x_TV[frame, start], y_TV[frame, start], x_TV[frame, end], y_TV[frame, end]
        is_up = y0 > y1
        (x0, x1), (y0, y1) = _swapped(is_up, x0, x1), _swapped(is_up, y0, y1)
        weight = torch.where(is_up, -weight, weight)
        height, width = size_hw
        row = (y0 - 0.5).ceil().clamp(0, height)
        count = ((y1 - 0.5).ceil().clamp(0, height) - row).long()
        of = torch.repeat_interleave(count)
        row = (
            row.long()[of] + torch.arange(len(of), device=of.device) - (count.cumsum(0) - count)[of]
        )
        slope = (x1 - x0) / (y1 - y0).clamp(min=1e-6)
        x = x0[of] + (row + 0.5 - y0[of]) * slope[of]
        column = (x - 0.5).ceil().clamp(0, width).long()
        change = torch.zeros(
            len(pixels) * height * (width + 1), dtype=torch.int32, device=of.device
        )
        change.index_add_(0, (frame[of] * height + row) * (width + 1) + column, weight[of])
        layers = change.view(-1, height, width + 1)[..., :width].cumsum(-1, dtype=torch.int32)
        masks: NDArray[np.uint8] = ((layers != 0).to(torch.uint8) * _ON).cpu().numpy()
        return masks

    def _outline(self, x_TV: Tensor, y_TV: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return frame, edge and layers gained (N,) of the edges that do not cancel."""
        a, b, c = self._faces.unbind(1)
        x, y = x_TV[:, a], y_TV[:, a]
        area = (x_TV[:, b] - x) * (y_TV[:, c] - y) - (y_TV[:, b] - y) * (x_TV[:, c] - x)
        turn_TF = (area > 0).to(torch.int8) - (area < 0).to(torch.int8)  # NaN is neither
        turn_TF = torch.nn.functional.pad(turn_TF, (0, 1))  # the face beyond an open edge
        one, other, alike = self._sides
        weight_TE = turn_TF[:, one] + turn_TF[:, other] * alike.to(torch.int8)
        frame, edge = torch.nonzero(weight_TE, as_tuple=True)
        return frame, edge, weight_TE[frame, edge].to(torch.int32)


def _paired(corners: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return both ends (2, E) of each edge; and its two faces and how they run along it (3, E).

    The first face runs from the first end to the second; the last row is 1 if the second face does
    too, else -1. An edge of one face has F as its second; one of three faces is there twice.
    """
    num = len(corners)
    start = corners.reshape(-1)
    end = np.roll(corners, -1, axis=1).reshape(-1)
    low, high = np.minimum(start, end), np.maximum(start, end)
    order = np.lexsort((high, low))
    low, high = low[order], high[order]
    face, along = order // 3, np.where(start[order] < end[order], 1, -1)
    begins = np.append(True, (np.diff(low) != 0) | (np.diff(high) != 0))
    within = np.arange(len(order)) - np.flatnonzero(begins)[np.cumsum(begins) - 1]
    one = np.flatnonzero(within % 2 == 0)
    has_other = np.append(~begins[1:], False)[one]
    other = np.where(has_other, face[np.minimum(one + 1, len(order) - 1)], num)
    alike = np.where(has_other, along[one] * along[np.minimum(one + 1, len(order) - 1)], 1)
    ends = np.stack([start[order][one], end[order][one]])
    return ends, np.stack([face[one], other, alike])


def _swapped(swap: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return torch.where(swap, b, a), torch.where(swap, a, b)
