"""OU-MVLP's whole test set in 8 GB: as many sequences, random features.

All of it at once is 36 Tflop. What memory grows with is measured apart instead, and added up: the
width of the embeddings, with the whole gallery but few probes, and the number of probes, with
narrow embeddings.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

NUM_SEQUENCES = 133_478
NUM_SUBJECTS = 5154
VIEWS = [f"{angle:03d}" for angle in (*range(0, 91, 15), *range(180, 271, 15))]
RECOGNISABLE = 0.8
WIDE, NARROW = (256, 16), (64, 2)
FEW_SUBJECTS = 200  # 2800 probes: distances to the whole gallery are computed for 1000 at a time

MEASURE = textwrap.dedent(
    """
    import json, resource, sys
    import numpy as np
    from gait.data.dataset import SequenceKey
    from gait.evaluation import evaluate
    from gait.evaluation.openset import OpenSetConfig

    embeddings = np.load(sys.argv[1], mmap_mode="r")
    keys = [SequenceKey(*key) for key in json.load(open(sys.argv[2]))]
    found = evaluate("ou-mvlp", embeddings, keys, open_set=OpenSetConfig())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"metrics": dict(found.metrics), "peak": peak}))
    """
)


def all_keys(num_probed: int) -> list[tuple[str, str, str]]:
    """Return subject, condition and view; only so many subjects are looked for."""
    return [
        (f"{subject:05d}", condition, view)
        for subject in range(NUM_SUBJECTS)
        for condition in ("00" if subject < num_probed else "not looked for", "01")
        for view in VIEWS
    ][:NUM_SEQUENCES]


def measured(folder: Path, keys: list[tuple[str, str, str]]) -> dict[str, Any]:
    """Evaluate the features of a folder in a process of its own: its metrics and peak memory."""
    (folder / "keys.json").write_text(json.dumps(keys))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder / "embeddings.npy"), str(folder / "keys.json")],
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def opened(folder: Path, size: tuple[int, int]) -> np.memmap[Any, np.dtype[np.float16]]:
    path = folder / "embeddings.npy"
    return np.lib.format.open_memmap(path, "w+", np.float16, (NUM_SEQUENCES, *size))


def write_noise(folder: Path) -> None:
    """Write features as wide as the encoder's."""
    features = opened(folder, WIDE)
    noise = np.random.default_rng(0).standard_normal((1009, *WIDE), np.float32).astype(np.float16)
    for start in range(0, NUM_SEQUENCES, len(noise)):
        features[start : start + len(noise)] = noise[: NUM_SEQUENCES - start]
    features.flush()


def write_people(folder: Path, subjects: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Write features of which four subjects in five have something of their own; return which.

    Those are always found, the others by chance in one of 5154 trials.
    """
    rng = np.random.default_rng(0)
    features = opened(folder, NARROW)
    is_recognisable = rng.random(NUM_SUBJECTS) < RECOGNISABLE
    for subject in np.unique(subjects):
        places = np.flatnonzero(subjects == subject)
        noise = rng.standard_normal((len(places), *NARROW), np.float32)
        # The others look like somebody else in every sequence: as far from everyone as strangers.
        num_looks = 1 if is_recognisable[subject] else len(places)
        looks = 4 * rng.standard_normal((num_looks, *NARROW), np.float32)
        features[places] = (looks + noise).astype(np.float16)
    features.flush()
    return is_recognisable


@pytest.mark.slow
@pytest.mark.timeout(3600)  # some 2 Tflop, and 4 billion distances to rank: two minutes on one core
def test_the_whole_of_ou_mvlp_is_evaluated_in_8_gb(tmp_path: Path) -> None:
    write_noise(tmp_path)
    wide = measured(tmp_path, all_keys(FEW_SUBJECTS))

    keys = all_keys(NUM_SUBJECTS)
    subjects = np.array([int(key[0]) for key in keys])
    is_recognisable = write_people(tmp_path, subjects)
    narrow = measured(tmp_path, keys)

    assert wide["peak"] > NUM_SEQUENCES // 2 * 256 * 16 * 2  # the gallery alone: it was all there
    assert wide["peak"] + narrow["peak"] < 8e9
    probes = subjects[[key[1] == "00" for key in keys]]
    expected = float(is_recognisable[probes].mean())
    # A mean over views, whose numbers of probes differ a little, and luck: hence the tolerance.
    assert narrow["metrics"]["rank-1"] == pytest.approx(expected, abs=0.005)
    # Strangers are far from everyone: the threshold keeps all recognisable people and no others.
    assert narrow["metrics"]["NM/FNIR@FPIR=1%"] == pytest.approx(1 - expected, abs=0.005)
