"""SynthGait-Wild: who walks where, wearing what, seen how.

People who test are drawn apart from those who train, so more of one leave the other as they are.
They walk additionally where no training view was: `partition-unseen-views.json` has those as
probes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from gait.data.dataset import SequenceKey
from gait.synthetic.outfit import Condition
from gait.synthetic.plan import Band, Manner, Occluder, Plan, Subject, View, Walk

T = TypeVar("T")

FIRST_TEST_PERSON = 1_000_000
"""Index of the first person who tests."""

_UNSEEN_WALKS = 2
_PROBES = 0.25
_MANNERS = {
    Manner.STRAIGHT: 0.5,
    Manner.WANDERING: 0.25,
    Manner.TURN: 0.12,
    Manner.STOP_AND_GO: 0.13,
}
_OCCLUDERS = {Occluder.POST: 0.35, Occluder.LOW: 0.3, Occluder.PASSER_BY: 0.35}


@dataclass(frozen=True, slots=True)
class WildRanges:
    """What walks are drawn from; the fields are explained at `WildRecipe`."""

    num_sequences: int
    num_frames: int
    num_sessions: int
    pitch: tuple[float, float]
    height_px: tuple[float, float]
    fps: tuple[float, ...]
    occlusion: float
    drop: float
    conditions: Mapping[Condition, float]
    noise: tuple[float, float]
    unseen: Band


def plan_wild(seed: int, num_train: int, num_test: int, ranges: WildRanges) -> Plan:
    """Return the plan of SynthGait-Wild; the numbers are explained at `WildRecipe`."""
    train = [_subject(seed, index, ranges, is_test=False) for index in range(num_train)]
    test = [
        _subject(seed, FIRST_TEST_PERSON + index, ranges, is_test=True) for index in range(num_test)
    ]
    sides = {
        "TRAIN_SET": [each.name for each in train],
        "TEST_SET": [each.name for each in test],
    }
    probes = [key for each in test for key in _probes(seed, each, ranges.num_sequences)]
    unseen = [str(key) for each in test for key in each.keys[ranges.num_sequences :]]
    partitions = {
        "partition.json": {**sides, "PROBE_SET": probes},
        "partition-unseen-views.json": {**sides, "PROBE_SET": unseen},
    }
    return Plan(seed, (*train, *test), partitions)


def _subject(seed: int, index: int, ranges: WildRanges, *, is_test: bool) -> Subject:
    name = f"t{index - FIRST_TEST_PERSON:05d}" if is_test else f"{index:05d}"
    number = ranges.num_sequences + (_UNSEEN_WALKS if is_test else 0)
    walks = tuple(
        _walk(
            name, (seed, index, serial), ranges, is_test, is_unseen=serial >= ranges.num_sequences
        )
        for serial in range(number)
    )
    return Subject(name, index, walks)


def _walk(
    name: str, seed: tuple[int, int, int], ranges: WildRanges, is_test: bool, *, is_unseen: bool
) -> Walk:
    rng = np.random.default_rng([*seed, 0])
    serial = seed[2]
    condition = _drawn(ranges.conditions, rng)
    manner = Manner.STRAIGHT if is_unseen else _drawn(_MANNERS, rng)
    azimuth, pitch = _unseen_view(ranges.unseen, rng) if is_unseen else _view(ranges, rng)
    view = View(
        SequenceKey(
            name, f"{condition}-{serial:03d}", f"a{round(azimuth) % 360:03d}p{round(pitch):02d}"
        ),
        azimuth,
        pitch,
        float(np.exp(rng.uniform(np.log(6.0), np.log(30.0)))),
        float(np.exp(rng.uniform(*np.log(ranges.height_px)))),
        (*seed, 1),
        occluder=_drawn(_OCCLUDERS, rng) if rng.random() < ranges.occlusion else None,
        noise=float(rng.uniform(*ranges.noise)),
        drop=float(rng.uniform(0.0, ranges.drop)) if rng.random() < 0.5 else 0.0,
        avoided=None if is_test else ranges.unseen,
    )
    return Walk(
        session=serial % ranges.num_sessions,
        condition=condition,
        manner=manner,
        fps=float(rng.choice(ranges.fps)),
        num_frames=int(rng.integers((ranges.num_frames + 1) // 2, ranges.num_frames + 1)),
        seed=(*seed, 2),
        views=(view,),
    )


def _view(ranges: WildRanges, rng: np.random.Generator) -> tuple[float, float]:
    """Return azimuth and pitch outside the band, most pitches in the middle of their range."""
    low, high = ranges.pitch
    while True:
        view = float(rng.uniform(0.0, 360.0)), float(low + (high - low) * rng.beta(1.5, 1.3))
        if not ranges.unseen.holds(*view):
            return view


def _unseen_view(band: Band, rng: np.random.Generator) -> tuple[float, float]:
    folded = rng.uniform(*band.azimuth)
    azimuth = float(rng.choice([folded, 180.0 - folded, 180.0 + folded, 360.0 - folded]))
    return azimuth, float(rng.uniform(*band.pitch))


def _probes(seed: int, subject: Subject, num_seen: int) -> list[str]:
    """Return which seen walks of a person are probes: a quarter and at least one, never all."""
    rng = np.random.default_rng([seed, subject.index, 3])
    keys = subject.keys[:num_seen]
    chosen = rng.choice(num_seen, max(1, int(num_seen * _PROBES)), replace=False)
    return sorted(str(keys[each]) for each in chosen)


def _drawn(weights: Mapping[T, float], rng: np.random.Generator) -> T:
    shares = np.array(list(weights.values()), np.float64)
    return list(weights)[int(rng.choice(len(shares), p=shares / shares.sum()))]
