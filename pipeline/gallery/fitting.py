"""From genuine and impostor distances to a `Calibration`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import minimize
from scipy.special import expit

from gait.errors import DataError
from gait.strict import StrictModel
from pipeline.gallery.calibration import Calibration, Cut, Line, ProbabilityMap
from pipeline.gallery.comparisons import GENUINE, IMPOSTOR, Comparisons
from pipeline.gallery.searches import Searches, draw_searches

_FEWEST_PAIRS = 30
_FEWEST_GROUPS = 4
_TAIL = 0.5  # rates above are no use as thresholds
_SMALLEST_RANGE = 0.02  # of qualities; less says nothing about what quality does
_RIDGE = 1e-5  # keeps odds finite where the two kinds do not overlap
_PARAMETERS = 6


class FitConfig(StrictModel):
    """How a calibration is fitted.

    Attributes:
        searches: Drawn to fit probabilities on. Higher is steadier, at the price of time.
        most_people: In the largest drawn gallery. Higher fits large galleries better, at the price
            of small ones.
        most_exemplars: Of a person in a drawn gallery.
        cuts: Rates for which a distance is kept.
        resamples: Of the bootstrap. Higher gives steadier intervals, at the price of time.
        seed: Of all that is drawn.
    """

    searches: int = Field(default=8000, ge=100)
    most_people: int = Field(default=100, ge=1)
    most_exemplars: int = Field(default=3, ge=1)
    cuts: int = Field(default=40, ge=2, le=1000)
    resamples: int = Field(default=200, ge=2)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class About:
    """What a calibration says of itself; the fields are `Calibration`'s."""

    model_hash: str
    made: str
    source: str
    kind: Literal["evaluation", "results"]


def fit(comparisons: Comparisons, about: About, config: FitConfig | None = None) -> Calibration:
    """Return the calibration that some comparisons allow.

    Args:
        comparisons: Pairs of both kinds.
        about: What it is of.
        config: How to fit.

    Raises:
        DataError: There are too few pairs or people.
    """
    config = config or FitConfig()
    rng = np.random.default_rng(config.seed)
    impostors = comparisons.pairs(IMPOSTOR)
    num_genuine, num_impostors = len(comparisons.pairs(GENUINE)[0]), len(impostors[0])
    people = len(np.unique(comparisons.groups))
    if min(num_genuine, num_impostors) < _FEWEST_PAIRS or people < _FEWEST_GROUPS:
        raise DataError(
            f"expected at least {_FEWEST_PAIRS} pairs of tracklets of one person, as many of two, "
            f"and {_FEWEST_GROUPS} people; found {num_genuine}, {num_impostors} and {people}: give "
            f"more or longer recordings in which several people are in view at once"
        )
    searches = draw_searches(
        comparisons,
        config.searches,
        rng,
        people=(1, config.most_people),
        exemplars=(1, config.most_exemplars),
    )
    return Calibration(
        model_hash=about.model_hash,
        made=about.made,
        source=about.source,
        kind=about.kind,
        genuine_pairs=num_genuine,
        impostor_pairs=num_impostors,
        people=people,
        cuts=_cuts(comparisons, impostors, config, rng),
        probabilities=fit_probabilities(
            searches, far=float(np.median(comparisons.distances[impostors]))
        ),
    )


def fit_probabilities(searches: Searches, *, far: float) -> ProbabilityMap:
    """Return the map under which what was found in some searches is likeliest.

    Args:
        searches: With the truth.
        far: Distance of a typical stranger.
    """
    known = searches.qualities[~np.isnan(searches.qualities)]
    low, high = np.quantile(known, [0.05, 0.95]) if len(known) else (0.0, 0.0)
    has_qualities = len(known) == len(searches.qualities) and high - low >= _SMALLEST_RANGE
    share = (
        ((searches.qualities - low) / (high - low)).clip(0, 1)
        if has_qualities
        else np.full(len(searches.nearest), 0.5)
    )
    runner_up = np.where(np.isnan(searches.runner_up), far, searches.runner_up)
    lead = np.maximum(0.0, runner_up - searches.nearest)
    columns = np.stack(
        [
            1 - share,
            share,
            -(1 - share) * searches.nearest,
            -share * searches.nearest,
            lead,
            -np.log(searches.num_people),
        ],
        axis=1,
    )
    factors = _likeliest(columns, searches.is_right)
    return ProbabilityMap(
        poor=Line(intercept=factors[0], slope=factors[2]),
        good=Line(intercept=factors[1], slope=factors[3]),
        qualities=(float(low), float(high)) if has_qualities else None,
        margin=factors[4],
        people=factors[5],
        far=far,
    )


def _likeliest(columns: NDArray[np.float64], is_right: NDArray[np.bool_]) -> list[float]:
    """Return the factors of a logistic regression of which all but the first two are >= 0."""
    sign = np.where(is_right, 1.0, -1.0)

    def loss(factors: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds = sign * (columns @ factors)
        gradient = -((sign * expit(-odds)) @ columns) / len(sign) + 2 * _RIDGE * factors
        value = np.logaddexp(0, -odds).mean() + _RIDGE * (factors @ factors)
        return float(value), gradient

    bounds = [(None, None)] * 2 + [(0.0, None)] * (_PARAMETERS - 2)
    found = minimize(loss, np.ones(_PARAMETERS), jac=True, bounds=bounds, method="L-BFGS-B")
    return [float(factor) for factor in found.x]


def _cuts(
    comparisons: Comparisons,
    impostors: tuple[NDArray[np.intp], NDArray[np.intp]],
    config: FitConfig,
    rng: np.random.Generator,
) -> tuple[Cut, ...]:
    """Return distances at rates, with intervals over resampled people (or tracks).

    Whoever is drawn twice counts twice, and so do pairs with him.
    """
    distances = np.asarray(comparisons.distances[impostors], dtype=np.float64)
    order = np.argsort(distances)
    distances = distances[order]
    one, two = (comparisons.groups[rows][order] for rows in impostors)
    rates = np.geomspace(1 / len(distances), _TAIL, config.cuts)
    values = _at_rates(distances, np.ones(len(distances)), rates)
    groups = np.unique(comparisons.groups)
    size = int(groups.max()) + 1
    samples = []
    for _ in range(config.resamples):
        times = np.bincount(rng.choice(groups, len(groups)), minlength=size).astype(np.float64)
        weights = times[one] * times[two]
        if weights.any():
            samples.append(_at_rates(distances, weights, rates))
    low, high = np.percentile(np.array(samples), [2.5, 97.5], axis=0)
    return tuple(
        Cut(false_match_rate=float(r), distance=float(d), low=float(a), high=float(b))
        for r, d, a, b in zip(rates, values, low, high, strict=True)
    )


def _at_rates(
    distances: NDArray[np.float64], weights: NDArray[np.float64], rates: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the largest distances, of rising ones, that keep rates: just below the next pair."""
    shares = np.cumsum(weights) / weights.sum()
    too_far = np.searchsorted(shares, rates * (1 + 1e-9), side="right").clip(max=len(shares) - 1)
    # "as near as the threshold" must not let the next pair in
    return np.asarray(np.maximum(0.0, np.nextafter(distances[too_far], -np.inf)))
