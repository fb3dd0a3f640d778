"""Suggest a gallery threshold from a results folder: `python scripts/threshold.py RESULTS`.

Nobody needs to be known: two tracklets of one track are one person, and tracks seen in one frame
are two people. The suggestion is where both errors are equally frequent. That is a start, not a
calibration: within one track clothes, camera and direction hardly change, so people seen again
elsewhere will be further apart than these figures promise.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gait.distance import euclidean
from pipeline.sinks.tracklets import StoredTracklet, read_tracklet


def pairs(stored: list[StoredTracklet]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distances of pairs that are one person, and of pairs that are two."""
    embeddings = np.stack([s.embedding for s in stored if s.embedding is not None])
    distances = euclidean(embeddings, embeddings)
    together = {
        (s.tracklet.stream, s.tracklet.track_id, other)
        for s in stored
        for other in s.tracklet.companions
    }
    same, different = [], []
    for (i, a), (j, b) in itertools.combinations(enumerate(s.tracklet for s in stored), 2):
        if a.stream != b.stream:
            continue
        if a.track_id == b.track_id:
            if not (a.offset or b.offset):  # a walk that has grown is no second walk
                same.append(distances[i, j])
        elif (a.stream, a.track_id, b.track_id) in together:
            different.append(distances[i, j])
    return np.array(same), np.array(different)


def equal_error(same: NDArray[np.float64], different: NDArray[np.float64]) -> tuple[float, float]:
    """Return the threshold at which both errors are equally frequent, and that frequency."""
    candidates = np.unique(np.concatenate([same, different]))
    missed = np.array([(same > t).mean() for t in candidates])
    mistaken = np.array([(different <= t).mean() for t in candidates])
    best = int(np.argmin(np.abs(missed - mistaken)))
    return float(candidates[best]), float((missed[best] + mistaken[best]) / 2)


def main() -> int:
    """Print the suggestion."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="folder that `trackletgait process` wrote")
    results = parser.parse_args().results
    files = sorted(results.glob("streams/*/tracklets/*.npz"))
    stored = [s for s in map(read_tracklet, files) if s.embedding is not None]
    same, different = pairs(stored) if stored else (np.empty(0), np.empty(0))
    if len(same) < 10 or len(different) < 10:
        print(
            f"{results}: expected tracklets of people who stay in view for several windows and of "
            f"people seen together, found {len(same)} and {len(different)} such pairs",
            file=sys.stderr,
        )
        return 1
    threshold, error = equal_error(same, different)
    print(f"{len(same)} pairs of one person, {len(different)} pairs of two")
    print(f"gallery.threshold={threshold:.4g}   both errors {error:.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
