"""A planned walk as a motion: which path, at which pace, with which arms."""

from __future__ import annotations

from typing import assert_never

import numpy as np

from gait.synthetic.motion import walk as moved
from gait.synthetic.outfit import Dressed
from gait.synthetic.paths import Pace, Path2D
from gait.synthetic.plan import Manner, Walk
from gait.synthetic.skeleton import Motion
from gait.synthetic.style import Style

_USUAL_SPEED = 1.3  # metres a second, only to place corners about the middle of a walk


def stroll(style: Style, clad: Dressed, walk: Walk, rng: np.random.Generator) -> Motion:
    """Return the motion of a planned walk.

    Args:
        style: How the person walks.
        clad: The person, dressed; what is carried settles the arms.
        walk: The plan.
        rng: Draws the path and what differs between two walks of a person.
    """
    time_s = np.arange(walk.num_frames) / walk.fps
    return moved(
        style,
        leg_length_m=clad.body.leg_length_m,
        time_s=time_s,
        rng=rng,
        path=_path(walk.manner, max(float(time_s[-1]), 0.5), rng),
        arms=clad.arms,
    )


def _path(manner: Manner, duration_s: float, rng: np.random.Generator) -> Path2D:
    length = duration_s * _USUAL_SPEED
    match manner:
        case Manner.STRAIGHT:
            return Path2D.straight()
        case Manner.WANDERING:
            if rng.random() < 0.5:
                return Path2D.s_curve(
                    length_m=float(rng.uniform(4.0, 10.0)), swing=float(rng.uniform(0.15, 0.6))
                )
            radius = float(rng.uniform(4.0, 15.0))
            return Path2D.arc(radius_m=radius, angle=_either(rng) * max(length / radius, 0.1))
        case Manner.TURN:
            return Path2D.turn(
                before_m=length * float(rng.uniform(0.2, 0.8)),
                angle=_either(rng) * float(rng.uniform(0.5, 2.2)),
            )
        case Manner.STOP_AND_GO:
            return Path2D.straight().paced(_pace(duration_s, rng))
    assert_never(manner)


def _pace(duration_s: float, rng: np.random.Generator) -> Pace:
    """Return a stop somewhere in the walk, or a change of speed."""
    if rng.random() < 0.5:
        return Pace.stop_and_go(
            go_s=duration_s * float(rng.uniform(0.1, 0.6)),
            stop_s=float(rng.uniform(0.3, 1.5)),
            ramp_s=float(rng.uniform(0.5, 1.0)),
        )
    shares = rng.uniform(0.6, 1.3, 3)
    times = np.array([0.0, 0.5, 1.0]) * duration_s
    return Pace(tuple(times.tolist()), tuple(shares.tolist()))


def _either(rng: np.random.Generator) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0
