"""Patterns of the ground, the walls and the leaves of a place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gait.synthetic.place import Colour, Paving, Place

Plane = NDArray[np.float32]

_TABLE = 256
_SLAB_M = 0.6
_BRICK_M = (0.4, 0.2)
_JOINT_M = 0.018
_GRASS_M = 1.4  # strip along the walls
_GRASS: Colour = (0.22, 0.42, 0.33)
_PAINT: Colour = (0.80, 0.84, 0.84)
_WINDOW_EVERY_M, _STOREY_M = 3.1, 3.0
_GLASS: Colour = (0.36, 0.30, 0.24)
_FRAME: Colour = (0.78, 0.80, 0.80)


class Texture:
    """Random patterns that are the same for every camera that looks at a place."""

    def __init__(self, seed: int) -> None:
        self._table = np.random.default_rng(seed).random((_TABLE, _TABLE), dtype=np.float32)

    def smooth(self, x: Plane, y: Plane) -> Plane:
        """Return noise of -1..1 whose grain is about 1 in the units of `x` and `y`."""
        x0, y0 = np.floor(x), np.floor(y)
        i, j = x0.astype(np.int64), y0.astype(np.int64)
        fx, fy = x - x0, y - y0
        fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
        low = self._at(i, j) * (1 - fx) + self._at(i + 1, j) * fx
        high = self._at(i, j + 1) * (1 - fx) + self._at(i + 1, j + 1) * fx
        return np.asarray(2 * (low * (1 - fy) + high * fy) - 1, dtype=np.float32)

    def each(self, i: Plane, j: Plane) -> Plane:
        """Return a value of -1..1 for each pair of whole numbers."""
        return 2 * self._at(i.astype(np.int64), j.astype(np.int64)) - 1

    def _at(self, i: NDArray[np.int64], j: NDArray[np.int64]) -> Plane:
        return np.asarray(self._table[i % _TABLE, j % _TABLE])


def ground_colour(place: Place, texture: Texture, x: Plane, y: Plane) -> Plane:
    """Return the colour of the ground at each point, shape (..., 3), before light."""
    pattern = {
        Paving.SLABS: _slabs,
        Paving.BRICKS: _bricks,
        Paving.ASPHALT: _asphalt,
    }[place.paving](texture, x, y)
    stains = 0.05 * texture.smooth(x / 2.3, y / 2.3) + 0.03 * texture.smooth(x * 1.7, y * 1.7)
    colours = np.array(place.ground, dtype=np.float32) * (1 + pattern + stains)[..., None]
    if place.paving is Paving.ASPHALT:
        colours = _with_lines(place, texture, x, y, colours)
    return _with_grass(place, texture, x, y, colours)


def _slabs(texture: Texture, x: Plane, y: Plane) -> Plane:
    i, j = np.floor(x / _SLAB_M), np.floor(y / _SLAB_M)
    joint = _is_joint(x - i * _SLAB_M, _SLAB_M) | _is_joint(y - j * _SLAB_M, _SLAB_M)
    return np.asarray(0.05 * texture.each(i, j) - 0.22 * joint, dtype=np.float32)


def _bricks(texture: Texture, x: Plane, y: Plane) -> Plane:
    length, width = _BRICK_M
    j = np.floor(y / width)
    shifted = x + (j % 2) * (length / 2)
    i = np.floor(shifted / length)
    joint = _is_joint(shifted - i * length, length) | _is_joint(y - j * width, width)
    return np.asarray(0.08 * texture.each(i, j) - 0.2 * joint, dtype=np.float32)


def _asphalt(texture: Texture, x: Plane, y: Plane) -> Plane:
    grain = 0.07 * texture.smooth(x * 31, y * 31) + 0.05 * texture.smooth(x * 9, y * 9)
    return np.asarray(grain, dtype=np.float32)


def _is_joint(within: Plane, side: float) -> NDArray[np.bool_]:
    return np.asarray((within < _JOINT_M / 2) | (within > side - _JOINT_M / 2))


def _with_lines(place: Place, texture: Texture, x: Plane, y: Plane, colours: Plane) -> Plane:
    """Worn parking lines."""
    across, along = (x - place.x) % 2.6, np.abs(y - place.y - 9.0)
    painted = (across < 0.1) & (along < 2.4) & (texture.smooth(x * 8, y * 8) > -0.55)
    return np.where(painted[..., None], np.array(_PAINT, dtype=np.float32), colours)


def _with_grass(place: Place, texture: Texture, x: Plane, y: Plane, colours: Plane) -> Plane:
    edge = place.half_size - np.maximum(np.abs(x - place.x), np.abs(y - place.y))
    blades = 0.25 * texture.smooth(x * 23, y * 23) + 0.15 * texture.smooth(x * 3, y * 3)
    grass = np.array(_GRASS, dtype=np.float32) * (1 + blades)[..., None]
    kerb = np.array((0.62, 0.63, 0.64), dtype=np.float32)
    edged = np.where((edge < _GRASS_M + 0.14)[..., None], kerb, colours)
    return np.where((edge < _GRASS_M)[..., None], grass, edged).astype(np.float32)


def wall_colour(place: Place, index: int, texture: Texture, u: Plane, z: Plane) -> Plane:
    """Return the colour of a wall, shape (..., 3), before light.

    Args:
        place: Whose wall it is.
        index: Which, as in `Place.walls`.
        texture: Of the place.
        u: Metres along the wall.
        z: Metres above the ground.
    """
    plaster = 1 + 0.04 * texture.smooth(u * 1.3, z * 0.8) + 0.03 * texture.smooth(u * 11, z * 11)
    colours = np.array(place.walls[index], dtype=np.float32) * plaster[..., None]
    colours[z < 0.6] *= 0.72
    storey = np.floor(z / _STOREY_M)
    column = np.floor(u / _WINDOW_EVERY_M)
    across = np.abs(u - (column + 0.5) * _WINDOW_EVERY_M)
    up = z - storey * _STOREY_M
    frame = (across < 0.72) & (up > 0.92) & (up < 2.42)
    glass = (across < 0.64) & (across > 0.03) & (up > 1.0) & (up < 2.34)
    colours[frame] = _FRAME
    shine = 1 + 0.35 * texture.each(column, storey) + 0.25 * (up - 1.7)
    colours[glass] = np.array(_GLASS, dtype=np.float32) * shine[glass][:, None]
    return colours


def leaf_colour(colour: Colour, texture: Texture, points: Plane) -> Plane:
    """Return the colour of leaves at points in space, shape (N, 3), before light."""
    x, y, z = points.T
    mottled = 1 + 0.5 * texture.smooth(x * 19 + z * 7, y * 19 - z * 11)
    return np.asarray(np.array(colour, dtype=np.float32) * mottled[:, None], dtype=np.float32)
