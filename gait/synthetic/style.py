"""How a person walks, whatever his body: what makes him known by his gait.

Legend of the shape suffixes: C curves, K coefficients (see `curves`). Pairs are (left, right).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gait.synthetic.curves import (
    AXIAL,
    BOUNCE_K,
    CURVES,
    MEAN_CK,
    NUM_COEFFICIENTS,
    NUM_HARMONICS,
    SIDED,
    shifted,
)

# How people differ, one standard deviation: share of the amplitude, part of a cycle, degrees of
# the curve's mean and of its first harmonic (the k-th gets 1/k of it). The foot keeps its mean: it
# is flat on the floor whoever walks.
_SPREAD: dict[str, tuple[float, float, float, float]] = {
    "tilt": (0.30, 0.030, 1.5, 0.4),
    "list": (0.30, 0.020, 0.5, 0.6),
    "twist": (0.40, 0.030, 0.8, 0.9),
    "lean": (0.35, 0.030, 0.0, 0.4),
    "bend": (0.50, 0.030, 0.8, 0.7),
    "counter": (0.45, 0.030, 1.0, 0.8),
    "hip": (0.05, 0.012, 1.8, 1.0),
    "adduction": (0.20, 0.020, 0.4, 0.5),
    "rotation": (0.50, 0.030, 1.5, 0.8),
    "knee": (0.05, 0.012, 1.5, 1.1),
    "foot": (0.09, 0.010, 0.0, 0.3),
    "toe": (0.15, 0.010, 0.0, 0.0),
    "shoulder": (0.38, 0.035, 5.0, 2.0),
    "elbow": (0.45, 0.040, 0.0, 2.5),
}
_ASYMMETRY = 0.3
"""How much the two sides differ, in shares of how much two people do."""
_RARE = 0.02


def _ones() -> NDArray[np.float64]:
    return np.ones(len(CURVES))


def _zeros() -> NDArray[np.float64]:
    return np.zeros(len(CURVES))


def _no_deviation() -> NDArray[np.float64]:
    return np.zeros((len(CURVES), NUM_COEFFICIENTS))


@dataclass(frozen=True, slots=True, eq=False)
class Style:
    """One person's way of walking; the defaults are the mean person's.

    Attributes:
        cadence: Steps per minute at the usual speed.
        step_length: Of the usual step, in lengths of the leg.
        step_width: Between the lines of the left and the right feet, in lengths of the leg.
        amplitude: Factor of each curve, shape (C,), in the order of `curves.CURVES`.
        shift: How far each curve runs ahead, shape (C,), cycles.
        deviation_deg: What is added to each curve, Fourier coefficients (C, K), degrees.
        bounce_deg: How much further than usual the knee gives when it takes the weight.
        lean_deg: Of the trunk; forward is positive.
        side_lean_deg: Of the trunk; to the right is positive.
        head_forward_deg: How far the neck leans out in front of the trunk.
        head_down_deg: Where the face points; down is positive.
        arm_out_deg: How far each arm is held from the body.
        arm_in_deg: How far each forearm is turned inwards.
        elbow_deg: How far each elbow is bent when the arm hangs.
        toe_out_deg: How far each foot points outwards.
    """

    cadence: float = 110.0
    step_length: float = 0.71
    step_width: float = 0.12
    amplitude: NDArray[np.float64] = field(default_factory=_ones)
    shift: NDArray[np.float64] = field(default_factory=_zeros)
    deviation_deg: NDArray[np.float64] = field(default_factory=_no_deviation)
    bounce_deg: float = 0.0
    lean_deg: float = 3.5
    side_lean_deg: float = 0.0
    head_forward_deg: float = 8.0
    head_down_deg: float = 3.0
    arm_out_deg: tuple[float, float] = (5.0, 5.0)
    arm_in_deg: tuple[float, float] = (6.0, 6.0)
    elbow_deg: tuple[float, float] = (13.0, 13.0)
    toe_out_deg: tuple[float, float] = (7.0, 7.0)

    def __post_init__(self) -> None:
        """Refuse what nobody can walk like."""
        if not 40 <= self.cadence <= 180:
            raise ValueError(f"cadence: expected 40..180 steps per minute, got {self.cadence}")
        if not 0.1 <= self.step_length <= 1.2:
            raise ValueError(f"step_length: expected 0.1..1.2 leg lengths, got {self.step_length}")
        curves = len(CURVES)
        for name, array, shape in (
            ("amplitude", self.amplitude, (curves,)),
            ("shift", self.shift, (curves,)),
            ("deviation_deg", self.deviation_deg, (curves, NUM_COEFFICIENTS)),
        ):
            if array.shape != shape or not np.all(np.isfinite(array)):
                raise ValueError(f"{name}: expected {shape} finite numbers, got {array.shape}")

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Style:
        """Draw the style of one more person; about one in fifteen walks conspicuously."""
        scale, shift, deviation = _draw_curves(rng)
        style = cls(
            cadence=float(np.clip(rng.normal(110, 8), 84, 136)),
            step_length=float(np.clip(rng.normal(0.71, 0.055), 0.58, 0.92)),
            step_width=float(np.clip(rng.normal(0.12, 0.035), 0.03, 0.24)),
            amplitude=scale,
            shift=shift,
            deviation_deg=deviation,
            bounce_deg=float(rng.normal(0, 2.5)),
            lean_deg=float(rng.normal(3.5, 2.8)),
            side_lean_deg=float(rng.normal(0, 0.9)),
            head_forward_deg=float(rng.normal(9, 5)),
            head_down_deg=float(rng.normal(4, 6)),
            arm_out_deg=_pair(rng, 5.5, 3.5, low=1.0),
            arm_in_deg=_pair(rng, 6, 9),
            elbow_deg=_pair(rng, 14, 8, low=3.0),
            toe_out_deg=_pair(rng, 7, 5),
        )
        return _sometimes_rare(style, rng)

    def coefficients(self) -> NDArray[np.float64]:
        """Return the coefficients of this person's curves, shape (C, K), degrees."""
        own = MEAN_CK + self.deviation_deg
        for name, bounce in BOUNCE_K.items():
            own[CURVES.index(name)] += self.bounce_deg * bounce
        return shifted(own * self.amplitude[:, None], self.shift)

    def speed_m_s(self, leg_length_m: float) -> float:
        """Return the usual speed on legs of this length (hip to floor), metres per second."""
        return self.step_length * leg_length_m * self.cadence / 60


def varied(style: Style, rng: np.random.Generator, share: float) -> Style:
    """Return a person's style on another day.

    Args:
        style: The person's own.
        rng: Where the day comes from.
        share: How much a day changes the curves, in shares of how much two people differ.
    """
    scale, shift, deviation = _draw_curves(rng)
    return replace(
        style,
        amplitude=style.amplitude * (1 + share * (scale - 1)),
        shift=style.shift + share * shift,
        deviation_deg=style.deviation_deg + share * deviation,
    )


def _draw_curves(
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Draw one person's amplitude (C,), shift (C,) and deviation (C, K) of all curves."""
    axial = [_SPREAD[name] for name in AXIAL]
    sided = [_SPREAD[name] for name in SIDED]
    own = rng.standard_normal((len(AXIAL) + len(SIDED), 2 + NUM_COEFFICIENTS))
    aside = _ASYMMETRY * rng.standard_normal((2, len(SIDED), 2 + NUM_COEFFICIENTS))
    person = own[len(AXIAL) :] * np.sqrt(1 - _ASYMMETRY**2)
    units = np.concatenate([own[: len(AXIAL)], person + aside[0], person + aside[1]])
    spread = np.array(axial + sided + sided)
    scale = np.clip(1 + spread[:, 0] * np.clip(units[:, 0], -2.2, 2.5), 0.1, 2.5)
    shift = spread[:, 1] * np.clip(units[:, 1], -2.5, 2.5)
    order = np.arange(1, NUM_HARMONICS + 1)
    falling = np.concatenate([[0.0], 1 / order**1.5, 1 / order**1.5])
    deviation = spread[:, 3:] * falling * np.clip(units[:, 2:], -2.5, 2.5)
    deviation[:, 0] = spread[:, 2] * units[:, 2]
    return scale, shift, _mirrored(deviation)


def _mirrored(deviation_CK: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move what was drawn for the right side's own cycle to where its cycle is."""
    right = len(AXIAL) + len(SIDED)
    half = np.full(len(SIDED), 0.5)
    return np.concatenate([deviation_CK[:right], shifted(deviation_CK[right:], half)])


def _pair(
    rng: np.random.Generator, mean: float, spread: float, *, low: float = -90.0
) -> tuple[float, float]:
    """Draw something of a person that differs a little from left to right."""
    own = rng.normal(mean, spread)
    left, right = np.maximum(own + rng.normal(0, _ASYMMETRY * spread, 2), low)
    return float(left), float(right)


def _sometimes_rare(style: Style, rng: np.random.Generator) -> Style:
    """Make one in fifty each limp, shuffle, and hold the arms still."""
    chance, side = rng.random(), int(rng.integers(2))
    strength = rng.uniform(0.5, 1.0)
    if chance < _RARE:
        return _limping(style, side, strength)
    if chance < 2 * _RARE:
        return _shuffling(style, strength)
    if chance < 3 * _RARE:
        return _scaled(style, {"shoulder": 1 - 0.9 * strength, "elbow": 1 - 0.9 * strength})
    return style


def _scaled(style: Style, factors: dict[str, float], sides: tuple[int, ...] = (0, 1)) -> Style:
    """Multiply the amplitudes of some curves of some sides (0 left, 1 right)."""
    amplitude = style.amplitude.copy()
    for name, factor in factors.items():
        for side in sides:
            amplitude[len(AXIAL) + side * len(SIDED) + SIDED.index(name)] *= factor
    return replace(style, amplitude=amplitude)


def _limping(style: Style, side: int, strength: float) -> Style:
    """Spare one leg: it swings and bends less and late, and the trunk leans over it."""
    less = {"hip": 1 - 0.25 * strength, "knee": 1 - 0.35 * strength, "foot": 1 - 0.35 * strength}
    limp = _scaled(style, less, (side,))
    shift, deviation = limp.shift.copy(), limp.deviation_deg.copy()
    start = len(AXIAL) + side * len(SIDED)
    shift[start : start + len(SIDED)] -= 0.03 * strength
    stance = 2 * np.pi * (0.2 + 0.5 * side)
    over = (-1 if side == 0 else 1) * 4.0 * strength
    bend = AXIAL.index("bend")
    deviation[bend, 1] += over * np.cos(stance)
    deviation[bend, 1 + NUM_HARMONICS] += over * np.sin(stance)
    return replace(limp, shift=shift, deviation_deg=deviation, step_length=style.step_length * 0.85)


def _shuffling(style: Style, strength: float) -> Style:
    """Take short, flat steps, bent forward."""
    less = {name: 1 - 0.35 * strength for name in ("knee", "foot", "toe", "shoulder", "elbow")}
    return replace(
        _scaled(style, less),
        step_length=style.step_length * (1 - 0.35 * strength),
        lean_deg=style.lean_deg + 7 * strength,
        head_down_deg=style.head_down_deg + 8 * strength,
    )
