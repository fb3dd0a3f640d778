"""Pelvis and legs: joint angles to rotations, and the ground that they cover.

Someone whose standing foot does not slide moves exactly as that foot moves back below him. So the
speed follows from the angles instead of being set beside them.

Legend of the shape suffixes: T frames, C curves, J joints, P points of the feet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gait.synthetic.curves import CURVES
from gait.synthetic.skeleton import INDEX
from gait.synthetic.style import Style

SIDES = ("left", "right")
LEG_JOINTS: tuple[str, ...] = (
    "pelvis",
    *(f"{joint}_{side}" for side in SIDES for joint in ("hip", "knee", "ankle", "toe")),
)
LEG_INDICES = np.array([INDEX[name] for name in LEG_JOINTS])
COLUMN = {name: column for column, name in enumerate(CURVES)}

# Where the joints and soles of the left leg of the mean baked body are, each from the one before,
# in lengths of the leg (hip joint to floor).
_HIP = np.array([0.0, 0.126, 0.0])
_KNEE = np.array([0.035, -0.013, -0.428])
_ANKLE = np.array([-0.037, -0.006, -0.485])
_HEEL = np.array([-0.049, 0.0, -0.086])
_BALL = np.array([0.163, 0.014, -0.086])
_TOE = np.array([0.163, 0.014, -0.057])
_TOE_TIP = np.array([0.062, 0.0, -0.029])
_MIRROR = np.array([1.0, -1.0, 1.0])
# How far that body's rest pose is from what gait laboratories call 0, degrees: it stands with the
# knees a little bent and the toes out.
_REST_HIP, _REST_KNEE, _REST_TOE_OUT = 2.5, 5.0, 5.0
_CONTACT_SOFTNESS = 0.004

_BEND_SOFTNESS = 3.0
# How each curve follows the length of the steps, and the effort of somebody who starts or stops:
# the toes point down by an angle, but a bent leg is shorter by its square, so the foot must flatten
# sooner than the knee straightens or it would strike the floor.
_STRIDE_POWER, _EFFORT_POWER = np.zeros(len(CURVES)), np.ones(len(CURVES))
_EFFORT_POWER[COLUMN["list"]] = 2.0
for _name, _stride, _effort in (
    ("hip", 1.0, 1.0),
    ("knee", 0.3, 0.8),
    ("foot", 0.6, 2.0),
    ("toe", 0.6, 2.0),
):
    _columns = [COLUMN[f"{_name}_{_side}"] for _side in SIDES]
    _STRIDE_POWER[_columns], _EFFORT_POWER[_columns] = _stride, _effort


@dataclass(frozen=True, slots=True)
class Stance:
    """How somebody puts his legs, whatever they do: what does not vary over the cycle.

    Attributes:
        adduction_deg: How far each leg slants inwards to put the feet at the step's width.
        toe_out_deg: How far each foot is turned out from the rest pose, (left, right).
    """

    adduction_deg: float
    toe_out_deg: tuple[float, float]

    @classmethod
    def of(cls, style: Style) -> Stance:
        """Return the stance that gives a style its step width and its feet."""
        hips_to_feet = (_HIP + _KNEE + _ANKLE)[1] - style.step_width / 2
        slant = np.arcsin(np.clip(hips_to_feet, -0.5, 0.5))
        left, right = style.toe_out_deg
        return cls(float(np.degrees(slant)), (left - _REST_TOE_OUT, right - _REST_TOE_OUT))


def euler(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rotations (..., 3, 3) that turn about z, then y, then x by angles (..., 3)."""
    radians = np.radians(degrees)
    cos, sin = np.cos(radians), np.sin(radians)
    cx, cy, cz = cos[..., 0], cos[..., 1], cos[..., 2]
    sx, sy, sz = sin[..., 0], sin[..., 1], sin[..., 2]
    out = np.empty((*degrees.shape, 3))
    out[..., 0, 0], out[..., 0, 1], out[..., 0, 2] = cy * cz, -cy * sz, sy
    out[..., 1, 0] = cx * sz + sx * sy * cz
    out[..., 1, 1] = cx * cz - sx * sy * sz
    out[..., 1, 2] = -sx * cy
    out[..., 2, 0] = sx * sz - cx * sy * cz
    out[..., 2, 1] = sx * cz + cx * sy * sz
    out[..., 2, 2] = cx * cy
    return out


def only_forwards(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return angles that are smooth and never below 0: knees and elbows bend one way."""
    return 0.5 * (degrees + np.sqrt(degrees**2 + _BEND_SOFTNESS**2))


def leg_rotations(values_TC: NDArray[np.float64], stance: Stance) -> NDArray[np.float64]:
    """Return the rotations (T, 9, 3, 3) of `LEG_JOINTS` at curve values (T, C) in degrees."""
    angles = np.zeros((len(values_TC), len(LEG_JOINTS), 3))
    for axis, name in enumerate(("list", "tilt", "twist")):
        angles[:, 0, axis] = values_TC[:, COLUMN[name]]
    foot = np.zeros((len(values_TC), 2, 3))
    for side, name in enumerate(SIDES):
        hip, outwards = 1 + 4 * side, (1, -1)[side]
        inwards = values_TC[:, COLUMN[f"adduction_{name}"]] + stance.adduction_deg
        turned = 0.6 * stance.toe_out_deg[side] - values_TC[:, COLUMN[f"rotation_{name}"]]
        angles[:, hip, 0] = -outwards * inwards
        angles[:, hip, 1] = _REST_HIP - values_TC[:, COLUMN[f"hip_{name}"]]
        angles[:, hip, 2] = outwards * turned
        knee = only_forwards(values_TC[:, COLUMN[f"knee_{name}"]])
        angles[:, hip + 1, 1] = knee - _REST_KNEE
        angles[:, hip + 3, 1] = -values_TC[:, COLUMN[f"toe_{name}"]]
        foot[:, side, 1] = -values_TC[:, COLUMN[f"foot_{name}"]]
        foot[:, side, 2] = outwards * stance.toe_out_deg[side]
    return _with_ankles(euler(angles), _yaw_last(foot))


def feet(rotations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where heel, ball and toe tip of both feet are (T, P = 6, 3), in lengths of the leg.

    Args:
        rotations: Of `LEG_JOINTS`, shape (T, 9, 3, 3); the pelvis is the origin.
    """
    points = []
    for side, mirror in enumerate((np.ones(3), _MIRROR)):
        hip = 1 + 4 * side
        thigh = rotations[:, 0] @ rotations[:, hip]
        shank = thigh @ rotations[:, hip + 1]
        foot = shank @ rotations[:, hip + 2]
        toes = foot @ rotations[:, hip + 3]
        root = rotations[:, 0] @ (_HIP * mirror)
        ankle = root + thigh @ (_KNEE * mirror) + shank @ (_ANKLE * mirror)
        toe = ankle + foot @ (_TOE * mirror)
        points += [
            ankle + foot @ (_HEEL * mirror),
            ankle + foot @ (_BALL * mirror),
            toe + toes @ (_TOE_TIP * mirror),
        ]
    return np.stack(points, axis=1)


def ground_speed(
    points: NDArray[np.float64], phase: NDArray[np.float64], step: float
) -> NDArray[np.float64]:
    """Return the velocity (T, 2) forward and to the left that keeps the standing foot in place.

    Args:
        points: From `feet`, shape (T, P, 3).
        phase: Cycles, shape (T,): tells a foot that stands from one that swings low.
        step: Between two frames, in whatever the velocity shall be per.
    """
    height = points[..., 2] - points[..., 2].min(axis=-1, keepdims=True)
    weight = np.exp(-height / _CONTACT_SOFTNESS) * np.repeat(_standing(phase), 3, axis=1)
    weight /= weight.sum(axis=-1, keepdims=True)
    velocity = np.gradient(points[..., :2], step, axis=0)
    speed: NDArray[np.float64] = -(velocity * weight[..., None]).sum(axis=-2)
    return speed


def _standing(phase: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much each foot (T, 2) can bear weight: hardly in the middle of its swing."""
    own = phase[:, None] + np.array([0.0, 0.5])
    swinging = np.clip((-0.3 - np.cos(2 * np.pi * (own - 0.3))) / 0.4, 0.0, 1.0)
    standing: NDArray[np.float64] = 10.0 ** (-4 * swinging)
    return standing


def strided(
    values_TC: NDArray[np.float64], gain: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return curve values (T, C) of steps made longer or shorter: the hip most, the foot less."""
    longer: NDArray[np.float64] = values_TC * gain**_STRIDE_POWER
    return longer


def eased(values_TC: NDArray[np.float64], effort: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return curve values (T, C) at efforts (T,): 0 stands, 1 is as usual, more is a fast walk."""
    effort = effort[:, None]
    lively: NDArray[np.float64] = values_TC * np.where(
        effort < 1, effort**_EFFORT_POWER, effort ** np.minimum(_EFFORT_POWER, 1.0)
    )
    return lively


def _yaw_last(foot: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rotations of the feet (T, 2, 3, 3) in space: pitched first, then pointed outwards."""
    pitch, yaw = foot.copy(), foot.copy()
    pitch[..., 2], yaw[..., 1] = 0.0, 0.0
    return euler(yaw) @ euler(pitch)


def _with_ankles(rotations: NDArray[np.float64], foot: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn the ankles so that the feet are as `foot` (T, 2, 3, 3) says."""
    for side in (0, 1):
        hip = 1 + 4 * side
        shank = rotations[:, 0] @ rotations[:, hip] @ rotations[:, hip + 1]
        rotations[:, hip + 2] = shank.transpose(0, 2, 1) @ foot[:, side]
    return rotations
