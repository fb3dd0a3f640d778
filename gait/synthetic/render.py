"""Triangles to pixels: filled masks for silhouettes, shaded people for video.

Both cut every triangle into spans, the columns it covers in one row of pixel centres. A shared
edge is computed from the same two points in the same order on both its sides, so neighbours meet
without a gap, and each step is one rounded operation an element, so the pixels are the same on
every processor and every GPU.

Legend of the shape suffixes: T frames, V vertices, F faces, N faces that cross a row, S spans.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ON = 255
_FLAT = 1e-6  # an edge lower than this many pixels counts as this high; nothing divides by zero
_CPU_FACES, _GPU_FACES = 1 << 16, 1 << 22  # faces at once: what fits the cache, the memory
_SUB = 3  # samples a pixel and axis in `paint`; odd, so that the middle one is the pixel's centre
_DEPTH_LEVELS = 65535


def silhouettes(
    pixels: NDArray[np.float32] | Tensor,
    faces: NDArray[np.int32] | Tensor,
    size_hw: tuple[int, int],
    device: torch.device | str | None = None,
) -> NDArray[np.uint8]:
    """Return the filled mask of a mesh in each frame: what is covered by any of its triangles.

    A pixel is set when its centre lies in a triangle or on its edge. Triangles with a corner that
    has no pixel (NaN, behind the camera) are left out.

    Args:
        pixels: Vertices in pixels, shape (T, V, 2), from `Camera.project`.
        faces: Shape (F, 3), corners as indices of vertices, in any winding.
        size_hw: Height and width of the masks.
        device: Where to compute; None means where `pixels` lies, the CPU for an array.

    Returns:
        Shape (T, H, W), uint8, 0 or 255, on the CPU.

    Raises:
        ValueError: Another shape, or a size below 1.
    """
    at = torch.as_tensor(pixels, dtype=torch.float32, device=device)
    corners = torch.as_tensor(faces, dtype=torch.int64, device=at.device)
    _check(at, corners, size_hw)
    chunk = max(1, (_GPU_FACES if at.is_cuda else _CPU_FACES) // max(1, len(corners)))
    masks = [_filled(part, corners, size_hw).cpu() for part in torch.split(at, chunk)]
    return np.asarray(torch.cat(masks).numpy())


def paint(
    image: NDArray[np.uint8],
    pixels: NDArray[np.float32],
    depth: NDArray[np.float32],
    faces: NDArray[np.int32],
    colours: NDArray[np.uint8],
    *,
    light: NDArray[np.float32] | None = None,
) -> NDArray[np.bool_]:
    """Paint one person into an image, in place, with soft edges, and return the pixels covered.

    Paint people from far to near; a later mask then hides the earlier ones.

    Args:
        image: Shape (H, W, 3), uint8; changed.
        pixels: Vertices in pixels, shape (V, 2), from `Camera.project`.
        depth: Their depth in metres, shape (V,).
        faces: Shape (F, 3).
        colours: Of each face, shape (F, 3), uint8, in the image's channel order.
        light: Brightness of each vertex, shape (V,), 1 shows the colour as it is; from
            `brightness`. None shows all colours as they are.

    Returns:
        Shape (H, W), bool: the mask `silhouettes` gives for the same pixels.

    Raises:
        ValueError: Shapes that do not belong together.
    """
    _check_paint(image, pixels, depth, faces, colours, light)
    mask = np.zeros(image.shape[:2], dtype=np.bool_)
    patch = _patch(pixels, (image.shape[0], image.shape[1]))
    if patch is None:
        return mask
    left, top, right, bottom = patch
    local = (pixels - np.array([left, top], dtype=np.float32)) * np.float32(_SUB)
    size_hw = ((bottom - top) * _SUB, (right - left) * _SUB)
    spans = _spans(torch.from_numpy(local[None]), torch.from_numpy(faces).long(), size_hw)
    nearest = _nearest(spans, local, depth, faces, size_hw)
    covered = nearest.index >= 0
    shown = _shaded(nearest, local, faces, colours, light)
    window = (slice(top, bottom), slice(left, right))
    image[window] = _blended(image[window], covered, shown)
    mask[window] = covered[_SUB // 2 :: _SUB, _SUB // 2 :: _SUB]
    return mask


def brightness(
    vertices: NDArray[np.float32],
    faces: NDArray[np.int32],
    towards_light: tuple[float, float, float],
    ambient: float = 0.55,
) -> NDArray[np.float32]:
    """Return how bright each vertex of a smooth mesh is under one far light (Lambert's law).

    Args:
        vertices: Shape (V, 3), metres.
        faces: Shape (F, 3), anticlockwise seen from outside.
        towards_light: Direction from the person to the light.
        ambient: Brightness of what the light does not reach, 0..1. Lower models the body more
            strongly, at the price of black shadows.

    Returns:
        Shape (V,), float32, from `ambient` to 1.
    """
    corner = vertices[faces]
    of_face = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])  # length: 2 areas
    normal = np.stack(
        [
            np.bincount(faces.ravel(), np.repeat(of_face[:, axis], 3), len(vertices))
            for axis in range(3)
        ],
        axis=-1,
    )
    light = np.asarray(towards_light, dtype=np.float64)
    length = np.linalg.norm(normal, axis=-1) * np.linalg.norm(light)
    cosine = (normal @ light) / np.maximum(length, 1e-12)
    return np.asarray(ambient + (1 - ambient) * cosine.clip(0, 1), dtype=np.float32)


def shadow(
    vertices: NDArray[np.float32], towards_light: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Return the vertices pushed along the light onto the ground: project them and fill them.

    Args:
        vertices: Shape (..., 3), metres, the ground at z = 0.
        towards_light: Direction to the light, above the horizon.

    Raises:
        ValueError: The light is not above the horizon.
    """
    x, y, z = towards_light
    if z <= 0:
        raise ValueError(f"towards_light: expected a light above the horizon, got z = {z}")
    onto = np.array([[1, 0, 0], [0, 1, 0], [-x / z, -y / z, 0]], dtype=np.float32)
    return np.asarray(vertices @ onto, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class _Spans:
    """What triangles cover, row by row. All of shape (S,)."""

    frame: Tensor
    face: Tensor
    row: Tensor
    first: Tensor  # column; may be the image's width, then the span is empty
    beyond: Tensor  # column after the last; never below `first`


def _filled(pixels_TV2: Tensor, faces_F3: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Return (T, H, W) uint8: how many spans have begun and not ended, at each pixel."""
    height, width = size_hw
    spans = _spans(pixels_TV2, faces_F3, size_hw)
    line = (spans.frame * height + spans.row) * (width + 1)
    bins = len(pixels_TV2) * height * (width + 1)
    begun = torch.bincount(line + spans.first, minlength=bins)
    ended = torch.bincount(line + spans.beyond, minlength=bins)
    change = (begun - ended).view(-1, height, width + 1)[..., :width]
    return (change.to(torch.int16).cumsum(-1, dtype=torch.int16) > 0).to(torch.uint8) * _ON


def _spans(pixels_TV2: Tensor, faces_F3: Tensor, size_hw: tuple[int, int]) -> _Spans:
    """Return the spans of all triangles that cover a row's pixel centres, in order of the faces."""
    height, width = size_hw
    y_TF3 = pixels_TV2[..., 1][:, faces_F3]
    low, high = (y_TF3.amin(-1) - 0.5).ceil(), (y_TF3.amax(-1) - 0.5).floor()
    low, high = low.clamp(0, height), high.clamp(-1, height - 1)
    x_sum = pixels_TV2[..., 0][:, faces_F3].sum(-1)
    frame, face = torch.nonzero((high >= low) & x_sum.isfinite(), as_tuple=True)  # NaN is never >=
    first_row = low[frame, face].long()
    rows = high[frame, face].long() - first_row + 1
    x_N3, y_N3 = _sorted_down(pixels_TV2[frame[:, None], faces_F3[face]])
    of_span = torch.repeat_interleave(rows)
    begins = rows.cumsum(0) - rows
    row = torch.arange(len(of_span), device=rows.device) - (begins - first_row)[of_span]
    left, right = _crossings(x_N3, y_N3, of_span, row + 0.5)
    first = (left - 0.5).ceil().clamp(0, width).long()
    beyond = (right + 0.5).floor().clamp(0, width).long()
    return _Spans(frame[of_span], face[of_span], row, first, torch.maximum(first, beyond))


def _sorted_down(corners_N32: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return x and y of each triangle's three corners, the highest first."""
    xs, ys = list(corners_N32[..., 0].unbind(-1)), list(corners_N32[..., 1].unbind(-1))
    for upper, lower in ((0, 1), (1, 2), (0, 1)):
        swap = ys[upper] > ys[lower]
        for values in (xs, ys):
            a, b = values[upper], values[lower]
            values[upper], values[lower] = torch.where(swap, b, a), torch.where(swap, a, b)
    return xs, ys


def _crossings(
    xs: list[Tensor], ys: list[Tensor], of_span: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """Return where the row at height `y` enters and leaves each span's triangle."""

    def slope(upper: int, lower: int) -> Tensor:
        return (xs[lower] - xs[upper]) / (ys[lower] - ys[upper]).clamp(min=_FLAT)

    above = y < ys[1][of_span]
    bent = torch.where(above, slope(0, 1)[of_span], slope(1, 2)[of_span])
    from_x = torch.where(above, xs[0][of_span], xs[1][of_span])
    from_y = torch.where(above, ys[0][of_span], ys[1][of_span])
    short = from_x + (y - from_y) * bent
    long = xs[0][of_span] + (y - ys[0][of_span]) * slope(0, 2)[of_span]
    return torch.minimum(short, long), torch.maximum(short, long)


@dataclass(frozen=True, slots=True)
class _Nearest:
    """The front of a person, at samples (h, w).

    Attributes:
        index: Into the arrays below, shape (h, w), -1 where nobody is.
        face: Face of each fragment.
        x: Its sample's centre.
        y: Its sample's centre.
    """

    index: NDArray[np.int64]
    face: NDArray[np.int64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]


class _Plane:
    """A quantity that is linear over each triangle of the image: 1 / depth, or brightness."""

    def __init__(self, pixels: NDArray[np.float32], values: NDArray[np.float64]) -> None:
        """Args: corners (F, 3, 2) and their values (F, 3)."""
        a, b, c = (pixels[:, k].astype(np.float64) for k in range(3))
        (bx, by), (cx, cy) = (b - a).T, (c - a).T
        area = bx * cy - by * cx
        area = np.where(np.abs(area) < _FLAT, np.inf, area)  # seen edge on: level
        db, dc = values[:, 1] - values[:, 0], values[:, 2] - values[:, 0]
        self._x, self._y = (db * cy - dc * by) / area, (dc * bx - db * cx) / area
        self._at = values[:, 0] - self._x * a[:, 0] - self._y * a[:, 1]
        self._low, self._high = values.min(axis=1), values.max(axis=1)

    def at(
        self, face: NDArray[np.int64], x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the value at points of faces, never beyond the values of the face's corners."""
        value = self._x[face] * x + self._y[face] * y + self._at[face]
        return np.asarray(np.clip(value, self._low[face], self._high[face]))


def _nearest(
    spans: _Spans,
    pixels: NDArray[np.float32],
    depth: NDArray[np.float32],
    faces: NDArray[np.int32],
    size_hw: tuple[int, int],
) -> _Nearest:
    first, length = spans.first.numpy(), (spans.beyond - spans.first).numpy()
    of_span = np.repeat(np.arange(len(first)), length)
    column = np.arange(len(of_span)) - (np.cumsum(length) - length - first)[of_span]
    row, face = spans.row.numpy()[of_span], spans.face.numpy()[of_span]
    x, y = column + 0.5, row + 0.5
    nearness = 1.0 / depth.astype(np.float64)  # this, not depth, is linear in the image
    at = _Plane(pixels[faces], nearness[faces]).at(face, x, y)
    index = np.full(size_hw, -1, dtype=np.int64)
    if len(at):
        levels = (at - at.min()) * (_DEPTH_LEVELS / max(np.ptp(at), 1e-12))
        far_first = np.argsort(levels.astype(np.uint16), kind="stable")  # 16 bits: a radix sort
        index[row[far_first], column[far_first]] = far_first  # of equal places the last one stays
    return _Nearest(index, face, x, y)


def _shaded(
    nearest: _Nearest,
    pixels: NDArray[np.float32],
    faces: NDArray[np.int32],
    colours: NDArray[np.uint8],
    light: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    """Return the colour of each sample, (h, w, 3), black where nobody is."""
    seen = nearest.index >= 0
    front = nearest.index[seen]
    face = nearest.face[front]
    shown = np.zeros((*seen.shape, 3), dtype=np.float32)
    colour = colours[face].astype(np.float32)
    if light is not None:
        plane = _Plane(pixels[faces], light.astype(np.float64)[faces])
        colour *= plane.at(face, nearest.x[front], nearest.y[front]).astype(np.float32)[:, None]
    shown[seen] = colour
    return shown


def _blended(
    behind: NDArray[np.uint8], covered: NDArray[np.bool_], shown: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Return the background (h, w, 3) with the samples' mean colour over it."""
    height, width = behind.shape[:2]
    grid = (height, _SUB, width, _SUB)
    share = covered.reshape(grid).mean(axis=(1, 3), dtype=np.float32)[..., None]
    colour = shown.reshape(*grid, 3).mean(axis=(1, 3))
    return np.asarray(np.rint(behind * (1 - share) + colour).clip(0, _ON), dtype=np.uint8)


def _patch(
    pixels: NDArray[np.float32], size_hw: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """Return left, top, right and bottom of the part of the image a person may cover."""
    seen = pixels[np.isfinite(pixels).all(axis=1)]
    if len(seen) == 0:
        return None
    limit = (size_hw[1], size_hw[0])
    left, top = np.floor(seen.min(axis=0)).clip(0, limit).astype(int).tolist()
    right, bottom = np.ceil(seen.max(axis=0)).clip(0, limit).astype(int).tolist()
    return (left, top, right, bottom) if right > left and bottom > top else None


def _check(pixels: Tensor, faces: Tensor, size_hw: tuple[int, int]) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 2:
        raise ValueError(f"pixels: expected shape (T, V, 2), got {tuple(pixels.shape)}")
    _check_faces(tuple(faces.shape), int(faces.max()) if faces.numel() else -1, pixels.shape[1])
    if min(size_hw) < 1:
        raise ValueError(f"size_hw: expected at least 1x1 pixels, got {size_hw}")


def _check_faces(shape: tuple[int, ...], highest: int, vertices: int) -> None:
    if len(shape) != 2 or shape[1] != 3:
        raise ValueError(f"faces: expected shape (F, 3), got {shape}")
    if highest >= vertices:
        raise ValueError(f"faces: expected indices of {vertices} vertices, got {highest}")


def _check_paint(
    image: NDArray[np.uint8],
    pixels: NDArray[np.float32],
    depth: NDArray[np.float32],
    faces: NDArray[np.int32],
    colours: NDArray[np.uint8],
    light: NDArray[np.float32] | None,
) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"image: expected uint8 of shape (H, W, 3), got {image.dtype} of shape {image.shape}"
        )
    count = len(pixels)
    _check_faces(faces.shape, int(faces.max(initial=-1)), count)
    expected = {"pixels": (count, 2), "depth": (count,), "colours": faces.shape}
    got = {"pixels": pixels.shape, "depth": depth.shape, "colours": colours.shape}
    if light is not None:
        expected["light"], got["light"] = (count,), light.shape
    for name, shape in expected.items():
        if got[name] != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {got[name]}")
