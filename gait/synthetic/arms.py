"""What people do with their arms while they walk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray


class ArmUse(StrEnum):
    """What an arm does."""

    SWING = "swing"
    """It swings."""
    HOLD_SIDE = "hold_side"
    """It hangs and holds something heavy, such as a bag: it hardly swings."""
    HOLD_FRONT = "hold_front"
    """The forearm is held out in front, as under a box."""
    RAISED = "raised"
    """The hand is near the head: a phone, an umbrella."""
    POCKET = "pocket"
    """The hand is in a pocket."""


@dataclass(frozen=True, slots=True)
class Arms:
    """What the two arms do."""

    left: ArmUse = ArmUse.SWING
    right: ArmUse = ArmUse.SWING


@dataclass(frozen=True, slots=True)
class Hold:
    """How an arm is held.

    Attributes:
        swing: Share of its swing that it keeps.
        forward: How far the upper arm is held forward, degrees.
        out: How far the upper arm is held from the body, degrees.
        inwards: How far the forearm is turned inwards, degrees.
        elbow: How far the elbow is bent, degrees.
    """

    swing: float
    forward: float
    out: float
    inwards: float
    elbow: float


_HOLDS: Final[dict[ArmUse, Hold]] = {
    ArmUse.HOLD_SIDE: Hold(swing=0.2, forward=-2, out=6, inwards=10, elbow=6),
    ArmUse.HOLD_FRONT: Hold(swing=0.06, forward=14, out=8, inwards=12, elbow=80),
    ArmUse.RAISED: Hold(swing=0.06, forward=36, out=16, inwards=2, elbow=128),
    ArmUse.POCKET: Hold(swing=0.15, forward=-20, out=14, inwards=32, elbow=48),
}
HOLD_SPREAD_DEG = 5.0
"""How differently both arms are held from one walk to the next, one standard deviation."""
_HOLD_ASIDE_DEG = 1.0


def held(use: ArmUse, moved: NDArray[np.float64], rng: np.random.Generator) -> Hold | None:
    """Return how somebody holds an arm this time; None where it swings.

    Args:
        use: What the arm does.
        moved: By how much both arms are held otherwise than usual, shape (4,), degrees.
        rng: Where the difference between the arms comes from.
    """
    forward, out, inwards, elbow = moved + _HOLD_ASIDE_DEG * rng.standard_normal(4)
    if use is ArmUse.SWING:
        return None
    hold = _HOLDS[use]
    return replace(
        hold,
        forward=hold.forward + forward,
        out=hold.out + 0.5 * out,
        inwards=hold.inwards + inwards,
        elbow=hold.elbow + elbow,
    )
