"""Is somebody who comes back known again? For recordings in which a person has said who is who.

    trial = returning(walks, people)
    score = judge(trial, gei_l2(trial.probe_shapes, trial.gallery_shapes), config)

Every walk is looked for among all others. Walks of the same person in the same track are left out:
that is what `gait.evaluation.halves` asks. So a hit is a person known again after being lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gait.evaluation.halves import Walk, WalkTrial


def returning(walks: Sequence[Walk], people: Sequence[str | None]) -> WalkTrial:
    """Return the trial of all walks by people who come back.

    Args:
        walks: Any walks.
        people: Who each one is; None leaves it out.

    Raises:
        ValueError: There is not one name a walk.
    """
    if len(walks) != len(people):
        raise ValueError(f"people: expected one for each of {len(walks)} walks, got {len(people)}")
    kept = tuple(walk for walk, person in zip(walks, people, strict=True) if person is not None)
    who = np.array([person for person in people if person is not None], dtype=np.str_)
    track = np.array([walk.track for walk in kept], dtype=np.str_)
    one_person = who[:, None] == who
    same = one_person & (track[:, None] != track)
    returns = np.flatnonzero(same.any(axis=1))
    return WalkTrial(
        gallery=kept,
        probes=tuple(kept[row] for row in returns.tolist()),
        same=same[returns],
        different=~one_person[returns],
    )


@dataclass(frozen=True, slots=True, eq=False)
class Sightings:
    """Who stood where, when, as a person saw it: K points in a recording.

    Attributes:
        times_s: Shape (K,), seconds.
        xy: Shape (K, 2), pixels: a point on the body.
        people: Shape (K,), text.
    """

    times_s: NDArray[np.float64]
    xy: NDArray[np.float64]
    people: NDArray[np.str_]

    def who(
        self,
        times_s: NDArray[np.float64],
        xyxy: NDArray[np.float64],
        *,
        agreement: float = 0.8,
        tolerance_s: float = 0.02,
    ) -> str | None:
        """Return whom the boxes of a walk hold, None when nobody is sure.

        Args:
            times_s: Shape (T,): of the boxes.
            xyxy: Shape (T, 4): the boxes.
            agreement: Least share of the boxes with a point that hold the same person. Higher
                leaves out more walks of a track that went over to another person.
            tolerance_s: How far in time a point may be from its box.
        """
        held = []
        for time_s, box in zip(times_s.tolist(), xyxy, strict=True):
            middle = (box[:2] + box[2:]) / 2
            inside = ((self.xy >= box[:2]) & (self.xy <= box[2:])).all(axis=1)
            rows = np.flatnonzero(inside & (np.abs(self.times_s - time_s) <= tolerance_s))
            if len(rows):
                nearest = np.linalg.norm(self.xy[rows] - middle, axis=1).argmin()
                held.append(str(self.people[rows[nearest]]))
        if not held:
            return None
        person, count = Counter(held).most_common(1)[0]
        return person if count >= agreement * len(held) else None
