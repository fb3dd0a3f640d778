"""Cloth: body parts that stand off further, and tubes of cloth around both legs.

Legend of the shape suffixes: V vertices, F faces, R rings, A points around a ring.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gait.synthetic.bodies import Body, Region
from gait.synthetic.shapes import sheet
from gait.synthetic.skeleton import INDEX

_AROUND = 20
_RINGS = 6
_ARMS = tuple(
    INDEX[f"{joint}_{side}"]
    for joint in ("shoulder", "elbow", "wrist")
    for side in ("left", "right")
)


def inflated(body: Body, thickness_m: Mapping[Region, float], flare_m: float = 0.0) -> Body:
    """Return the body with parts of its surface moved outwards.

    Args:
        body: The body.
        thickness_m: How far each part moves; parts that are not named stay.
        flare_m: How much further the trousers move at the ankle, falling to 0 at the knee.
    """
    of_region = np.zeros(max(Region) + 1)
    for region, thickness in thickness_m.items():
        of_region[region] = thickness
    amount_V = _mean_of_faces(body, of_region[body.parts])
    ankle, knee = (float(body.joints[INDEX[each], 2]) for each in ("ankle_left", "knee_left"))
    below_V = np.clip((knee - body.vertices[:, 2]) / (knee - ankle), 0.0, 1.0)
    is_trousers_V = _mean_of_faces(body, (body.parts == Region.TROUSERS).astype(np.float64))
    amount_V += flare_m * below_V * is_trousers_V
    moved = body.vertices + amount_V[:, None] * normals(body.vertices, body.faces)
    return replace(body, vertices=moved.astype(np.float32))


def with_skirt(
    body: Body,
    top_m: float,
    hem_m: float,
    *,
    flare_m: float,
    region: Region,
    ease_m: float = 0.0,
) -> Body:
    """Return the body with a tube of cloth from height `top_m` down to `hem_m`.

    The tube follows the pelvis at its top and more and more the thighs further down, the left one
    on the left; it does not bend at the knee.

    Args:
        body: The body.
        top_m: Where it begins, above the hips.
        hem_m: Where it ends.
        flare_m: How much further it stands off at the hem.
        region: What it counts as.
        ease_m: How far it stands off everywhere.
    """
    heights = np.linspace(top_m, hem_m, _RINGS)
    angles = np.linspace(0, 2 * np.pi, _AROUND, endpoint=False)
    trunk = body.vertices[body.weights[:, _ARMS].sum(axis=1) < 0.5]
    middle = body.joints[INDEX["pelvis"], :2]
    reach_RA = np.stack([_reach(trunk, middle, z, angles) for z in heights])
    reach_RA = np.maximum.accumulate(reach_RA, axis=0)  # cloth hangs down from where it is widest
    below_R = np.linspace(0.0, 1.0, _RINGS)
    reach_RA = reach_RA + ease_m + flare_m * below_R[:, None]
    rings = np.empty((_RINGS, _AROUND, 3))
    rings[..., 0] = middle[0] + reach_RA * np.cos(angles)
    rings[..., 1] = middle[1] + reach_RA * np.sin(angles)
    rings[..., 2] = heights[:, None]
    tube = sheet(rings)
    hip = float(body.joints[INDEX["hip_left"], 2])
    width = abs(float(body.joints[INDEX["hip_left"], 1])) + 1e-3
    weights = _thigh_weights(tube.vertices, hip, float(top_m), width)
    return _joined(body, tube.vertices, tube.faces, weights, region)


def normals(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the outward unit normal at each vertex, shape (V, 3)."""
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    of_face = np.cross(b - a, c - a)
    if np.einsum("fi,fi->", a, of_face) < 0:  # the signed volume: the faces wind inwards
        of_face = -of_face
    summed = np.zeros((len(vertices), 3))
    for corner in range(3):
        np.add.at(summed, faces[:, corner], of_face)
    length = np.linalg.norm(summed, axis=1, keepdims=True)
    return np.asarray(summed / np.maximum(length, 1e-12))


def _mean_of_faces(body: Body, of_face: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return at each vertex the mean over its faces, shape (V,)."""
    corners, num = body.faces.reshape(-1), len(body.vertices)
    total = np.bincount(corners, np.repeat(of_face, 3), num)
    return total / np.maximum(np.bincount(corners, minlength=num), 1)


def _reach(
    points: NDArray[np.float32], middle: NDArray[np.float32], z: float, angles: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how far the convex hull of the points near a height reaches in each direction."""
    near = points[np.abs(points[:, 2] - z) < 0.05]
    if not len(near):
        return np.zeros(len(angles))
    flat = (near[:, :2] - middle).astype(np.float64)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    support = (flat @ directions).max(axis=0)
    # the hull is the intersection of half planes: along an angle the nearest of them ends it
    facing = np.cos(angles[:, None] - angles)
    with np.errstate(divide="ignore"):
        ends = np.where(facing > 0.1, support / np.maximum(facing, 0.1), np.inf)
    return np.asarray(np.maximum(ends.min(axis=1), 0.0))


def _thigh_weights(
    vertices: NDArray[np.float32], hip: float, top: float, width: float
) -> NDArray[np.float32]:
    """Return the skin weights of a tube around both thighs, shape (V, J)."""
    drop = np.clip((top - vertices[:, 2]) / (top - hip + 0.25), 0.0, 1.0)
    with_legs = 0.85 * drop * drop * (3 - 2 * drop)
    left = np.clip(0.5 + 0.5 * vertices[:, 1] / width, 0.0, 1.0)
    weights = np.zeros((len(vertices), len(INDEX)), np.float32)
    weights[:, INDEX["hip_left"]] = with_legs * left
    weights[:, INDEX["hip_right"]] = with_legs * (1 - left)
    weights[:, INDEX["pelvis"]] = 1 - with_legs
    return weights


def _joined(
    body: Body,
    vertices: NDArray[np.float32],
    faces: NDArray[np.int32],
    weights: NDArray[np.float32],
    region: Region,
) -> Body:
    return replace(
        body,
        vertices=np.concatenate([body.vertices, vertices]),
        weights=np.concatenate([body.weights, weights]),
        faces=np.concatenate([body.faces, faces + len(body.vertices)]).astype(np.int32),
        parts=np.concatenate([body.parts, np.full(len(faces), region, np.uint8)]),
        treads=np.concatenate([body.treads, np.zeros(len(vertices), np.bool_)]),
    )
