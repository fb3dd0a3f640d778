"""Open-set identification: what a system does about people who are not in its gallery.

Every probe is searched twice: in the whole gallery, where its subject is enrolled, and in the
gallery without its subject, where every answer is wrong (leave-one-subject-out). So all probes
serve both rates and no random split is needed. With T the threshold on the distance
(ISO/IEC 19795-1; NIST FRVT 1:N, rank 1):

    FPIR(T) = share of searches without the subject whose nearest sequence is at distance <= T
    FNIR(T) = share of searches with the subject whose nearest sequence is another subject's, or
              is farther than T

A tie between the subject and another one is a miss. FNIR ends at 1 - Rank-1, not at 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gait.strict import StrictModel

_POINTS_IN_JSON = 200
_ROUNDING = 1e-12  # a sum of shares may miss the target by a rounding error


class OpenSetConfig(StrictModel):
    """Which operating points are reported, and how sure of them to be.

    Attributes:
        fpir_targets: Rates of false alarms, each in 0..1, to find a threshold for. Lower raises
            fewer false alarms, at the price of more people missed.
        resamples: Bootstrap samples. Higher gives steadier intervals, at the price of time.
        confidence: Share of the bootstrap that an interval holds. Higher gives wider intervals.
        seed: Of the bootstrap's random numbers.
    """

    fpir_targets: tuple[float, ...] = (0.01, 0.001)
    resamples: int = Field(default=1000, ge=1)
    confidence: float = Field(default=0.95, gt=0, lt=1)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its bootstrap confidence interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What a target rate of false alarms costs.

    Attributes:
        fpir_target: The rate that is not to be exceeded.
        threshold: The largest distance that keeps it; nearer or as near is accepted.
        fnir: The share of enrolled people missed at that threshold.
        is_resolved: False when there are too few searches for even one false alarm: the threshold
            then merely allows none.
    """

    fpir_target: float
    threshold: Estimate
    fnir: Estimate
    is_resolved: bool


@dataclass(frozen=True, slots=True, eq=False)
class OpenSet:
    """The open-set figures of one condition.

    Attributes:
        name: The condition; empty when there is only one.
        num_mated: Searches with the subject enrolled.
        num_unmated: Searches without.
        points: One a target.
        eer: The rate where FPIR and FNIR meet.
        eer_threshold: The distance at which they do.
        thresholds: Shape (K,), rising: the DET curve's thresholds.
        fpir: Shape (K,): at each threshold.
        fnir: Shape (K,): at each threshold.
    """

    name: str
    num_mated: int
    num_unmated: int
    points: tuple[OperatingPoint, ...]
    eer: Estimate
    eer_threshold: Estimate
    thresholds: NDArray[np.float64]
    fpir: NDArray[np.float64]
    fnir: NDArray[np.float64]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON content; the DET curve thinned to some 200 points."""
        kept = _thinned(self.fpir)
        return {
            "name": self.name,
            "num_mated": self.num_mated,
            "num_unmated": self.num_unmated,
            "eer": _estimate(self.eer),
            "eer_threshold": _estimate(self.eer_threshold),
            "points": [
                {
                    "fpir_target": point.fpir_target,
                    "threshold": _estimate(point.threshold),
                    "fnir": _estimate(point.fnir),
                    "is_resolved": point.is_resolved,
                }
                for point in self.points
            ],
            "det": {
                "threshold": self.thresholds[kept].tolist(),
                "fpir": self.fpir[kept].tolist(),
                "fnir": self.fnir[kept].tolist(),
            },
        }


def open_set(
    name: str,
    distances: NDArray[np.float64],
    subjects: NDArray[np.str_],
    config: OpenSetConfig,
    rng: np.random.Generator,
) -> OpenSet:
    """Return the open-set figures of some probes.

    Intervals are percentiles over resampled subjects, with all their probes: probes of one
    subject fail together, and resampling them one by one would promise too much.

    Args:
        name: The condition.
        distances: Shape (N, 2): to the nearest sequence of the same subject and of another;
            infinite where there is none.
        subjects: Shape (N,): whose probe it is.
        config: What to report.
        rng: Draws the bootstrap.
    """
    events = _Events.of(distances)
    curve = events.curve(np.ones(len(distances)))
    codes = np.unique(subjects, return_inverse=True)[1]
    drawn = rng.multinomial(
        codes.max(initial=0) + 1,
        np.full(codes.max(initial=0) + 1, 1 / (codes.max(initial=0) + 1)),
        size=config.resamples,
    )
    values = _figures(curve, config)
    samples = np.array([_figures(events.curve(each[codes]), config) for each in drawn])
    estimates = [
        interval(value, sample, config.confidence)
        for value, sample in zip(values, samples.T, strict=True)
    ]
    num_unmated = int(np.isfinite(distances[:, 1]).sum())
    return OpenSet(
        name,
        int(np.isfinite(distances[:, 0]).sum()),
        num_unmated,
        tuple(
            OperatingPoint(
                target,
                estimates[2 + 2 * index],
                estimates[3 + 2 * index],
                target * num_unmated >= 1 - _ROUNDING,
            )
            for index, target in enumerate(config.fpir_targets)
        ),
        estimates[0],
        estimates[1],
        *curve,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Events:
    """The distances at which a rate changes, sorted once for all the bootstrap's samples.

    Attributes:
        thresholds: Shape (K,): the distinct distances.
        alarms: Shape (A,): probes in the order of their false alarms.
        alarm_steps: Shape (A,): the threshold of each.
        hits: Shape (H,): probes in the order of their correct answers.
        hit_steps: Shape (H,): the threshold of each.
        is_mated: Shape (N,), bool.
        is_unmated: Shape (N,), bool.
    """

    thresholds: NDArray[np.float64]
    alarms: NDArray[np.int64]
    alarm_steps: NDArray[np.int64]
    hits: NDArray[np.int64]
    hit_steps: NDArray[np.int64]
    is_mated: NDArray[np.bool_]
    is_unmated: NDArray[np.bool_]

    @classmethod
    def of(cls, distances: NDArray[np.float64]) -> _Events:
        match, other = distances.T
        alarms = np.flatnonzero(np.isfinite(other))
        hits = np.flatnonzero(np.isfinite(match) & (match < other))
        thresholds, steps = np.unique(
            np.concatenate([other[alarms], match[hits]]), return_inverse=True
        )
        return cls(
            thresholds,
            alarms,
            steps[: len(alarms)],
            hits,
            steps[len(alarms) :],
            np.isfinite(match),
            np.isfinite(other),
        )

    def curve(
        self, weights: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return thresholds, FPIR and FNIR when every probe counts `weights` times."""
        size = len(self.thresholds)
        with np.errstate(invalid="ignore"):  # no search of a kind: its rate is not a number
            alarms = np.bincount(self.alarm_steps, weights[self.alarms], size)
            fpir = alarms.cumsum() / weights[self.is_unmated].sum()
            hits = np.bincount(self.hit_steps, weights[self.hits], size)
            fnir = 1 - hits.cumsum() / weights[self.is_mated].sum()
        return self.thresholds, fpir, fnir


def _figures(
    curve: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    config: OpenSetConfig,
) -> list[float]:
    """Return EER, its threshold, then threshold and FNIR of each target."""
    thresholds, fpir, fnir = curve
    if not len(thresholds) or np.isnan(fpir[-1]) or np.isnan(fnir[-1]):
        return [float("nan")] * (2 + 2 * len(config.fpir_targets))
    meeting = int(np.abs(fpir - fnir).argmin())
    figures = [(fpir[meeting] + fnir[meeting]) / 2, thresholds[meeting]]
    for target in config.fpir_targets:
        too_far = int(np.searchsorted(fpir, target + _ROUNDING, side="right"))
        figures.append(_just_below(thresholds[too_far]) if too_far < len(fpir) else thresholds[-1])
        figures.append(fnir[too_far - 1] if too_far else 1.0)
    return [float(figure) for figure in figures]


def _just_below(distance: float) -> float:
    """Return the float32 below: "as near as the threshold" must not let the false alarm in."""
    return float(np.nextafter(np.float32(distance), np.float32(-np.inf)))


def interval(value: float, sample: NDArray[np.float64], confidence: float) -> Estimate:
    """Return a figure with the percentiles of its bootstrap sample; NaN in it does not count."""
    defined = sample[~np.isnan(sample)]
    if not len(defined):
        return Estimate(value, float("nan"), float("nan"))
    tail = 50 * (1 - confidence)
    low, high = np.percentile(defined, [tail, 100 - tail])
    return Estimate(value, float(low), float(high))


def _estimate(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _thinned(fpir: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return positions along a DET curve, evenly spaced on its logarithmic axis, and its ends."""
    if len(fpir) <= _POINTS_IN_JSON or np.isnan(fpir[-1]):
        return np.arange(min(len(fpir), _POINTS_IN_JSON))
    lowest = fpir[fpir > 0].min()
    wanted = np.geomspace(lowest, 1.0, _POINTS_IN_JSON - 1)
    kept = np.searchsorted(fpir, wanted).clip(max=len(fpir) - 1)
    return np.unique(np.append(kept, 0))
