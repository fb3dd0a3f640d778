"""From what single tracklets say to who a track is.

**Fusion.** Each window of a track has a distance to each person. The track's distance is

    d = -s * log( sum_w q_w * exp(-d_w / s) / sum_w q_w )

over its last windows w with qualities q_w: the mean of how likely each window makes the person,
put back on the scale of distances. A small s lets the nearest window decide, a large one gives the
mean distance. Somebody who comes near from one side and is far from another is so found by the
side that fits, and a single lucky window counts by its share. docs/identity.md has the figures
this was chosen by.

**Hysteresis.** A track keeps whom it was taken for until somebody else has been nearer by a margin
for some windows in a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from pydantic import Field

from gait.strict import StrictModel
from pipeline.gallery.calibration import Calibration
from pipeline.gallery.neighbours import Neighbour
from pipeline.values import Embedding

NEAREST = 16
"""People whose distances to a window are remembered; the others count as far as the last."""


class DecisionConfig(StrictModel):
    """How the tracklets of one track decide together.

    Attributes:
        windows: Last tracklets of a track that have a say. Higher rests decisions on more of the
            walk, at the price of learning later that the track went over to somebody else.
        scale: How far apart two distances must be for the nearer to count e times as much. Lower
            lets the best window decide, at the price of lucky windows of strangers; higher
            averages, at the price of people who resemble themselves from one side only.
        switch_margin: By how much somebody else must be nearer for a track to change over. Higher
            flickers less, at the price of errors that stay.
        switch_windows: For how many tracklets in a row. Higher flickers less, at the price of
            errors that are shown for longer.
        purity_margin: By how much farther apart two groups of a track's tracklets must be than
            those within a group for it to be two people's, one after the other; null never splits
            a track. Higher splits fewer, at the price of people under each other's name.
    """

    windows: int = Field(default=8, ge=1, le=64)
    scale: float = Field(default=0.1, gt=0)
    switch_margin: float = Field(default=0.05, ge=0)
    switch_windows: int = Field(default=2, ge=1)
    purity_margin: float | None = Field(default=0.25, ge=0)


@dataclass(frozen=True, slots=True)
class Limit:
    """A threshold and where it comes from."""

    distance: float
    name: str


class LimitRule(Protocol):
    """Says how near is near enough."""

    def limit(self, num_exemplars: int) -> Limit:
        """Return the threshold for a search among so many exemplars."""
        ...


@dataclass(frozen=True, slots=True)
class FixedLimit:
    """The same threshold for every gallery.

    Attributes:
        distance: The threshold.
        name: Where it comes from.
    """

    distance: float
    name: str

    def limit(self, num_exemplars: int) -> Limit:
        """Return it."""
        return Limit(self.distance, self.name)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The threshold that keeps a rate of false alarms, in a gallery of any size.

    Attributes:
        calibration: Of the encoder.
        false_positive_rate: Share of strangers who may be taken for somebody.
    """

    calibration: Calibration
    false_positive_rate: float

    def limit(self, num_exemplars: int) -> Limit:
        """Return the threshold for a gallery of that size."""
        found = self.calibration.threshold(self.false_positive_rate, num_exemplars)
        name = f"FPIR {100 * self.false_positive_rate:g}% of {num_exemplars}"
        return Limit(found.distance, name if found.is_resolved else f"{name}, unresolved")


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What one window says.

    Attributes:
        uid: Of its tracklet.
        quality: In 0..1.
        embedding: Shape (256, 16).
        nearest: Of each of the nearest people the nearest exemplar, nearest first.
        start_s: When it begins, on the stream's clock.
    """

    uid: str
    quality: float
    embedding: Embedding
    nearest: Mapping[int, Neighbour]
    start_s: float = 0.0

    @classmethod
    def of(
        cls,
        uid: str,
        quality: float,
        embedding: Embedding,
        nearest: Sequence[Neighbour],
        start_s: float = 0.0,
    ) -> Heard:
        """Return what a search found."""
        return cls(uid, quality, embedding, {each.owner: each for each in nearest}, start_s)

    @property
    def weight(self) -> float:
        """How much it counts; a little also where quality is 0."""
        return max(self.quality, 1e-3)

    def distance(self, person: int) -> float:
        """Return how far somebody is; at least as far, where that was not remembered."""
        if person in self.nearest:
            return self.nearest[person].distance
        return max((each.distance for each in self.nearest.values()), default=math.inf)


class Evidence:
    """What the last windows of one track say of everybody; it does not change.

    Args:
        config: How many count, and how.
        windows: These.
    """

    def __init__(self, config: DecisionConfig, windows: Sequence[Heard] = ()) -> None:
        self._config = config
        self.windows = tuple(windows[-config.windows :])

    def after(self, heard: Heard, *, continues: bool) -> Evidence:
        """Return this with one more window.

        Args:
            heard: The window; one that comes again takes its own place.
            continues: Whether it tells all that the last one told, and so takes its place.
        """
        windows = self.windows
        if windows and (continues or windows[-1].uid == heard.uid):
            windows = windows[:-1]
        return Evidence(self._config, [*windows, heard])

    def again(self, search: Callable[[Embedding], Sequence[Neighbour]]) -> Evidence:
        """Return the same windows, searched once more."""
        found = (search(each.embedding) for each in self.windows)
        windows = [
            replace(each, nearest={near.owner: near for near in nearest})
            for each, nearest in zip(self.windows, found, strict=True)
        ]
        return Evidence(self._config, windows)

    def ranked(self, barred: set[int]) -> list[tuple[int, float]]:
        """Return people and their distances to the track, nearest first.

        Args:
            barred: Who cannot be the answer.
        """
        people = {person for heard in self.windows for person in heard.nearest} - barred
        ranked = [(person, self._fused(person)) for person in people]
        return sorted(ranked, key=lambda each: (each[1], each[0]))

    def quality(self) -> float:
        """Return the mean quality of the windows."""
        return float(np.mean([heard.quality for heard in self.windows]))

    def nearest_window(self, person: int) -> Heard:
        """Return the window that is nearest to somebody."""
        return min(self.windows, key=lambda heard: heard.distance(person))

    def _fused(self, person: int) -> float:
        weights = np.array([heard.weight for heard in self.windows])
        distances = np.array([heard.distance(person) for heard in self.windows])
        nearest = distances.min()  # taken out, so that no exponential underflows
        likely = np.average(np.exp((nearest - distances) / self._config.scale), weights=weights)
        return float(nearest - self._config.scale * np.log(likely))


class Hysteresis:
    """Whom a track is shown as.

    Args:
        config: When it changes.
    """

    def __init__(self, config: DecisionConfig) -> None:
        self._config = config
        self._rival: int | None = None
        self._count = 0

    def challenger(
        self, shown: int | None, ranked: Sequence[tuple[int, float]], limit: float
    ) -> int | None:
        """Return who is to be shown after one more window: `shown` or who takes their place.

        Args:
            shown: Who is shown now; None for nobody.
            ranked: People and their distances, nearest first. Where `shown` is missing there is
                nothing to compare them by but this track, and they count as far as the limit.
            limit: Beyond it is nobody.
        """
        best = ranked[0] if ranked and ranked[0][1] <= limit else None
        if shown is None:
            return None if best is None else best[0]
        own = dict(ranked).get(shown, limit)
        if best is not None and best[0] != shown and own - best[1] >= self._config.switch_margin:
            return self._insisted(shown, best[0])
        if own - limit > self._config.switch_margin:
            return self._insisted(shown, None)
        self._count = 0
        return shown

    def _insisted(self, shown: int, rival: int | None) -> int | None:
        """Return the rival once it has led for long enough."""
        self._count = self._count + 1 if self._count and self._rival == rival else 1
        self._rival = rival
        if self._count < self._config.switch_windows:
            return shown
        self._count = 0
        return rival
