"""Whether a track is one person: trackers may go over to somebody else where two people meet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gait.distance import euclidean
from pipeline.gallery.decision import Heard

_FEWEST = 2
"""Windows a side: of a single one nobody can say whether it is odd or somebody else's."""


def switch(windows: Sequence[Heard], limit: float, margin: float) -> int | None:
    """Return with which window a track goes over to somebody else; None where nothing says so.

    It does where windows fall into two well separated groups: none of one group is within the
    limit of one of the other, and on average they are farther apart than those within a group by
    the margin.

    Args:
        windows: Of one track, in the order in which they were seen.
        limit: Farther than that is somebody else.
        margin: Higher splits fewer tracks.
    """
    cuts = range(_FEWEST, len(windows) - _FEWEST + 1)
    if not cuts:
        return None
    embeddings = np.stack([each.embedding for each in windows])
    distances = euclidean(embeddings, embeddings)
    best, at = margin, None
    for cut in cuts:
        across = distances[:cut, cut:]
        within = [_pairs(distances[:cut, :cut]), _pairs(distances[cut:, cut:])]
        lead = float(across.mean() - np.concatenate(within).mean())
        if across.min() > limit and lead > best:
            best, at = lead, cut
    return at


def _pairs(distances: np.ndarray[tuple[int, int], np.dtype[np.floating]]) -> np.ndarray:
    return distances[np.triu_indices(len(distances), 1)]
