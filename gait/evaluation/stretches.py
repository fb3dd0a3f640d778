"""Where a track goes over to another person, told by the colour of the clothes.

Trackers swap people when one hides another. Silhouettes must not decide what is one person when
silhouettes are to be judged; clothes can, for no method that is judged ever sees a colour.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gait.strict import StrictModel


class StretchConfig(StrictModel):
    """When two moments of a track are two people.

    Attributes:
        span_s: Seconds before and after a moment whose mean colours are compared. Longer is
            disturbed less by a limb or a shadow, at the price of missing people who are followed
            for a shorter time.
        most_change: Largest change of colours (1 - cosine) within one person. Lower leaves fewer
            stretches of two people, at the price of cutting people who turn or pass a sign.
        margin_s: Seconds dropped on either side of a cut: the swap is gradual.
    """

    span_s: float = Field(default=1.0, gt=0)
    most_change: float = Field(default=0.045, gt=0)
    margin_s: float = Field(default=0.5, ge=0)


def stretches(
    colours: NDArray[np.float32], times_s: NDArray[np.float64], config: StretchConfig
) -> list[tuple[float, float]]:
    """Return first and last time of each stretch of a track without a change of clothes.

    Args:
        colours: Shape (T, D): what the person wears at each time, as histogram roots.
        times_s: Shape (T,), rising seconds.
        config: What counts as a change.
    """
    if not len(times_s):
        return []
    change = changes(colours, times_s, config.span_s)
    reach = _reach(times_s, config.span_s)
    cuts = [
        index
        for index in np.flatnonzero(change > config.most_change).tolist()
        if change[index] == change[max(index - reach, 0) : index + reach + 1].max()
    ]
    edges = [0, *cuts, len(times_s)]
    found = []
    for first, last in itertools.pairwise(edges):
        begin = times_s[first] + (config.margin_s if first else 0.0)
        end = times_s[last - 1] - (config.margin_s if last < len(times_s) else 0.0)
        if end > begin:
            found.append((float(begin), float(end)))
    return found


def changes(
    colours: NDArray[np.float32], times_s: NDArray[np.float64], span_s: float
) -> NDArray[np.float64]:
    """Return 1 - cosine of the mean colours before and from each moment on, shape (T,).

    0 where there is less than a span on either side.
    """
    reach = _reach(times_s, span_s)
    change = np.zeros(len(times_s))
    for index in range(reach, len(times_s) - reach + 1):
        before = colours[index - reach : index].mean(axis=0)
        after = colours[index : index + reach].mean(axis=0)
        length = float(np.linalg.norm(before) * np.linalg.norm(after))
        if index < len(times_s) and length:
            change[index] = 1 - float(before @ after) / length
    return change


def _reach(times_s: NDArray[np.float64], span_s: float) -> int:
    """Return how many frames make a span; counted, so that a track lost for long has a span too."""
    if len(times_s) < 2:
        return 1
    return max(3, round(span_s / float(np.median(np.diff(times_s)))))
