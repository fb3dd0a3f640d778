"""Ways through a place: in from beyond the cameras' view, past its middle, out of view again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gait.synthetic.camera import Camera
from gait.synthetic.paths import Path2D
from gait.synthetic.place import Place

Points = NDArray[np.float64]

_STEP_M = 0.4
_BEYOND_M = 1.6  # out of view for so long before a way may end there
_MARGIN_M = 0.7  # half a stride: feet and bags reach out of the line they are carried along
_TALLEST_M = 2.1
_MIDDLE_M = 2.6
_FROM_WALL_M = 1.8
_CLEARANCE_M = 0.4
_TRIES = 40
_LONGEST = 1.5  # as a share of what the view is broad
_FROM_CAMERA_M = 3.0  # nobody walks right below a camera


def in_view(camera: Camera, points: Points) -> NDArray[np.bool_]:
    """Return whether any part of a person who stands at each ground point (N, 2) may be seen."""
    feet = np.concatenate([points, np.zeros((len(points), 1))], axis=1)
    low, depth = camera.project(feet)
    high, _ = camera.project(feet + np.array([0.0, 0.0, _TALLEST_M]))
    with np.errstate(invalid="ignore"):
        margin = camera.focal_px * _MARGIN_M / np.maximum(depth, 0.1)
        beside = (low[:, 0] < -margin) | (low[:, 0] > camera.width + margin)
        below = high[:, 1] > camera.height + margin
    return np.asarray((depth > 0) & ~beside & ~below)


def in_view_of_any(cameras: Sequence[Camera], points: Points) -> NDArray[np.bool_]:
    """Return whether any of the cameras may see a person at each ground point (N, 2)."""
    seen: NDArray[np.bool_] = np.any([in_view(camera, points) for camera in cameras], axis=0)
    return seen


def draw_route(place: Place, cameras: Sequence[Camera], rng: np.random.Generator) -> Points:
    """Return waypoints (5, 2) past the middle of a place; both ends are out of everybody's view.

    Where the cameras leave no such spot (one that sees every corner, say), the way begins or ends
    at the walls. It keeps clear of the things that stand there, and is no longer than it takes to
    cross the view, as far as 40 tries allow.

    Args:
        place: Where.
        cameras: Those that see the place.
        rng: Draws it.
    """
    longest = max(_LONGEST * _breadth(place, each) + 2 * _BEYOND_M for each in cameras)
    best, best_cost = np.empty((0, 2)), np.inf
    for _ in range(_TRIES):
        waypoints, cost = _waypoints(place, cameras, rng)
        path = Path2D.through(waypoints)
        cost += _crowding(place, cameras, path.points) + max(0.0, path.length_m - longest) * 0.1
        if cost < best_cost:
            best, best_cost = waypoints, cost
        if not cost:
            break
    return best


def beside(waypoints: Points, distance_m: float) -> Points:
    """Return the waypoints of somebody who walks to the left, metres; negative is right."""
    ahead = np.gradient(waypoints, axis=0)
    left = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)
    shifted: Points = waypoints + distance_m * left / np.linalg.norm(left, axis=1, keepdims=True)
    return shifted


def _breadth(place: Place, camera: Camera) -> float:
    """How much of the middle of a place a camera sees from side to side, metres."""
    distance = float(np.hypot(camera.position[0] - place.x, camera.position[1] - place.y))
    return distance * camera.width / camera.focal_px


def _waypoints(
    place: Place, cameras: Sequence[Camera], rng: np.random.Generator
) -> tuple[Points, float]:
    """Five points, and how many of the ends are in view."""
    reach, angle = _MIDDLE_M * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
    middle = np.array([place.x, place.y]) + reach * np.array([np.cos(angle), np.sin(angle)])
    back = rng.uniform(0, 2 * np.pi)
    ahead = back + np.pi + np.clip(rng.normal(0, 0.35), -0.9, 0.9)
    ends = [_way_out(place, cameras, middle, heading) for heading in (back, ahead)]
    near = [middle + 1.2 * np.array([np.cos(each), np.sin(each)]) for each in (back, ahead)]
    points = np.stack([ends[0][0], near[0], middle, near[1], ends[1][0]])
    return points, 10.0 * (ends[0][1] + ends[1][1])


def _way_out(
    place: Place, cameras: Sequence[Camera], start: Points, heading: float
) -> tuple[Points, bool]:
    """The first point out of view straight on from `start`, and whether there was none."""
    towards = np.array([np.cos(heading), np.sin(heading)])
    limit = place.half_size - _FROM_WALL_M
    count = int(2 * place.half_size / _STEP_M)
    points = start + np.arange(4, count)[:, None] * _STEP_M * towards
    inside = np.abs(points - (place.x, place.y)).max(axis=1) < limit
    points = points[: max(1, int(np.argmin(inside)))]
    hidden = ~in_view_of_any(cameras, points)
    needed = int(_BEYOND_M / _STEP_M)
    for at in range(len(points) - needed):
        if hidden[at : at + needed].all():
            return points[at + needed - 1], False
    return points[-1], True


def _crowding(place: Place, cameras: Sequence[Camera], points: Points) -> float:
    """How many things or cameras the way comes too close to."""
    cost = 0.0
    for thing in place.things:
        gap = np.linalg.norm(points - (thing.x, thing.y), axis=1).min()
        cost += float(gap < thing.radius + _CLEARANCE_M)
    for camera in cameras:
        cost += float(np.linalg.norm(points - camera.position[:2], axis=1).min() < _FROM_CAMERA_M)
    return cost
