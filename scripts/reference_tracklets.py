"""Cut the tracklets that runtimes are compared by and int8 is calibrated with.

    python scripts/reference_tracklets.py

follows the pedestrians of the bundled clip, writes gait/runtimes/reference.npz and, to look at,
the silhouettes as a picture if a file is named.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gait.data.atomic import write_atomically
from gait.evaluation.stretches import StretchConfig
from gait.runtimes.reference import FILE, pack_tracklets
from pipeline.evaluation.walks import follow
from pipeline.sources.inputs import sample_path

REFERENCE = (1, 2, 3, 5, 7, 8, 11, 13, 16, 19, 23, 27, 30, 30, 45, 64)
CALIBRATION = (8, 12, 16, 16, 16, 16, 24, 30)


def cut(walks: Sequence[NDArray[np.uint8]], lengths: Sequence[int]) -> list[NDArray[np.uint8]]:
    """Return a tracklet of each length, from one walk after the other, none used twice."""
    left = list(walks)
    turns = itertools.count()
    tracklets: dict[int, list[NDArray[np.uint8]]] = {}
    for length in sorted(lengths, reverse=True):
        able = [index for index, walk in enumerate(left) if len(walk) >= length]
        index = able[next(turns) % len(able)]
        tracklets.setdefault(length, []).append(left[index][:length])
        left[index] = left[index][length:]
    return [tracklets[length].pop() for length in lengths]


def sheet(tracklets: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return a picture with a row a tracklet."""
    longest = max(len(each) for each in tracklets)
    rows = [np.pad(each, ((0, longest - len(each)), (0, 0), (0, 0))) for each in tracklets]
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])


def main() -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sheet", type=Path, help="also draw the silhouettes into this PNG")
    picture = parser.parse_args().sheet
    with tempfile.TemporaryDirectory() as scratch:
        walks = follow(sample_path(), Path(scratch)).walks(StretchConfig())
    tracks = sorted({walk.track for walk in walks}, key=int)
    for walk in walks:
        print(f"walk {walk.name}: {len(walk.silhouettes)} silhouettes")
    by_side = [
        [walk.silhouettes for walk in walks if walk.track in tracks[side::2]] for side in (0, 1)
    ]
    reference, calibration = cut(by_side[0], REFERENCE), cut(by_side[1], CALIBRATION)
    write_atomically(FILE, pack_tracklets(reference, calibration))
    print(f"wrote {FILE}: {FILE.stat().st_size / 1e3:.0f} kB")
    if picture is not None:
        cv2.imwrite(str(picture), sheet([*reference, *calibration]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
