"""The joints every body has and every motion moves.

Legend of the shape suffixes: T frames, J joints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_TREE: tuple[tuple[str, str | None], ...] = (
    ("pelvis", None),
    ("spine", "pelvis"),
    ("chest", "spine"),
    ("neck", "chest"),
    ("head", "neck"),
    ("shoulder_left", "chest"),
    ("elbow_left", "shoulder_left"),
    ("wrist_left", "elbow_left"),
    ("shoulder_right", "chest"),
    ("elbow_right", "shoulder_right"),
    ("wrist_right", "elbow_right"),
    ("hip_left", "pelvis"),
    ("knee_left", "hip_left"),
    ("ankle_left", "knee_left"),
    ("toe_left", "ankle_left"),
    ("hip_right", "pelvis"),
    ("knee_right", "hip_right"),
    ("ankle_right", "knee_right"),
    ("toe_right", "ankle_right"),
)

JOINTS: tuple[str, ...] = tuple(name for name, _ in _TREE)
"""Names of the joints; a parent stands before its children."""

INDEX: dict[str, int] = {name: index for index, name in enumerate(JOINTS)}

PARENTS: tuple[int, ...] = tuple(-1 if parent is None else INDEX[parent] for _, parent in _TREE)
"""Index of each joint's parent, -1 for the pelvis."""


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """How a skeleton moves: joint rotations and a path over the ground.

    In the rest pose (all rotations the identity) a body stands upright, feet parallel, arms hanging
    at the sides with the palms inwards, and faces +x.

    Attributes:
        time_s: Time of each frame, shape (T,), float64, rising.
        rotations: Of each joint against its parent, about the joint's own place, in the axes of the
            rest pose: shape (T, J, 3, 3), float32. A positive turn about y bends forward-down: it
            takes z to x, so it swings a leg or an arm backward (a hip that flexes turns about -y).
        position: Ground point below the pelvis, shape (T, 2), float32, metres.
        heading: Direction the person faces, shape (T,), float32, radians anticlockwise from +x.

    How high the pelvis is follows from the body: its lowest point touches the ground.
    """

    time_s: NDArray[np.float64]
    rotations: NDArray[np.float32]
    position: NDArray[np.float32]
    heading: NDArray[np.float32]
