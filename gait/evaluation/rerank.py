"""k-reciprocal re-ranking (Zhong et al., "Re-ranking Person Re-identification with k-reciprocal
Encoding", CVPR 2017).

Two sequences are alike when each is among the other's nearest, and when their neighbours are the
same. Every probe is compared with every other probe, too: a figure so made must say that it was
re-ranked, for a system that answers one probe at a time cannot do it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from gait.evaluation.ranking import Floats
from gait.strict import StrictModel


class RerankConfig(StrictModel):
    """The three constants of the paper, with the values of its section 4.

    Attributes:
        k1: Size of the neighbourhoods compared. Higher finds harder matches, at the price of
            letting strangers in; below the number of sequences a subject has is safe.
        k2: Neighbours a sequence's description is averaged over. Higher is steadier, at the price
            of blurring subjects who look alike; 1 switches it off.
        weight: Share of the original distance in the result (the paper's lambda). 1 changes
            nothing, 0 trusts the neighbourhoods alone.
        max_sequences: Refuse more probes and gallery together: memory grows with the square (20
            bytes a pair).
    """

    k1: int = Field(default=20, ge=1)
    k2: int = Field(default=6, ge=1)
    weight: float = Field(default=0.3, ge=0, le=1)
    max_sequences: int = Field(default=20_000, ge=1)


def rerank(
    distances: Floats,
    probe: NDArray[np.int64],
    gallery: NDArray[np.int64],
    config: RerankConfig,
) -> Floats:
    """Return the re-ranked distances of probes to gallery.

    The paper leaves the scale of d in exp(-d) open. Each row is divided by its maximum, which
    changes no ranking and puts d and the Jaccard distance on the same scale of 0..1.

    Args:
        distances: Shape (N, N): of all sequences, each once, to each other.
        probe: Which of them are probes.
        gallery: Which are the gallery; a sequence may be both.
        config: The constants.

    Returns:
        Shape (probes, gallery), float32.
    """
    scaled = (distances / np.maximum(distances.max(axis=1, keepdims=True), 1e-12)).astype(
        np.float32
    )
    order = _nearest_first(scaled, max(config.k1, config.k2 - 1) + 1)
    weights = _expanded(_neighbour_weights(scaled, order, config.k1), order, config.k2)
    jaccard = _jaccard(weights[probe], weights[gallery])
    original = scaled[np.ix_(probe, gallery)]
    result: Floats = (1 - config.weight) * jaccard + config.weight * original
    return result


def _nearest_first(distances: Floats, count: int) -> NDArray[np.int64]:
    """Return (N, count): each sequence itself, then its nearest others; ties in given order."""
    keyed = distances.copy()
    np.fill_diagonal(keyed, -1)
    # a copy: the view would keep all N * N of them alive
    return np.argsort(keyed, axis=1, kind="stable")[:, :count].copy()


def _neighbour_weights(
    distances: Floats, order: NDArray[np.int64], k1: int
) -> sparse.csr_array[Any]:
    """Return (N, N) with exp(-d) where the column is in the row's R*(p, k1), eq. 7 of the paper."""
    reciprocal = _reciprocal(order, k1)
    halves = _reciprocal(order, max(round(k1 / 2), 1))
    columns = [_extended(neighbours, halves) for neighbours in reciprocal]
    rows = np.repeat(np.arange(len(columns)), [len(each) for each in columns])
    flat = np.concatenate(columns)
    values = np.exp(-distances[rows, flat])
    return sparse.csr_array((values, (rows, flat)), shape=distances.shape)


def _reciprocal(order: NDArray[np.int64], k: int) -> list[NDArray[np.int64]]:
    """Return R(p, k) of every p: the k nearest that also have p among theirs, and p itself."""
    near = order[:, : k + 1]
    mutual = (near[near] == np.arange(len(order))[:, None, None]).any(axis=2)
    return [neighbours[keep] for neighbours, keep in zip(near, mutual, strict=True)]


def _extended(neighbours: NDArray[np.int64], halves: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return R*(p): R(p) and each neighbour's own circle that is two thirds inside it (eq. 5)."""
    known = set(neighbours.tolist())
    extended = set(known)
    for neighbour in neighbours:
        circle = set(halves[neighbour].tolist())
        if 3 * len(circle & known) >= 2 * len(circle):
            extended |= circle
    return np.array(sorted(extended))


def _expanded(
    weights: sparse.csr_array[Any], order: NDArray[np.int64], k2: int
) -> sparse.csr_array[Any]:
    """Return each row averaged over the k2 nearest, itself among them (eq. 11)."""
    near = order[:, :k2]
    rows = np.repeat(np.arange(len(near)), near.shape[1])
    share = np.full(near.size, 1 / near.shape[1], np.float32)
    averaging = sparse.csr_array((share, (rows, near.ravel())), shape=weights.shape)
    return sparse.csr_array(averaging @ weights)


def _jaccard(probes: sparse.csr_array[Any], gallery: sparse.csr_array[Any]) -> Floats:
    """Return 1 - Σ min / Σ max of probe rows with gallery rows (eq. 10)."""
    by_column = sparse.csc_array(gallery)
    probe_totals, gallery_totals = (np.asarray(each.sum(axis=1)) for each in (probes, gallery))
    result = np.empty((len(probe_totals), len(gallery_totals)), np.float32)
    for probe, total in enumerate(probe_totals):
        start, end = probes.indptr[probe : probe + 2]
        columns, values = probes.indices[start:end], probes.data[start:end]
        shared = np.zeros(result.shape[1], np.float32)
        for column, value in zip(columns, values, strict=True):
            begin, stop = by_column.indptr[column : column + 2]
            shared[by_column.indices[begin:stop]] += np.minimum(by_column.data[begin:stop], value)
        result[probe] = 1 - shared / (total + gallery_totals - shared)
    return result
