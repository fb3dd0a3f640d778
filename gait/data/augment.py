"""Augmentation of silhouettes, batched on whatever device they are on (spec b.3).

In this order, each with a probability of its own and one draw for all frames of a sequence:
perspective (before the cut), cut to 64x44 and grey levels to 0..1, mirror, rotation. The draws are
made on the host from a numpy generator; only a few numbers a sequence go to the device.

Both warps sample bilinearly, zero beyond the borders, at positions rounded to 1/32 pixel as OpenCV
rounds them, so they equal the release's: perspective grey level for grey level (it rounds to whole
levels), rotation to float32 rounding (1e-6).

Legend of the shape suffixes: N sequences, T frames, H, W, D 3 (homogeneous coordinates).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch.nn import functional

from gait.silhouette import cut
from gait.strict import StrictModel

_GREY_LEVELS = 255
_SUBPIXELS = 32  # OpenCV rounds positions to 1/32 pixel
_AFFINE_STEPS = 1024  # and, of affine maps, the terms in x and y to 1/1024 before that


class AugmentConfig(StrictModel):
    """How often and how far sequences are changed.

    Attributes:
        perspective: Probability of a perspective change. Higher prepares for more camera angles,
            at the price of fewer true silhouettes; the same holds for the other two.
        mirror: Probability of swapping left and right.
        rotation: Probability of a rotation.
        max_degrees: Largest angle of a rotation, either way. Higher prepares for more tilted
            cameras, at the price of walkers who lean as none does.
        pivot: What a rotation turns about, for 64x44: `release` is (x 32, y 22), right of the
            person and above the centre, because the release swaps the two; `centre` is the
            centre, (x 22, y 32).
    """

    perspective: float = Field(default=0.2, ge=0, le=1)
    mirror: float = Field(default=0.2, ge=0, le=1)
    rotation: float = Field(default=0.2, ge=0, le=1)
    max_degrees: float = Field(default=10.0, ge=0, le=180)
    pivot: Literal["release", "centre"] = "release"

    def build(self) -> Augmentation:
        """Return the augmentation."""
        return Augmentation(self)


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """What happens to each of N sequences.

    Attributes:
        perspective: Shape (N,), bool.
        corners: Shape (N, 4), x in pixels of the top left, top right, bottom left and bottom right
            corner of what is stretched to the whole frame; read where `perspective` holds.
        mirror: Shape (N,), bool.
        rotation: Shape (N,), bool.
        degrees: Shape (N,), counter-clockwise; read where `rotation` holds.
    """

    perspective: NDArray[np.bool_]
    corners: NDArray[np.int64]
    mirror: NDArray[np.bool_]
    rotation: NDArray[np.bool_]
    degrees: NDArray[np.float64]

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self.mirror)


class Augmentation:
    """Changes sequences at random; the same generator state gives the same result."""

    def __init__(self, config: AugmentConfig) -> None:
        """Make the augmentation; the settings are explained at `AugmentConfig`."""
        self.config = config

    def __call__(
        self, silhouettes_NTHW: torch.Tensor, rng: np.random.Generator | Draws
    ) -> torch.Tensor:
        """Return silhouettes as the network reads them, some of the sequences changed.

        Args:
            silhouettes_NTHW: Shape (N, T, 64, 64) or, already cut, (N, T, 64, 44), uint8 in
                0..255, on any device. Not changed.
            rng: Where the draws come from, or the draws.

        Returns:
            Shape (N, T, 64, 44), float32 in 0..1, on the same device.

        Raises:
            ValueError: The tensor is not 4-dimensional uint8, or the draws are of another number
                of sequences.
            SilhouetteError: The frames have another size.
        """
        if silhouettes_NTHW.ndim != 4 or silhouettes_NTHW.dtype != torch.uint8:
            raise ValueError(
                "silhouettes: expected uint8 of shape (N, T, 64, 64) or (N, T, 64, 44), "
                f"got {silhouettes_NTHW.dtype} of shape {tuple(silhouettes_NTHW.shape)}"
            )
        num_sequences, width = silhouettes_NTHW.shape[0], silhouettes_NTHW.shape[3]
        draws = rng if isinstance(rng, Draws) else self.draw(num_sequences, width, rng)
        if len(draws) != num_sequences:
            raise ValueError(f"draws: expected {num_sequences}, one a sequence, got {len(draws)}")
        with torch.no_grad():
            return self._apply(silhouettes_NTHW, draws)

    def draw(self, num_sequences: int, width: int, rng: np.random.Generator) -> Draws:
        """Return what happens to sequences of that width before the cut.

        As much is drawn for a sequence that stays as it is, so that one probability can be
        changed without changing the other draws.
        """
        margin = 10 * (width // 44)
        far = np.array([0, width - margin, 0, width - margin])
        return Draws(
            perspective=rng.random(num_sequences) < self.config.perspective,
            corners=far + rng.integers(margin, size=(num_sequences, 4)),
            mirror=rng.random(num_sequences) < self.config.mirror,
            rotation=rng.random(num_sequences) < self.config.rotation,
            degrees=rng.uniform(-1, 1, num_sequences) * self.config.max_degrees,
        )

    def _apply(self, silhouettes_NTHW: torch.Tensor, draws: Draws) -> torch.Tensor:
        columns = _kept_columns(silhouettes_NTHW)
        out_NTHW = silhouettes_NTHW[..., columns].to(torch.float32, copy=True)
        device = out_NTHW.device
        if draws.perspective.any():
            rows = _rows(draws.perspective, device)
            corners = draws.corners[draws.perspective]
            warped_NTHW = stretch(silhouettes_NTHW[rows].float(), corners)
            out_NTHW[rows] = warped_NTHW[..., columns]
        # a tensor, because some devices divide by a plain number inexactly
        out_NTHW /= torch.tensor(_GREY_LEVELS, dtype=torch.float32, device=device)
        if draws.mirror.any():
            rows = _rows(draws.mirror, device)
            out_NTHW[rows] = out_NTHW[rows].flip(-1)
        if draws.rotation.any():
            rows = _rows(draws.rotation, device)
            degrees = draws.degrees[draws.rotation]
            out_NTHW[rows] = rotate(out_NTHW[rows], degrees, self._pivot_xy(out_NTHW.shape[2:]))
        return out_NTHW

    def _pivot_xy(self, size_hw: torch.Size) -> tuple[int, int]:
        middle_y, middle_x = size_hw[0] // 2, size_hw[1] // 2
        return (middle_y, middle_x) if self.config.pivot == "release" else (middle_x, middle_y)


def stretch(images_NTHW: torch.Tensor, corners: NDArray[np.int64]) -> torch.Tensor:
    """Return images in which four points of the top and bottom border became the corners.

    Args:
        images_NTHW: Grey levels 0..255 as float32.
        corners: Shape (N, 4), x in pixels of the point for each corner; see `Draws`. Those at the
            bottom lie on the line y = H, just below the last row.

    Returns:
        The same shape, whole grey levels as float32.
    """
    back_NDD = _on_device(
        [_stretch_back(each, images_NTHW.shape[2:]) for each in corners], images_NTHW
    )
    y_HW, x_HW = _grid(images_NTHW)
    x_NHW, y_NHW, w_NHW = (
        row_ND11[:, 1] * y_HW + row_ND11[:, 2] + row_ND11[:, 0] * x_HW
        for row_ND11 in back_NDD[..., None, None].unbind(dim=1)
    )
    per_w_NHW = _SUBPIXELS / w_NHW
    x_NHW, y_NHW = (torch.round(each * per_w_NHW).to(torch.int64) for each in (x_NHW, y_NHW))
    return torch.floor(_sample(images_NTHW, x_NHW, y_NHW) + 0.5)


def rotate(
    images_NTHW: torch.Tensor, degrees: NDArray[np.float64], pivot_xy: tuple[float, float]
) -> torch.Tensor:
    """Return images turned counter-clockwise, each sequence by its angle, about one point.

    Args:
        images_NTHW: float32.
        degrees: Shape (N,).
        pivot_xy: The point that stays, in pixels.

    Returns:
        The same shape, float32.
    """
    back_NDD = _on_device([_turn_back(each, pivot_xy) for each in degrees], images_NTHW)
    y_HW, x_HW = _grid(images_NTHW)
    x_NHW, y_NHW = (
        _affine_steps(row_ND11[:, 0] * x_HW) + _affine_steps(row_ND11[:, 1] * y_HW + row_ND11[:, 2])
        for row_ND11 in back_NDD[..., None, None].unbind(dim=1)
    )
    step = _AFFINE_STEPS // _SUBPIXELS
    x_NHW, y_NHW = ((each + step // 2).div(step, rounding_mode="floor") for each in (x_NHW, y_NHW))
    return _sample(images_NTHW, x_NHW, y_NHW)


def _stretch_back(corners: NDArray[np.int64], size_hw: torch.Size) -> NDArray[np.float64]:
    """Return the plane map (3, 3) from the frame to the four points; OpenCV's to the last bit."""
    height, width = size_hw
    top_left, top_right, bottom_left, bottom_right = corners.tolist()
    points = [[top_left, 0], [top_right, 0], [bottom_right, height], [bottom_left, height]]
    frame = [[0, 0], [width, 0], [width, height], [0, height]]
    forth = cv2.getPerspectiveTransform(np.array(points, np.float32), np.array(frame, np.float32))
    return np.asarray(cv2.invert(forth)[1], np.float64)


def _turn_back(degrees: float, pivot_xy: tuple[float, float]) -> NDArray[np.float64]:
    """Return the affine map (2, 3) that undoes the rotation; OpenCV's to the last bit."""
    forth = cv2.getRotationMatrix2D(pivot_xy, float(degrees), 1)
    return np.asarray(cv2.invertAffineTransform(forth), np.float64)


def _on_device(maps: list[NDArray[np.float64]], like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.stack(maps)).to(like.device)


def _sample(images_NTHW: torch.Tensor, x_NHW: torch.Tensor, y_NHW: torch.Tensor) -> torch.Tensor:
    """Return each sequence's frames at positions in 1/32 pixel, bilinearly, zero outside."""
    num, _, height, width = images_NTHW.shape
    x_weights, x_taps = _taps(x_NHW, width)
    y_weights, y_taps = _taps(y_NHW, height)
    first_N111 = torch.arange(num, device=x_NHW.device)[:, None, None, None] * (height * width)
    taps = [first_N111 + y[..., None] * width + x_taps for y in y_taps.unbind(dim=-1)]
    weights = [y[..., None] * x_weights for y in y_weights.unbind(dim=-1)]
    # a pixel of all frames is one row of a table, a result the weighted sum of four rows
    sampled = functional.embedding_bag(
        torch.cat(taps, dim=-1).reshape(-1, 4),
        images_NTHW.movedim(1, -1).reshape(num * height * width, -1),
        per_sample_weights=torch.cat(weights, dim=-1).reshape(-1, 4).to(images_NTHW.dtype),
        mode="sum",
    )
    return sampled.reshape(num, height, width, -1).movedim(-1, 1)


def _taps(position: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights and indices, each (..., 2), of the pixels around positions of 1/32 pixel."""
    first = position.div(_SUBPIXELS, rounding_mode="floor")
    part = position - first * _SUBPIXELS
    taps = torch.stack([first, first + 1], dim=-1)
    weights = torch.stack([_SUBPIXELS - part, part], dim=-1) / _SUBPIXELS
    inside = (taps >= 0) & (taps < size)
    return weights * inside, taps.clamp(0, size - 1)


def _affine_steps(position: torch.Tensor) -> torch.Tensor:
    return torch.round(position * _AFFINE_STEPS).to(torch.int64)


def _grid(images_NTHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return y (H, 1) and x (1, W) of the pixels, float64: 1/32 pixel is at stake."""
    height, width = images_NTHW.shape[2:]
    y, x = (
        torch.arange(size, dtype=torch.float64, device=images_NTHW.device)
        for size in (height, width)
    )
    return y[:, None], x[None, :]


def _kept_columns(silhouettes_NTHW: torch.Tensor) -> slice:
    """Return the columns that `gait.silhouette.cut` keeps."""
    height, width = silhouettes_NTHW.shape[2:]
    kept = cut(np.empty((0, height, width), np.uint8)).shape[2]
    return slice((width - kept) // 2, (width + kept) // 2)


def _rows(chosen: NDArray[np.bool_], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.flatnonzero(chosen)).to(device)
