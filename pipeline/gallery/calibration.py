"""What a distance means: thresholds that keep a rate of false alarms, and probabilities.

    calibration = read_calibration(Path("site.json"), model_hash=encoder.model_hash)
    limit = calibration.threshold(0.01, num_exemplars=200)   # 1 % false alarms in such a gallery
    calibration.probability(1.18, runner_up=1.41, quality=0.93, num_people=40)      # 0.87

**Thresholds** come from the distances of tracklets of two different people. With FMR(T) the share
of such pairs within T, a search among N exemplars that are all somebody else's raises a false
alarm with probability

    FPIR(T, N) = 1 - (1 - FMR(T))^N    and so    FMR = 1 - (1 - FPIR)^(1/N)

were the N comparisons independent. They are not: they share a probe, and exemplars of one person
resemble each other. Both make fewer searches raise an alarm than the formula says, so it errs on
the side of caution (`tests/pipeline/gallery/test_calibration.py` shows it on drawn galleries).

**Probabilities** are of "the nearest person is the one" among N people, every second searched for
being known at all; it is fitted on searches in drawn galleries (`pipeline.gallery.fitting`):

    log odds = intercept(q) - slope(q) * d1 + margin * (d2 - d1) - people * log(N)

with d1 and d2 the distances to the nearest person and to the next, intercept and slope going
straight from those of poor to those of good quality q. No factor is negative: farther, less
distinct or among more people is never more probable.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from gait.data.atomic import write_atomically
from gait.strict import StrictModel
from pipeline.errors import ConfigError, ModelError
from pipeline.weights import CALIBRATIONS, resolve

Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]

_LARGEST_BYTES = 1_000_000


class Cut(StrictModel):
    """At which distance a share of the pairs of two people is within.

    Attributes:
        false_match_rate: The share.
        distance: Mean over 16 parts of Euclidean distances.
        low: Lower end of its 95 % interval, people (or tracks) resampled.
        high: Upper end.
    """

    false_match_rate: Share
    distance: NotNegative
    low: NotNegative
    high: NotNegative


class Line(StrictModel):
    """Log odds over the distance, at one quality."""

    intercept: Number
    slope: NotNegative


class ProbabilityMap(StrictModel):
    """The numbers of the formula at the top of this file.

    Attributes:
        poor: At `qualities[0]` and below.
        good: At `qualities[1]` and above.
        qualities: Where the two lines hold; None where quality was not known, then they are one.
        margin: What a unit of lead over the next person adds.
        people: What a factor e in the number of people takes away.
        far: Distance of a typical stranger: taken for the next person's when there is none.
    """

    poor: Line
    good: Line
    qualities: tuple[Share, Share] | None
    margin: NotNegative
    people: NotNegative
    far: NotNegative

    def log_odds(
        self,
        distance: float,
        *,
        runner_up: float | None = None,
        quality: float | None = None,
        num_people: int = 1,
    ) -> float:
        """Return the log odds that the nearest person is the one; see `Calibration.probability`."""
        share = self._goodness(quality)
        intercept = (1 - share) * self.poor.intercept + share * self.good.intercept
        slope = (1 - share) * self.poor.slope + share * self.good.slope
        lead = max(0.0, (self.far if runner_up is None else runner_up) - distance)
        crowd = self.people * math.log(max(1, num_people))
        return intercept - slope * distance + self.margin * lead - crowd

    def _goodness(self, quality: float | None) -> float:
        if self.qualities is None or quality is None:
            return 0.5
        poor, good = self.qualities
        return min(1.0, max(0.0, (quality - poor) / max(good - poor, 1e-9)))


class Threshold(StrictModel):
    """A distance and what it stands for.

    Attributes:
        distance: Largest distance at which two walks are taken for one person's.
        low: Lower end of its 95 % interval.
        high: Upper end.
        is_resolved: False when there were too few pairs to measure so low a rate: the distance is
            then the one of the lowest rate that was measured, which allows more false alarms.
    """

    distance: NotNegative
    low: NotNegative
    high: NotNegative
    is_resolved: bool = True


class Calibration(StrictModel):
    """The decision of one encoder, fitted on genuine and impostor distances.

    Attributes:
        format: Of the file.
        model_hash: Of the encoder; no other's distances mean the same.
        made: When, such as "2026-11-23".
        source: From what, in words.
        kind: "evaluation" with labels, or "results" of a site where nobody is known.
        genuine_pairs: Pairs of tracklets of one person.
        impostor_pairs: Pairs of tracklets of two.
        people: People the pairs are of; tracks, where people are not known.
        cuts: From the lowest rate that could be measured up to one half, rates and distances
            rising.
        probabilities: From distance to probability.
    """

    format: Literal["trackletgait-calibration-1"] = "trackletgait-calibration-1"
    model_hash: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    made: str
    source: Annotated[str, Field(max_length=2000)]
    kind: Literal["evaluation", "results"]
    genuine_pairs: Annotated[int, Field(ge=1)]
    impostor_pairs: Annotated[int, Field(ge=1)]
    people: Annotated[int, Field(ge=1)]
    cuts: Annotated[tuple[Cut, ...], Field(min_length=2, max_length=1000)]
    probabilities: ProbabilityMap

    @model_validator(mode="after")
    def _cuts_rise(self) -> Calibration:
        rates = [cut.false_match_rate for cut in self.cuts]
        distances = [cut.distance for cut in self.cuts]
        if any(np.diff(rates) <= 0) or any(np.diff(distances) < 0):
            raise ValueError("cuts: expected rates and distances that rise")
        return self

    def threshold(self, false_positive_rate: float, num_exemplars: int) -> Threshold:
        """Return the distance at which so many searches for a stranger raise a false alarm.

        Args:
            false_positive_rate: FPIR, above 0 and below 1.
            num_exemplars: Exemplars that are searched, of all people together.
        """
        rate = -math.expm1(math.log1p(-false_positive_rate) / max(1, num_exemplars))
        rates = [cut.false_match_rate for cut in self.cuts]
        at = (
            float(np.interp(rate, rates, [getattr(cut, name) for cut in self.cuts]))
            for name in ("distance", "low", "high")
        )
        distance, low, high = at
        return Threshold(distance=distance, low=low, high=high, is_resolved=rate >= rates[0])

    def false_positive_rate(self, distance: float, num_exemplars: int) -> float:
        """Return FPIR at a threshold: the other way round of `threshold`."""
        distances = [cut.distance for cut in self.cuts]
        rates = [cut.false_match_rate for cut in self.cuts]
        rate = float(np.interp(distance, distances, rates, left=0.0))
        return -math.expm1(max(1, num_exemplars) * math.log1p(-rate))

    def probability(
        self,
        distance: float,
        *,
        runner_up: float | None = None,
        quality: float | None = None,
        num_people: int = 1,
        more_odds: float = 0.0,
    ) -> float:
        """Return how probable it is that the nearest person is the one.

        Every second person who is searched for is taken to be known at all.

        Args:
            distance: To the nearest person.
            runner_up: To the next one; None when there is nobody else.
            quality: The lower of those of probe and exemplar, in 0..1; None where nobody knows.
            num_people: Among how many the search was.
            more_odds: Log odds of what else is known, such as place and time.
        """
        odds = more_odds + self.probabilities.log_odds(
            distance, runner_up=runner_up, quality=quality, num_people=num_people
        )
        return float(1 / (1 + math.exp(-min(700.0, max(-700.0, odds)))))

    def write(self, path: Path) -> None:
        """Write it as JSON.

        Raises:
            DataError: It cannot be written; what was there before still is.
        """
        write_atomically(path, self.model_dump_json(indent=1).encode() + b"\n")


def read_calibration(path: Path, *, model_hash: str) -> Calibration:
    """Return the calibration in a file.

    Raises:
        ConfigError: It is missing, damaged, of another version or of another encoder.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_BYTES + 1)
        if len(data) > _LARGEST_BYTES:
            raise ConfigError(f"calibration {path}: expected a small JSON file, got a large one")
        found = Calibration.model_validate_json(data)
    except OSError as error:
        raise ConfigError(
            f"calibration {path}: cannot be read ({error.strerror}); make one with "
            f"`trackletgait calibrate`"
        ) from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "the file"
        raise ConfigError(
            f"calibration {path}: expected a file that `trackletgait calibrate` wrote, got another "
            f"or a damaged one ({where}: {problem['msg']})"
        ) from error
    if found.model_hash != model_hash:
        raise ConfigError(
            f"calibration {path}: made for model {found.model_hash[:12]}, this run uses "
            f"{model_hash[:12]}, and their distances are not comparable; calibrate this one with "
            f"`trackletgait calibrate`"
        )
    return found


def bundled_calibration(model_hash: str) -> Calibration | None:
    """Return the calibration that comes with a bundled encoder; None for any other.

    Raises:
        ModelError: It is damaged.
    """
    for name in CALIBRATIONS:
        path = resolve(name)
        try:
            found = Calibration.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise ModelError(f"model {name}: {path} is damaged; reinstall trackletgait") from error
        if found.model_hash == model_hash:
            return found
    return None
