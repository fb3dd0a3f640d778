"""Pinhole cameras: from metres in the world to pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

NEAR_M = 0.05
"""Points nearer than this in front of the lens, or behind it, have no pixel."""


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """A camera without distortion, its principal point in the middle of the image.

    Pixel (0, 0) is the outer corner of the first pixel, so that its centre lies at (0.5, 0.5).

    Attributes:
        position: Of the lens in the world, shape (3,), float64, metres.
        yaw: Where it looks, radians anticlockwise from +x, seen from above.
        pitch: How far it looks down, radians; 0 is level, pi / 2 straight down.
        roll: How far it is turned about its own axis, radians, clockwise seen from behind it.
        focal_px: Focal length in pixels. Higher brings people nearer, at the price of a narrower
            view.
        width: Of the image, pixels.
        height: Of the image, pixels.
    """

    position: NDArray[np.float64]
    yaw: float
    pitch: float
    roll: float
    focal_px: float
    width: int
    height: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "position", _point("position", self.position))
        angles = (self.yaw, self.pitch, self.roll)
        if not all(map(math.isfinite, angles)):
            raise ValueError(f"camera: expected finite yaw, pitch and roll, got {angles}")
        if not (math.isfinite(self.focal_px) and self.focal_px > 0):
            raise ValueError(f"camera: expected a focal length above 0 pixels, got {self.focal_px}")
        if self.width < 1 or self.height < 1:
            raise ValueError(
                f"camera: expected an image of at least 1x1 pixels, got {self.width}x{self.height}"
            )

    @classmethod
    def looking_at(
        cls,
        position: ArrayLike,
        target: ArrayLike,
        focal_px: float,
        width: int,
        height: int,
        roll: float = 0.0,
    ) -> Camera:
        """Return the camera at `position` with `target` in the middle of its image.

        Args:
            position: Shape (3,), metres.
            target: Shape (3,), metres.
            focal_px: As the attribute.
            width: As the attribute.
            height: As the attribute.
            roll: As the attribute.

        Raises:
            ValueError: The two points are the same, or not finite.
        """
        place = _point("position", position)
        x, y, z = (_point("target", target) - place).tolist()
        if math.hypot(x, y, z) < NEAR_M:
            raise ValueError(
                f"camera: expected a target at least {NEAR_M} m away, got {[x, y, z]} m"
            )
        pitch = math.atan2(-z, math.hypot(x, y))
        return cls(place, math.atan2(y, x), pitch, roll, focal_px, width, height)

    @classmethod
    def around(
        cls,
        target: ArrayLike,
        azimuth: float,
        pitch: float,
        distance_m: float,
        focal_px: float = 1000.0,
        width: int = 640,
        height: int = 640,
    ) -> Camera:
        """Return a camera that looks at `target` from a side and a height.

        Args:
            target: Shape (3,), metres; the middle of a person's path for all of it to be in view.
            azimuth: Where the camera stands, radians anticlockwise from +x seen from the target: 0
                sees the face of a person who walks along +x, pi / 2 the left side, pi the back.
            pitch: How far it looks down, radians.
            distance_m: From lens to target. Lower distorts more: the near leg looks longer.
            focal_px: As the attribute.
            width: As the attribute.
            height: As the attribute.

        Raises:
            ValueError: A distance below `NEAR_M`, or a pitch beyond straight up or down.
        """
        if not abs(pitch) <= math.pi / 2:
            raise ValueError(f"camera: expected a pitch within +-pi/2 radians, got {pitch}")
        level = math.cos(pitch)
        arm = (level * math.cos(azimuth), level * math.sin(azimuth), math.sin(pitch))
        place = _point("target", target) + distance_m * np.asarray(arm)
        return cls.looking_at(place, target, focal_px, width, height)

    @property
    def rotation(self) -> NDArray[np.float64]:
        """World to camera, shape (3, 3): rows are the image's right, its down, and forward."""
        (sin_y, cos_y), (sin_p, cos_p) = (_sin_cos(angle) for angle in (self.yaw, self.pitch))
        sin_r, cos_r = _sin_cos(self.roll)
        forward = np.array([cos_p * cos_y, cos_p * sin_y, -sin_p])
        right = np.array([sin_y, -cos_y, 0.0])
        down = np.cross(forward, right)
        return np.stack([cos_r * right + sin_r * down, cos_r * down - sin_r * right, forward])

    def project(self, points: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return where points are seen, and how far in front of the lens they lie.

        Args:
            points: Shape (..., 3), metres in the world.

        Returns:
            Pixels (..., 2), float32, beyond the image where a point is outside the view and NaN
            where it is behind the camera or nearer than `NEAR_M`; and depth (...), float32,
            metres along the camera's axis, negative behind it.

        Raises:
            ValueError: The last axis does not hold three numbers.
        """
        world = np.asarray(points, dtype=np.float32)
        if world.ndim < 1 or world.shape[-1] != 3:
            raise ValueError(f"points: expected shape (..., 3), got {world.shape}")
        x, y, z = np.moveaxis(world - self.position.astype(np.float32), -1, 0)
        # Sums of products instead of a matrix product: the same bits on every processor.
        seen = [x * r[0] + y * r[1] + z * r[2] for r in self.rotation.astype(np.float32)]
        depth = np.asarray(seen[2], dtype=np.float32)
        scale = np.float32(self.focal_px) / np.where(depth < NEAR_M, np.float32(np.nan), depth)
        middle = np.array([self.width / 2, self.height / 2], dtype=np.float32)
        return np.stack([seen[0] * scale, seen[1] * scale], axis=-1) + middle, depth

    def calibration(self) -> dict[str, Any]:
        """Return K (3, 3), R (3, 3) and t (3,) as lists for JSON: pixel ~ K (R point + t)."""
        rotation = self.rotation
        intrinsic = [
            [self.focal_px, 0.0, self.width / 2],
            [0.0, self.focal_px, self.height / 2],
            [0.0, 0.0, 1.0],
        ]
        return {"K": intrinsic, "R": rotation.tolist(), "t": (-rotation @ self.position).tolist()}


def _sin_cos(angle: float) -> tuple[float, float]:
    return math.sin(angle), math.cos(angle)


def _point(name: str, values: ArrayLike) -> NDArray[np.float64]:
    point = np.asarray(values, dtype=np.float64)
    if point.shape != (3,) or not np.isfinite(point).all():
        raise ValueError(f"camera {name}: expected three finite numbers in metres, got {values!r}")
    return point
