"""OU-MVLP's whole test set in 8 GB: as many sequences, random features."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

NUM_SEQUENCES = 133_478
NUM_SUBJECTS = 5154
VIEWS = [f"{angle:03d}" for angle in (*range(0, 91, 15), *range(180, 271, 15))]
RECOGNISABLE = 0.8

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


def write_test_set(folder: Path) -> tuple[Path, Path, float]:
    """Write features of which four subjects in five have something of their own; return how many.

    Those are always found, the others by chance in one of 5154 trials.
    """
    keys = [
        (f"{subject:05d}", condition, view)
        for subject in range(NUM_SUBJECTS)
        for condition in ("00", "01")
        for view in VIEWS
    ][:NUM_SEQUENCES]
    rng = np.random.default_rng(0)
    path = folder / "embeddings.npy"
    features = np.lib.format.open_memmap(path, "w+", np.float16, (NUM_SEQUENCES, 256, 16))
    is_recognisable = rng.random(NUM_SUBJECTS) < RECOGNISABLE
    subjects = np.array([int(key[0]) for key in keys])
    for subject in np.unique(subjects):
        places = np.flatnonzero(subjects == subject)
        noise = rng.standard_normal((len(places), 256, 16), np.float32)
        # The others look like somebody else in every sequence: as far from everyone as strangers.
        num_looks = 1 if is_recognisable[subject] else len(places)
        looks = rng.standard_normal((num_looks, 256, 16), np.float32)
        features[places] = (looks + noise).astype(np.float16)
    features.flush()
    (folder / "keys.json").write_text(json.dumps(keys))
    probes = subjects[[key[1] == "00" for key in keys]]
    return path, folder / "keys.json", float(is_recognisable[probes].mean())


@pytest.mark.slow
@pytest.mark.timeout(3600)  # 36 Tflop: 10 minutes on one core
def test_the_whole_of_ou_mvlp_is_evaluated_in_8_gb(tmp_path: Path) -> None:
    features, keys, expected = write_test_set(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(features), str(keys)],
        check=True,
        capture_output=True,
        text=True,
    )
    result = json.loads(done.stdout)
    assert result["peak"] < 8e9
    # A mean over views, whose numbers of probes differ a little, and luck: hence the tolerance.
    assert result["metrics"]["rank-1"] == pytest.approx(expected, abs=0.005)
    # Strangers are far from everyone: the threshold keeps all recognisable people and no others.
    assert result["metrics"]["NM/FNIR@FPIR=1%"] == pytest.approx(1 - expected, abs=0.005)
