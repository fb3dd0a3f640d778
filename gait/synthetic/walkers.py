"""The people of the synthetic data sets: who they are follows from a seed and a number alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from gait.synthetic.bodies import Bodies, Body
from gait.synthetic.outfit import Clothes, Habits
from gait.synthetic.style import Style

# numpy fills short seeds up with zeros: these streams are also those of the plans of a person's
# first four walks (`wild._walk`). Two people share none. Raise them with the next `write.FORMAT`.
_BODY, _STYLE, _HABITS, _CLOTHES = range(4)


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """Somebody who walks.

    Attributes:
        seed: Of everybody.
        index: Which person.
        body: Their shape, undressed.
        style: How they walk.
        habits: How they dress.
    """

    seed: int
    index: int
    body: Body
    style: Style
    habits: Habits

    def clothes(self, session: int) -> Clothes:
        """Return what the person wears in a session, the same whenever it is asked."""
        rng = np.random.default_rng([self.seed, self.index, _CLOTHES, session])
        return Clothes.sample(self.habits, rng)


def person(seed: int, index: int) -> Person:
    """Return person number `index` of a seed: the same, however many others are made.

    Body, style and habits are drawn apart, so none tells of another.

    Raises:
        DataError: The baked bodies cannot be read.
    """
    rngs = [np.random.default_rng([seed, index, each]) for each in (_BODY, _STYLE, _HABITS)]
    return Person(
        seed,
        index,
        _bodies().sample(rngs[0]),
        Style.sample(rngs[1]),
        Habits.sample(rngs[2]),
    )


@cache
def _bodies() -> Bodies:
    return Bodies.load()
