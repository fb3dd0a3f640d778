"""Does the second half of a walk find its own first half? Recognition without identity labels.

A person equals himself, and people seen at the same time are different people. So of every walk
the first part goes into the gallery and the last part is looked for, among those who were in view
at the same time:

    trial = cut_halves(walks, config)
    score = judge(trial, gei_l2(trial.probe_shapes, trial.gallery_shapes), config)
    score.rank1.value, score.eer.value

Rank-1: share of probes nearer to their own walk than to every other they were in view with; a tie
is a miss. EER: rate at which as many own pairs are farther than a threshold as pairs of two people
are within it. A probe whose walk was in view with no other counts in neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gait.evaluation.openset import Estimate, interval
from gait.strict import StrictModel

_DIGITS = 9


class HalvesConfig(StrictModel):
    """How walks are cut and compared.

    Attributes:
        share: Share of a walk's silhouettes at either end that is used, at most a half. Lower
            makes the two parts differ more in place, view and size, at the price of fewer
            silhouettes.
        gap_s: Least time in seconds between the two parts. Higher makes sure that they share no
            pose, at the price of fewer silhouettes.
        min_silhouettes: Fewest silhouettes of each part. Higher judges surer descriptions, at the
            price of fewer people.
        window: Silhouettes of one sequence: each part is cut into as many whole ones as it holds,
            as the pipeline does. None takes each part as one sequence.
        swapped: Whether the last parts are the gallery and the first ones looked for.
        together_s: Least time in seconds that two walks must both be in view to count as two
            people. Higher is safer against tracks that go over to each other, at the price of
            fewer pairs.
        resamples: Bootstrap samples.
        confidence: Share of the bootstrap that an interval holds.
        seed: Of the bootstrap's random numbers; equal for all methods, which pairs their errors.
    """

    share: float = Field(default=0.5, gt=0, le=0.5)
    gap_s: float = Field(default=1.0, ge=0)
    min_silhouettes: int = Field(default=20, ge=1)
    window: int | None = Field(default=None, ge=1)
    swapped: bool = False
    together_s: float = Field(default=2.0, ge=0)
    resamples: int = Field(default=2000, ge=1)
    confidence: float = Field(default=0.95, gt=0, lt=1)
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """The silhouettes of one person over some time.

    Attributes:
        name: Unique.
        track: Whose track it is cut from; walks of one track are resampled together.
        silhouettes: Shape (T, 64, 44), uint8.
        times_s: Shape (T,), rising seconds on a clock common to all walks.
        feet_xy: Shape (T, 2): where the person stood in the picture, in pixels.
        seen_s: When the person was first and last in view.
    """

    name: str
    track: str
    silhouettes: NDArray[np.uint8]
    times_s: NDArray[np.float64]
    feet_xy: NDArray[np.float64]
    seen_s: tuple[float, float]

    def __post_init__(self) -> None:
        lengths = len(self.silhouettes), len(self.times_s), len(self.feet_xy)
        if len(set(lengths)) != 1:
            raise ValueError(
                f"walk {self.name}: expected as many silhouettes as times and feet, got {lengths}"
            )

    def frames(self, chosen: NDArray[np.bool_]) -> Walk:
        """Return the same walk with only the chosen silhouettes; `chosen` has shape (T,)."""
        return replace(
            self,
            silhouettes=self.silhouettes[chosen],
            times_s=self.times_s[chosen],
            feet_xy=self.feet_xy[chosen],
        )


@dataclass(frozen=True, slots=True, eq=False)
class WalkTrial:
    """What is looked for among what.

    Attributes:
        gallery: G walks or pieces of walks.
        probes: P of them.
        same: Shape (P, G), bool: the pairs that are one person and count.
        different: Shape (P, G), bool: the pairs that are two people and count.
    """

    gallery: tuple[Walk, ...]
    probes: tuple[Walk, ...]
    same: NDArray[np.bool_]
    different: NDArray[np.bool_]

    @property
    def gallery_shapes(self) -> list[NDArray[np.uint8]]:
        """The silhouettes of each piece of the gallery."""
        return [piece.silhouettes for piece in self.gallery]

    @property
    def probe_shapes(self) -> list[NDArray[np.uint8]]:
        """The silhouettes of each probe."""
        return [piece.silhouettes for piece in self.probes]

    @property
    def chance(self) -> float:
        """Rank-1 of guessing; NaN without probes."""
        right, wrong = self.same.sum(axis=1), self.different.sum(axis=1)
        return float((right / (right + wrong)).mean()) if len(right) else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class WalkScore:
    """How well one method finds the first halves.

    Attributes:
        rank1: Share of probes that found their own walk; interval by resampling tracks.
        eer: The equal error rate; likewise.
        hits: Shape (P,), bool.
    """

    rank1: Estimate
    eer: Estimate
    hits: NDArray[np.bool_]


def cut_halves(walks: Sequence[Walk], config: HalvesConfig) -> WalkTrial:
    """Return the trial of some walks; those too short or never in company are left out."""
    parts = [_parts(walk, config) for walk in walks]
    least = config.min_silhouettes
    usable = [i for i, both in enumerate(parts) if all(len(p.times_s) >= least for p in both)]
    together = _together([walks[i] for i in usable], config.together_s)
    social = np.flatnonzero(together.any(axis=1)).tolist()
    first = [_windows(parts[usable[i]][0], config.window) for i in social]
    last = [_windows(parts[usable[i]][1], config.window) for i in social]
    gallery_walk, probe_walk = (
        np.repeat(np.array(social, dtype=np.int64), [len(pieces) for pieces in some])
        for some in (first, last)
    )
    return WalkTrial(
        gallery=tuple(each for some in first for each in some),
        probes=tuple(each for some in last for each in some),
        same=np.asarray(probe_walk[:, None] == gallery_walk, dtype=np.bool_),
        different=together[np.ix_(probe_walk, gallery_walk)],
    )


def judge(trial: WalkTrial, distances: NDArray[np.floating], config: HalvesConfig) -> WalkScore:
    """Return how well a method does.

    Args:
        trial: What was looked for.
        distances: Shape (P, G): of each probe to each sequence of the gallery.
        config: Of the bootstrap.

    Raises:
        ValueError: The distances do not fit the trial, or one is not a number.
    """
    expected = (len(trial.probes), len(trial.gallery))
    if distances.shape != expected or not np.isfinite(distances).all():
        raise ValueError(
            f"distances: expected finite numbers of shape {expected}, got shape {distances.shape}"
        )
    own = np.where(trial.same, distances, np.inf).min(axis=1, initial=np.inf)
    other = np.where(trial.different, distances, np.inf).min(axis=1, initial=np.inf)
    hits = own < other
    weights = _resampled(trial, config)
    errors = _equal_error(trial, distances, np.vstack([np.ones(len(hits)), weights]))
    return WalkScore(
        rank1=interval(_mean_of(hits), _mean(hits, weights), config.confidence),
        eer=interval(float(errors[0]), errors[1:], config.confidence),
        hits=hits,
    )


def gain(trial: WalkTrial, score: WalkScore, baseline: WalkScore, config: HalvesConfig) -> Estimate:
    """Return how much more Rank-1 a method has than a baseline on the same probes.

    The interval is that of the difference: what is hard for both does not widen it.
    """
    better = score.hits.astype(np.float64) - baseline.hits
    weights = _resampled(trial, config)
    return interval(_mean_of(better), _mean(better, weights), config.confidence)


def _parts(walk: Walk, config: HalvesConfig) -> tuple[Walk, Walk]:
    """Return the first and the last part of a walk."""
    if not len(walk.times_s):
        return walk, walk
    low, high = np.quantile(walk.times_s, [config.share, 1 - config.share])
    middle = (low + high) / 2
    first = walk.frames(walk.times_s < min(low, middle - config.gap_s / 2))
    last = walk.frames(walk.times_s >= max(high, middle + config.gap_s / 2))
    return (last, first) if config.swapped else (first, last)


def _windows(part: Walk, window: int | None) -> list[Walk]:
    """Return the part cut into whole windows; a part shorter than one stays as it is."""
    length = len(part.times_s)
    if window is None or length < window:
        return [part]
    window_of = np.arange(length) // window
    return [part.frames(window_of == index) for index in range(length // window)]


def _together(walks: Sequence[Walk], together_s: float) -> NDArray[np.bool_]:
    seen = np.array([walk.seen_s for walk in walks]).reshape(-1, 2)
    common = np.minimum(seen[:, None, 1], seen[:, 1]) - np.maximum(seen[:, None, 0], seen[:, 0])
    return np.asarray((common >= together_s) & ~np.eye(len(walks), dtype=bool))


def _resampled(trial: WalkTrial, config: HalvesConfig) -> NDArray[np.float64]:
    """Return how often each probe counts in each bootstrap sample, shape (resamples, P)."""
    if not trial.probes:
        return np.zeros((config.resamples, 0))
    tracks = np.unique([probe.track for probe in trial.probes], return_inverse=True)[1]
    count = int(tracks.max()) + 1
    drawn = np.random.default_rng(config.seed).multinomial(
        count, np.full(count, 1 / count), size=config.resamples
    )
    return drawn[:, tracks].astype(np.float64)


def _mean_of(values: NDArray[np.generic]) -> float:
    return float(_mean(values, np.ones((1, len(values))))[0])


def _mean(values: NDArray[np.generic], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weighted mean of values under each row of weights; NaN where all are 0."""
    with np.errstate(invalid="ignore"):
        return np.asarray(weights @ values.astype(np.float64) / weights.sum(axis=1))


def _equal_error(
    trial: WalkTrial, distances: NDArray[np.floating], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the equal error rate under each row of weights of the probes."""
    thresholds, steps = np.unique(distances, return_inverse=True)
    steps = steps.reshape(distances.shape)
    shares = []
    for chosen in (trial.same, trial.different):
        probes, columns = np.nonzero(chosen)
        if not len(probes):
            return np.full(len(weights), np.nan)
        at = steps[probes, columns]
        order = np.argsort(at, kind="stable")
        running = np.cumsum(weights[:, probes[order]], axis=1)
        upto = np.searchsorted(at[order], np.arange(len(thresholds)), side="right")
        padded = np.pad(running, ((0, 0), (1, 0)))
        with np.errstate(invalid="ignore"):
            shares.append(padded[:, upto] / running[:, -1:])
    accepted, mistaken = shares
    missed = 1 - accepted
    # rounded, so that of thresholds that are as good the nearest wins and not a rounding error
    best = np.abs(missed - mistaken).round(_DIGITS).argmin(axis=1)[:, None]
    both = np.take_along_axis(missed, best, 1) + np.take_along_axis(mistaken, best, 1)
    return np.asarray(both[:, 0] / 2)
