"""What can be told of two walks without looking at a silhouette: where, and which way.

Controls for `gait.evaluation.halves`: a method that knows only the place in the picture shows how
much of a figure could come from people staying where they were; the turn between the two parts of
a walk shows whether a method only recognises a view.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gait.evaluation.halves import Walk, WalkTrial


def place_distances(trial: WalkTrial) -> NDArray[np.float64]:
    """Return how many pixels the mean places of probes and gallery are apart, shape (P, G)."""
    probes, gallery = (
        np.array([piece.feet_xy.mean(axis=0) for piece in pieces]).reshape(-1, 2)
        for pieces in (trial.probes, trial.gallery)
    )
    return np.asarray(np.linalg.norm(probes[:, None] - gallery, axis=2))


def turned_deg(trial: WalkTrial) -> NDArray[np.float64]:
    """Return by how many degrees of the picture each probe walks another way than its gallery.

    Of several pieces of the gallery the first counts. Shape (P,), 0..180.
    """
    probes, gallery = _headings(trial.probes), _headings(trial.gallery)
    first = trial.same.argmax(axis=1)
    cosines = (probes * gallery[first]).sum(axis=1)
    return np.asarray(np.degrees(np.arccos(np.clip(cosines, -1, 1))))


def _headings(pieces: Sequence[Walk]) -> NDArray[np.float64]:
    """Return the unit vector of each piece's mean movement, shape (N, 2); 0 for none."""
    moves = np.array([_movement(piece) for piece in pieces]).reshape(-1, 2)
    lengths = np.linalg.norm(moves, axis=1, keepdims=True)
    return np.asarray(moves / np.maximum(lengths, 1e-9))


def _movement(piece: Walk) -> NDArray[np.float64]:
    """Return the slope of the places over time, pixels a second, by least squares."""
    since = piece.times_s - piece.times_s.mean()
    spread = float(since @ since)
    return since @ piece.feet_xy / spread if spread else np.zeros(2)
