"""Where the right sequences stand in a probe's ranking: rank-k, AP and INP (spec c.4).

Ties are settled by the gallery's order: of two sequences equally far from the probe, the one that
comes first in the data set ranks first. The release leaves this to chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEVER = np.iinfo(np.int64).max
"""The rank of a match that is not in the gallery: beyond every k."""

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Some probes against a whole gallery.

    Attributes:
        distances: Shape (M, G), finite.
        same: Shape (M, G), bool: probe and gallery sequence are of one subject.
        dropped: Shape (M, G), bool: the protocol leaves this sequence out of the gallery for this
            probe. It counts neither as match nor as mistake.
    """

    distances: Floats
    same: NDArray[np.bool_]
    dropped: NDArray[np.bool_]

    def columns(self, chosen: NDArray[np.bool_]) -> Rows:
        """Return the same probes against a part of the gallery; `chosen` has shape (G,)."""
        return Rows(self.distances[:, chosen], self.same[:, chosen], self.dropped[:, chosen])


def first_match_ranks(rows: Rows) -> NDArray[np.int64]:
    """Return the rank, from 1, of each probe's nearest match; `NEVER` without one.

    What the protocol drops is not looked at: the single-view protocols keep everything. Shape (M,).
    """
    distances, same = rows.distances, rows.same
    if not distances.shape[1]:
        return np.full(len(distances), NEVER)
    mates = np.where(same, distances, np.inf)
    first = mates.argmin(axis=1)[:, None]  # the first of equals: the tie rule
    nearest = np.take_along_axis(mates, first, axis=1)
    earlier = np.arange(distances.shape[1]) < first
    ahead = (distances < nearest) | ((distances == nearest) & earlier)
    return np.where(same.any(axis=1), ahead.sum(axis=1) + 1, NEVER)


def retrieval(rows: Rows) -> NDArray[np.float64]:
    """Return (first rank, AP, INP) of each probe; NaN for a probe without a match.

    For R matches at ranks r_1 < ... < r_R: AP = (1/R) Σ m / r_m and INP = R / r_R (spec c.4; the
    INP of Ye et al., "Deep Learning for Person Re-identification", TPAMI 2021). Shape (M, 3).
    """
    distances = np.where(rows.dropped, np.inf, rows.distances)
    order = np.argsort(distances, axis=1, kind="stable")
    hits = np.take_along_axis(rows.same & ~rows.dropped, order, axis=1)
    found = hits.cumsum(axis=1)
    num_matches = found[:, -1] if hits.shape[1] else np.zeros(len(hits), np.int64)
    ranks = np.arange(1, hits.shape[1] + 1)
    result = np.full((len(hits), 3), np.nan)
    valid = num_matches > 0
    hits, found, num_matches = hits[valid], found[valid], num_matches[valid]
    last = hits.shape[1] - hits[:, ::-1].argmax(axis=1) if len(hits) else num_matches
    result[valid, 0] = hits.argmax(axis=1) + 1 if len(hits) else 0
    result[valid, 1] = (np.where(hits, found, 0) / ranks).sum(axis=1) / num_matches
    result[valid, 2] = num_matches / last
    return result


def nearest_match_and_other(rows: Rows) -> NDArray[np.float64]:
    """Return the distances to the nearest match and to the nearest other subject.

    Infinite where there is none. Shape (M, 2).
    """
    matches = np.where(rows.same & ~rows.dropped, rows.distances, np.inf)
    others = np.where(rows.same | rows.dropped, np.inf, rows.distances)
    return np.stack([each.min(axis=1, initial=np.inf) for each in (matches, others)], axis=1)


def nearest(rows: Rows, count: int) -> NDArray[np.int64]:
    """Return the gallery positions of the `count` nearest sequences, nearest first."""
    return np.argsort(rows.distances, axis=1, kind="stable")[:, :count]


def cmc(first_ranks: NDArray[Any], length: int) -> NDArray[np.float64]:
    """Return the share of probes whose first match is at rank k or better, k = 1..length.

    Args:
        first_ranks: Shape (N,), from 1; NaN is a probe that does not count.
        length: How many ranks.

    Returns:
        Shape (length,), in 0..1; NaN where no probe counts.
    """
    counted = first_ranks[~np.isnan(first_ranks.astype(np.float64))]
    if not len(counted):
        return np.full(length, np.nan)
    return np.array([(counted <= k).mean() for k in range(1, length + 1)])
