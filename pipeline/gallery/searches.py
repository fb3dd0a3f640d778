"""Searches in galleries drawn from people (or tracks) of whom the truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.gallery.calibration import Calibration
from pipeline.gallery.comparisons import GENUINE, IMPOSTOR, Comparisons

_BINS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Searches:
    """What some searches found, and whether it was right.

    Attributes:
        nearest: Shape (M,): distance to the nearest person.
        runner_up: Shape (M,): to the next; NaN where there was nobody else.
        qualities: Shape (M,): the lower of probe's and exemplar's; NaN where nobody knows.
        num_people: Shape (M,), int64: among how many.
        num_exemplars: Shape (M,), int64: of all people together.
        is_known: Shape (M,), bool: whether the person was in the gallery.
        is_right: Shape (M,), bool: whether the nearest person was the one.
    """

    nearest: NDArray[np.float64]
    runner_up: NDArray[np.float64]
    qualities: NDArray[np.float64]
    num_people: NDArray[np.int64]
    num_exemplars: NDArray[np.int64]
    is_known: NDArray[np.bool_]
    is_right: NDArray[np.bool_]

    def probabilities(self, calibration: Calibration) -> NDArray[np.float64]:
        """Return what a calibration says of each."""
        rows = zip(self.nearest, self.runner_up, self.qualities, self.num_people, strict=True)
        return np.array(
            [
                calibration.probability(
                    float(nearest),
                    runner_up=None if np.isnan(runner_up) else float(runner_up),
                    quality=None if np.isnan(quality) else float(quality),
                    num_people=int(people),
                )
                for nearest, runner_up, quality, people in rows
            ]
        )

    def misses(self, calibration: Calibration, false_positive_rate: float) -> tuple[float, float]:
        """Return FPIR and FNIR at the threshold a calibration gives for a rate."""
        sizes = np.unique(self.num_exemplars)
        limits = [calibration.threshold(false_positive_rate, int(n)).distance for n in sizes]
        is_near = self.nearest <= np.array(limits)[np.searchsorted(sizes, self.num_exemplars)]
        known = self.is_known
        return float(is_near[~known].mean()), float(1 - (is_near & self.is_right)[known].mean())


def draw_searches(
    comparisons: Comparisons,
    count: int,
    rng: np.random.Generator,
    *,
    people: tuple[int, int] = (1, 100),
    exemplars: tuple[int, int] = (1, 3),
) -> Searches:
    """Return searches in drawn galleries; in every second one the person searched for is in.

    Args:
        comparisons: Of whom galleries and probes are drawn.
        count: How many.
        rng: Draws.
        people: Fewest and most people of a gallery, drawn evenly on a logarithmic scale; no more
            than a probe is compared with.
        exemplars: Fewest and most tracklets of each.

    Raises:
        ValueError: No probe has both tracklets of its own and of others.
    """
    lottery = _Lottery.of(comparisons, rng)
    rows = [lottery.search(number % 2 == 0, people, exemplars) for number in range(count)]
    found = np.array(rows, dtype=np.float64).reshape(-1, 7).T
    return Searches(
        *found[:3],
        *found[3:5].astype(np.int64),
        *found[5:].astype(np.bool_),
    )


def expected_calibration_error(
    probabilities: NDArray[np.float64], is_right: NDArray[np.bool_]
) -> float:
    """Return how far probabilities are from frequencies, over ten bins of as many searches each."""
    bins = np.array_split(np.argsort(probabilities, kind="stable"), _BINS)
    gaps = [
        len(each) * abs(probabilities[each].mean() - is_right[each].mean())
        for each in bins
        if len(each)
    ]
    return float(sum(gaps) / len(probabilities))


@dataclass(frozen=True, slots=True, eq=False)
class _Lottery:
    """Draws galleries and probes."""

    comparisons: Comparisons
    rng: np.random.Generator
    rows: NDArray[np.intp]  # by group
    starts: NDArray[np.int64]  # of each group in `rows`
    counts: NDArray[np.int64]
    probes: NDArray[np.intp]  # with tracklets of their own, and of others

    @classmethod
    def of(cls, comparisons: Comparisons, rng: np.random.Generator) -> _Lottery:
        groups = comparisons.groups
        counts = np.bincount(groups)
        kinds = comparisons.kinds
        usable = (kinds == GENUINE).any(axis=1) & (kinds == IMPOSTOR).any(axis=1)
        if not usable.any():
            raise ValueError("comparisons: expected probes with pairs of both kinds, got none")
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        order = np.argsort(groups, kind="stable")
        return cls(comparisons, rng, order, starts, counts, np.flatnonzero(usable))

    def search(
        self, is_known: bool, people: tuple[int, int], exemplars: tuple[int, int]
    ) -> tuple[float, ...]:
        probe = int(self.rng.choice(self.probes))
        others = np.unique(self.comparisons.groups[self.comparisons.kinds[probe] == IMPOSTOR])
        most = min(people[1], len(others) + int(is_known))
        fewest = min(people[0], most)
        size = round(float(np.exp(self.rng.uniform(np.log(fewest), np.log(most)))))
        chosen = self.rng.choice(others, size - int(is_known), replace=False)
        gallery = self._exemplars(chosen, exemplars)
        if is_known:
            own = np.flatnonzero(self.comparisons.kinds[probe] == GENUINE)
            gallery.insert(0, self.rng.choice(own, self._few(exemplars)))
        return self._found(probe, gallery, is_known)

    def _few(self, exemplars: tuple[int, int]) -> int:
        return int(self.rng.integers(exemplars[0], exemplars[1] + 1))

    def _exemplars(
        self, groups: NDArray[np.int64], exemplars: tuple[int, int]
    ) -> list[NDArray[np.intp]]:
        """Return some tracklets of each."""
        share = self.rng.random((len(groups), exemplars[1]))
        places = self.starts[groups, None] + (share * self.counts[groups, None]).astype(np.int64)
        few = self.rng.integers(exemplars[0], exemplars[1] + 1, len(groups))
        return [row[:count] for row, count in zip(self.rows[places], few, strict=True)]

    def _found(
        self, probe: int, gallery: list[NDArray[np.intp]], is_known: bool
    ) -> tuple[float, ...]:
        everything = np.concatenate(gallery)
        owners = np.repeat(np.arange(len(gallery)), [len(each) for each in gallery])
        distances = self.comparisons.distances[probe, everything]
        best = int(np.argmin(distances))
        rest = distances[owners != owners[best]]
        qualities = self.comparisons.qualities
        quality = (
            np.nan if qualities is None else min(qualities[probe], qualities[everything[best]])
        )
        return (
            float(distances[best]),
            float(rest.min()) if len(rest) else np.nan,
            float(quality),
            len(gallery),
            len(np.unique(everything)),
            is_known,
            is_known and owners[best] == 0,
        )
