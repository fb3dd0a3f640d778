"""SynthGait-Lab: who walks how often past which of eleven cameras, as in CASIA-B.

Subjects 001 to 074 train and 075 to 124 test, also when there are fewer people: the first of each
group are left, so the rule of CASIA-B splits them rightly.
"""

from __future__ import annotations

from gait.data.dataset import SequenceKey
from gait.synthetic.outfit import Condition
from gait.synthetic.plan import Manner, Plan, Subject, View, Walk

VIEWS = tuple(range(0, 181, 18))
"""Angle between the line of walking and the camera: 0 is from ahead, 90 from the side."""

CONDITIONS = (
    *((f"nm-{number:02d}", Condition.NORMAL) for number in range(1, 7)),
    *((f"bg-{number:02d}", Condition.BAG) for number in (1, 2)),
    *((f"cl-{number:02d}", Condition.COAT) for number in (1, 2)),
)

NUM_TRAIN = 74
MAX_PEOPLE = 124

_FPS = 25.0
_DISTANCE_M = 9.0


def plan_lab(
    seed: int,
    num_people: int,
    *,
    num_frames: int,
    noise: float,
    pitch: float,
    height_px: float,
) -> Plan:
    """Return the plan of SynthGait-Lab; the arguments are explained at `LabRecipe`."""

    def walk(index: int, number: int) -> Walk:
        name, condition = CONDITIONS[number]
        views = tuple(
            View(
                SequenceKey(f"{index + 1:03d}", name, f"{azimuth:03d}"),
                azimuth,
                pitch,
                _DISTANCE_M,
                height_px,
                (seed, index, number, azimuth),
                noise=noise,
            )
            for azimuth in VIEWS
        )
        # one visit to the laboratory: the clothes stay the same but for the coat
        return Walk(0, condition, Manner.STRAIGHT, _FPS, num_frames, (seed, index, number), views)

    indices = _indices(num_people)
    subjects = tuple(
        Subject(f"{i + 1:03d}", i, tuple(walk(i, number) for number in range(len(CONDITIONS))))
        for i in indices
    )
    partition = {
        "TRAIN_SET": [each.name for each in subjects if each.index < NUM_TRAIN],
        "TEST_SET": [each.name for each in subjects if each.index >= NUM_TRAIN],
    }
    return Plan(seed, subjects, {"partition.json": partition})


def _indices(num_people: int) -> list[int]:
    """Return who is there: of both groups the same share, and at least one."""
    num_train = min(max(1, round(num_people * NUM_TRAIN / MAX_PEOPLE)), num_people - 1)
    return [*range(num_train), *range(NUM_TRAIN, NUM_TRAIN + num_people - num_train)]
