"""Meshes of simple things: boxes with round edges, ellipsoids, rods, domes, sheets of rings.

Each is vertices, shape (K, 3), float32, metres, and faces, shape (M, 3), int32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_AROUND, _ALONG = 12, 7


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A mesh.

    Attributes:
        vertices: Shape (K, 3), float32, metres.
        faces: Shape (M, 3), int32.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]

    def moved(self, offset: ArrayLike) -> Shape:
        """Return the mesh shifted by `offset`, shape (3,)."""
        return Shape((self.vertices + np.asarray(offset)).astype(np.float32), self.faces)


def rounded_box(centre: ArrayLike, half_size: ArrayLike, roundness: float = 0.35) -> Shape:
    """Return a box with rounded edges: a superellipsoid (Barr 1981).

    Args:
        centre: Shape (3,).
        half_size: Half its length, breadth and height, shape (3,).
        roundness: 1 is an ellipsoid; lower is more of a box.
    """
    latitude = np.linspace(-np.pi / 2, np.pi / 2, _ALONG)
    longitude = np.linspace(0, 2 * np.pi, _AROUND, endpoint=False) + np.pi / _AROUND
    level = _power(np.cos(latitude), roundness)[:, None]
    rings = np.stack(
        [
            level * _power(np.cos(longitude), roundness),
            level * _power(np.sin(longitude), roundness),
            np.broadcast_to(_power(np.sin(latitude), roundness)[:, None], (_ALONG, _AROUND)),
        ],
        axis=-1,
    )
    return sheet(rings * np.asarray(half_size) + np.asarray(centre))


def ellipsoid(centre: ArrayLike, radii: ArrayLike) -> Shape:
    """Return an ellipsoid with its axes along x, y and z."""
    return rounded_box(centre, radii, 1.0)


def rod(start: ArrayLike, end: ArrayLike, radius: float) -> Shape:
    """Return a rod with four sides from `start` to `end`."""
    ends = np.asarray(start, np.float64), np.asarray(end, np.float64)
    along = ends[1] - ends[0]
    side = np.cross(along, np.eye(3)[int(np.argmin(np.abs(along)))])
    side *= radius / np.linalg.norm(side)
    other = np.cross(along, side) / np.linalg.norm(along)
    around = np.stack([side, other, -side, -other])
    return sheet(np.stack([each + around for each in ends]))


def dome(top: ArrayLike, radius: float, depth: float) -> Shape:
    """Return the cap of a sphere, open below: an umbrella of `radius` that is `depth` high."""
    angle = np.linspace(0.05, np.pi / 2, 5)[:, None]
    longitude = np.linspace(0, 2 * np.pi, _AROUND, endpoint=False)
    rings = np.stack(
        [
            radius * np.sin(angle) * np.cos(longitude),
            radius * np.sin(angle) * np.sin(longitude),
            np.broadcast_to(-depth * (1 - np.cos(angle)), (5, _AROUND)),
        ],
        axis=-1,
    )
    return sheet(rings + np.asarray(top))


def sheet(rings: NDArray[np.floating]) -> Shape:
    """Return the surface through closed rings of points, shape (rings, points, 3)."""
    num_rings, around = rings.shape[:2]
    here = np.arange((num_rings - 1) * around).reshape(num_rings - 1, around)
    right = np.roll(here, -1, axis=1)
    quads = np.stack([here, right, right + around, here + around], axis=-1).reshape(-1, 4)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return Shape(rings.reshape(-1, 3).astype(np.float32), faces.astype(np.int32))


def _power(values: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    return np.sign(values) * np.abs(values) ** exponent
