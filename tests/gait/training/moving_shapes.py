"""Moving shapes, a few sequences an identity, written as OpenGait's tree.

Who somebody is shows in how wide eight bands of the body are. How wide the whole body is, how
bright, where it stands and how it swings changes from sequence to sequence, and much more: an
untrained network sees that first.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH, NUM_BANDS = 64, 44, 8


def draw_walk(subject: int, take: int, num_frames: int) -> NDArray[np.uint8]:
    """Return one sequence, shape (T, 64, 44), uint8."""
    bands = np.random.default_rng([1, subject]).permutation(NUM_BANDS) % 4 * 2
    rng = np.random.default_rng([2, subject, take])
    breadth, grey = rng.uniform(3, 12), rng.integers(50, 256)
    swing, phase, x = rng.uniform(1, 6), rng.uniform(0, 6), rng.uniform(14, 30)
    half_widths = breadth + np.repeat(bands, HEIGHT // NUM_BANDS) / 2
    rows = np.arange(HEIGHT) / HEIGHT
    frames = np.zeros((num_frames, HEIGHT, WIDTH), np.uint8)
    for t, frame in enumerate(frames):
        centres = x + swing * rows * np.sin(0.7 * t + phase)
        inside = abs(np.arange(WIDTH) - centres[:, None]) <= half_widths[:, None]
        frame[inside] = grey
    return frames


def write_tree(root: Path, num_train: int, num_test: int, takes: int = 4) -> tuple[Path, Path]:
    """Write sequences of all subjects and return the data set and its partition file."""
    subjects = [f"{number:03d}" for number in range(num_train + num_test)]
    for number, subject in enumerate(subjects):
        for take in range(takes):
            folder = root / "data" / subject / f"nm-{take:02d}" / "000"
            folder.mkdir(parents=True)
            walk = draw_walk(number, take, 8 + (number + take) % 5)
            (folder / "000.pkl").write_bytes(pickle.dumps(walk))
    partition = root / "partition.json"
    partition.write_text(
        json.dumps({"TRAIN_SET": subjects[:num_train], "TEST_SET": subjects[num_train:]})
    )
    return root / "data", partition
