"""From a style to a motion: somebody walks, stands, turns and carries things.

The pose is a function of time. Times may therefore be irregular: a frame that a camera dropped is
merely not asked for, and the others stay as they were.

Legend of the shape suffixes: T frames, G points of the fine time grid, C curves, J joints.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from scipy.signal import lfilter

from gait.strict import StrictModel
from gait.synthetic.arms import HOLD_SPREAD_DEG, Arms, ArmUse, Hold, held
from gait.synthetic.coordination import coordinated
from gait.synthetic.curves import basis
from gait.synthetic.legs import (
    COLUMN,
    LEG_INDICES,
    SIDES,
    Stance,
    eased,
    euler,
    feet,
    ground_speed,
    leg_rotations,
    only_forwards,
    strided,
)
from gait.synthetic.paths import Path2D
from gait.synthetic.skeleton import INDEX, JOINTS, Motion
from gait.synthetic.style import Style, varied

__all__ = ["ArmUse", "Arms", "Variation", "walk"]

_RATE_HZ = 100
_LONGEST_S = 3600.0
_HEADING_LAG_S = 0.25
_SWAY_MEMORY_S = 3.0
_BEND_RADIUS_M = 0.5
"""In a bend of this radius people go at half their speed."""
_MORE_STEPS = 0.55
"""Cadence grows with this power of speed, step length with the rest (Grieve & Gear 1966)."""


class Variation(StrictModel):
    """How much one person's walks differ, and how much he varies within one."""

    speed: float = Field(default=0.05, ge=0, le=0.3)
    """Standard deviation of a walk's speed, as a share. Higher makes the same person's walks
    differ more in stride and cadence, at the price of being harder to know again."""
    fatigue: float = Field(default=1.0, ge=0, le=3)
    """Most that somebody may be tired (1: 4 % slower, 3 degrees bent, the arms swing 20 % less).
    Higher makes more weary walks, at the price of people who look alike when tired."""
    shape: float = Field(default=0.2, ge=0, le=1)
    """How much a day changes the curves, in shares of how much two people differ. Higher makes
    walks on two days differ more, at the price of being harder to know again."""
    posture_deg: float = Field(default=1.2, ge=0, le=10)
    """Standard deviation of trunk, head and arm carriage between walks. Higher as `shape`."""
    cadence_drift: float = Field(default=0.02, ge=0, le=0.2)
    """How much cadence and stride drift within a walk, as a share. Higher makes strides of one
    walk differ more, at the price of a less steady gait."""
    sway_deg: float = Field(default=0.8, ge=0, le=10)
    """How much trunk and arms drift within a walk. Higher is livelier, also when standing."""
    look_deg: float = Field(default=5.0, ge=0, le=60)
    """How far the head turns to look around. Higher shows more of the face's side, at the price
    of a head that is less steady."""


@dataclass(frozen=True, slots=True)
class _Walk:
    """One walk of one person: the day's style and what of it is chance."""

    style: Style
    coefficients_CK: NDArray[np.float64]
    stance: Stance
    stride_gain: float
    leg_length_m: float
    path: Path2D
    holds: tuple[Hold | None, Hold | None]
    variation: Variation
    first_phase: float
    waves: NDArray[np.float64]

    def drift(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the slow, aimless changes (T, 8) at any times, each of unit size."""
        frequency, phase, size = self.waves
        turns = time_s[:, None, None] * frequency + phase
        drift: NDArray[np.float64] = (np.sin(2 * np.pi * turns) * size).sum(axis=2)
        return drift


_DRIFTS: Final = ("cadence", "stride", "lean", "bend", "turn", "look", "nod", "arms")


@dataclass(frozen=True, slots=True)
class _State:
    """Where in the walk somebody is at some times: phase in cycles, effort, place, heading."""

    phase: NDArray[np.float64]
    effort: NDArray[np.float64]
    position: NDArray[np.float64]
    heading: NDArray[np.float64]


def walk(
    style: Style,
    *,
    leg_length_m: float,
    time_s: ArrayLike,
    rng: np.random.Generator,
    path: Path2D | None = None,
    arms: Arms | None = None,
    variation: Variation | None = None,
) -> Motion:
    """Return one walk of one person.

    Speed is step length times cadence: it is taken from how the standing foot moves below the
    body, so that this foot stays where it is on the ground.

    Args:
        style: How the person walks.
        leg_length_m: From the hip joint to the floor, metres.
        time_s: Time of each frame, shape (T,), rising, seconds from the start of the walk; they
            need not be regular.
        rng: What differs between two walks of this person comes from it.
        path: Where to, and at which pace; straight along +x when None.
        arms: What the arms do; both swing when None.
        variation: How much walks differ; the documented defaults when None.

    Raises:
        ValueError: The times are not rising, negative or beyond an hour, or the leg has no length.
    """
    times = _checked(time_s, leg_length_m)
    this = _drawn(style, leg_length_m, rng, path, arms or Arms(), variation or Variation())
    state = _at(times, this)
    return Motion(
        time_s=times,
        rotations=_pose(times, state, this).astype(np.float32),
        position=state.position.astype(np.float32),
        heading=state.heading.astype(np.float32),
    )


def _checked(time_s: ArrayLike, leg_length_m: float) -> NDArray[np.float64]:
    times = np.array(time_s, dtype=np.float64)
    if times.ndim != 1 or len(times) == 0 or not np.all(np.isfinite(times)):
        raise ValueError(f"time_s: expected finite times (T >= 1,), got shape {times.shape}")
    if times[0] < 0 or times[-1] > _LONGEST_S:
        raise ValueError(
            f"time_s: expected seconds from the start of the walk in 0..{_LONGEST_S:g}, got "
            f"{times[0]:g}..{times[-1]:g}; subtract the time of the first frame"
        )
    if np.any(np.diff(times) <= 0):
        raise ValueError("time_s: expected times that rise, got some that do not; sort them")
    if not 0.2 <= leg_length_m <= 2.0:
        raise ValueError(f"leg_length_m: expected 0.2..2 metres, got {leg_length_m}")
    return times


def _drawn(
    style: Style,
    leg_length_m: float,
    rng: np.random.Generator,
    path: Path2D | None,
    arms: Arms,
    variation: Variation,
) -> _Walk:
    """Draw all that is chance in a walk; the number of frames has no part in it."""
    speed = float(np.clip(1 + variation.speed * rng.standard_normal(), 0.75, 1.25))
    day = _on_a_day(varied(style, rng, variation.shape), rng, variation, speed)
    stance = Stance.of(day)
    coefficients, stride_gain = coordinated(day.coefficients(), stance, day.step_length)
    moved = HOLD_SPREAD_DEG * rng.standard_normal(4)
    holds = (held(arms.left, moved, rng), held(arms.right, moved, rng))
    frequency = np.exp(rng.uniform(np.log(0.04), np.log(0.5), (len(_DRIFTS), 4)))
    size = rng.rayleigh(0.5, frequency.shape)
    return _Walk(
        style=day,
        coefficients_CK=coefficients,
        stance=stance,
        stride_gain=stride_gain,
        leg_length_m=leg_length_m,
        path=path or Path2D.straight(),
        holds=holds,
        variation=variation,
        first_phase=float(rng.random()),
        waves=np.stack([frequency, rng.random(frequency.shape), size]),
    )


def _on_a_day(style: Style, rng: np.random.Generator, variation: Variation, speed: float) -> Style:
    """Return the style at this walk's speed, mood and fatigue."""
    tired = rng.uniform(0, variation.fatigue)
    posture = variation.posture_deg * rng.standard_normal(8)
    speed *= 1 - 0.04 * tired
    amplitude = style.amplitude.copy()
    for side in SIDES:
        amplitude[[COLUMN[f"shoulder_{side}"], COLUMN[f"elbow_{side}"]]] *= 1 - 0.2 * tired
    return replace(
        style,
        amplitude=amplitude,
        cadence=float(np.clip(style.cadence * speed**_MORE_STEPS, 40, 180)),
        step_length=float(np.clip(style.step_length * speed ** (1 - _MORE_STEPS), 0.1, 1.2)),
        lean_deg=style.lean_deg + 3.0 * tired + posture[0],
        side_lean_deg=style.side_lean_deg + 0.5 * posture[1],
        head_down_deg=style.head_down_deg + 2.0 * tired + 2.0 * posture[2],
        arm_out_deg=(style.arm_out_deg[0] + posture[3], style.arm_out_deg[1] + posture[4]),
        elbow_deg=(style.elbow_deg[0] + 2 * posture[5], style.elbow_deg[1] + 2 * posture[6]),
        toe_out_deg=(style.toe_out_deg[0] + posture[7], style.toe_out_deg[1] + posture[7]),
    )


def _at(time_s: NDArray[np.float64], this: _Walk) -> _State:
    """Return where in the walk somebody is at times (T,).

    Speed, phase and heading are summed up on a grid that begins with the walk and never looks
    ahead, so that what comes out does not depend on which times are asked for.
    """
    grid = np.arange(int(np.ceil(time_s[-1] * _RATE_HZ)) + 3) / _RATE_HZ
    drift = this.drift(grid)
    share = _share_of_speed(grid, this)
    wander = this.variation.cadence_drift
    effort = share ** (1 - _MORE_STEPS) * (1 + wander * drift[:, 1])
    cycles = this.style.cadence / 120 * share**_MORE_STEPS * (1 + wander * drift[:, 0])
    phase = this.first_phase + _summed(cycles)
    points = feet(leg_rotations(_values(phase, effort, this), this.stance))
    speed = this.leg_length_m * ground_speed(points, phase, 1 / _RATE_HZ)
    distance = _summed(speed[:, 0])
    sway = _leaking(speed[:, 1])
    heading = _lagging(this.path.heading_at(distance))
    place = np.stack([phase, effort, distance, sway, heading], axis=1)
    phase, effort, distance, sway, heading = _read(grid, place, time_s).T
    direction = this.path.heading_at(distance)
    aside = np.stack([-np.sin(direction), np.cos(direction)], axis=1)
    return _State(phase, effort, this.path.at(distance) + sway[:, None] * aside, heading)


def _share_of_speed(grid_s: NDArray[np.float64], this: _Walk) -> NDArray[np.float64]:
    """Return the share (G,) of the usual speed: the pace, less where the path bends."""
    wanted = this.path.pace.at(grid_s)
    where, bend = this.path.curvature()
    slow = 1 / (1 + (_BEND_RADIUS_M * bend) ** 2)
    # What is walked at `slow` of the speed is as long as 1 / slow times the way at full speed.
    longer = np.concatenate(
        [[0.0], np.cumsum(np.diff(where) * 0.5 * (1 / slow[1:] + 1 / slow[:-1]))]
    )
    usual = this.style.speed_m_s(this.leg_length_m)
    share: NDArray[np.float64] = wanted * np.interp(
        _summed(usual * wanted), longer, slow, right=1.0
    )
    return share


def _values(
    phase: NDArray[np.float64], effort: NDArray[np.float64], this: _Walk
) -> NDArray[np.float64]:
    """Return the values (T, C) of all curves, degrees; at no effort somebody stands."""
    return eased(strided(basis(phase) @ this.coefficients_CK.T, this.stride_gain), effort)


def _pose(time_s: NDArray[np.float64], state: _State, this: _Walk) -> NDArray[np.float64]:
    """Return the rotations (T, J, 3, 3) of all joints."""
    values = _values(state.phase, state.effort, this)
    drift = this.drift(time_s)
    angles = np.zeros((len(time_s), len(JOINTS), 3))
    trunk = _trunk(values, drift, this)
    pelvis = np.stack([values[:, COLUMN[name]] for name in ("list", "tilt", "twist")], axis=1)
    head = _head(trunk, drift, this)
    angles[:, INDEX["spine"]] = angles[:, INDEX["chest"]] = 0.5 * (trunk - pelvis)
    angles[:, INDEX["neck"]] = 0.5 * (head - trunk) + [0, this.style.head_forward_deg, 0]
    angles[:, INDEX["head"]] = 0.5 * (head - trunk) - [0, this.style.head_forward_deg, 0]
    for side in (0, 1):
        shoulder, elbow = _arm(side, values, trunk, drift, this)
        angles[:, INDEX[f"shoulder_{SIDES[side]}"]] = shoulder
        angles[:, INDEX[f"elbow_{SIDES[side]}"], 1] = -elbow
    rotations = euler(angles)
    rotations[:, LEG_INDICES] = leg_rotations(values, this.stance)
    return rotations


def _trunk(
    values: NDArray[np.float64], drift: NDArray[np.float64], this: _Walk
) -> NDArray[np.float64]:
    """Return the turns (T, 3) of the trunk in space, degrees about x, y and z."""
    usual = [this.style.side_lean_deg, this.style.lean_deg, 0.0]
    moving = np.stack([values[:, COLUMN[name]] for name in ("bend", "lean", "counter")], axis=1)
    aimless = [_DRIFTS.index(name) for name in ("bend", "lean", "turn")]
    return moving + usual + this.variation.sway_deg * drift[:, aimless]


def _head(
    trunk: NDArray[np.float64], drift: NDArray[np.float64], this: _Walk
) -> NDArray[np.float64]:
    """Return the turns (T, 3) of the head in space: nearly steady, looking around."""
    head = 0.15 * trunk
    head[:, 1] = this.style.head_down_deg
    head[:, 1] += 0.4 * this.variation.look_deg * drift[:, _DRIFTS.index("nod")]
    head[:, 2] += this.variation.look_deg * drift[:, _DRIFTS.index("look")]
    return head


def _arm(
    side: int,
    values: NDArray[np.float64],
    trunk: NDArray[np.float64],
    drift: NDArray[np.float64],
    this: _Walk,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the turns of a shoulder (T, 3) and how far the elbow is bent (T,), degrees."""
    style, name, outwards = this.style, SIDES[side], (1, -1)[side]
    own = Hold(1.0, 0.0, style.arm_out_deg[side], style.arm_in_deg[side], style.elbow_deg[side])
    hold = this.holds[side] or own
    aimless = this.variation.sway_deg * drift[:, _DRIFTS.index("arms")]
    swing = hold.swing * values[:, COLUMN[f"shoulder_{name}"]] + hold.forward + aimless
    elbow = only_forwards(hold.elbow + hold.swing * values[:, COLUMN[f"elbow_{name}"]] + aimless)
    # An arm hangs down from a trunk that leans.
    shoulder = np.stack(
        [
            outwards * hold.out - 0.7 * trunk[:, 0],
            -swing - 0.8 * trunk[:, 1],
            np.full_like(swing, -outwards * hold.inwards),
        ],
        axis=1,
    )
    return shoulder, elbow


def _summed(rate: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the running integral (G,) of a rate (G,) over the grid, from 0."""
    steps = 0.5 * (rate[1:] + rate[:-1]) / _RATE_HZ
    return np.concatenate([[0.0], np.cumsum(steps)])


def _leaking(rate: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the running integral of a rate that is slowly forgotten: it sways, never drifts."""
    kept = np.exp(-1 / (_RATE_HZ * _SWAY_MEMORY_S))
    return np.asarray(lfilter([1 / _RATE_HZ], [1, -kept], rate))


def _lagging(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an angle (G,) that follows another with a lag, beginning where that begins."""
    kept = np.exp(-1 / (_RATE_HZ * _HEADING_LAG_S))
    followed: NDArray[np.float64] = lfilter([1 - kept], [1, -kept], angle - angle[0]) + angle[0]
    return followed


def _read(
    grid_s: NDArray[np.float64], values: NDArray[np.float64], time_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the columns of `values` (G, N) between the points of the grid, shape (T, N)."""
    index = np.minimum((time_s * _RATE_HZ).astype(np.int64), len(grid_s) - 2)
    rest = (time_s * _RATE_HZ - index)[:, None]
    read: NDArray[np.float64] = values[index] * (1 - rest) + values[index + 1] * rest
    return read
