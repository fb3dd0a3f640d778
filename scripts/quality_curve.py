"""How accuracy depends on quality: `python scripts/quality_curve.py SET --partition P`.

SET is an evaluation set of walks, packed or a folder. The people who test are halved by lot: one
half fits a calibration, the other is searched for in galleries of ten, and docs/identity.md shows
how often the nearest person was the right one, by quality, beside what the calibration promised.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from gait.data.dataset import FolderDataset
from gait.data.pack import PackedDataset
from gait.data.partition import load_partition
from gait.encoder import Encoder
from gait.errors import GaitError
from gait.evaluation.features import embed_dataset
from pipeline.errors import PipelineError
from pipeline.gallery.comparisons import of_labelled, steadiness
from pipeline.gallery.fitting import About, fit
from pipeline.gallery.searches import Searches, draw_searches
from pipeline.weights import DEFAULT_ENCODER, encoder_file

ROOT = Path(__file__).resolve().parent.parent
PEOPLE, SEARCHES, BINS = 10, 12_000, 8


def main() -> int:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="evaluation set")
    parser.add_argument("--partition", type=Path, required=True, help="who tests")
    parser.add_argument("--features", type=Path, default=ROOT / "results" / "quality-curve")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/images/accuracy-quality.png")
    options = parser.parse_args()
    try:
        rows = measure(options.data, options.partition, options.features)
    except (GaitError, PipelineError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    for quality, right, promised, count in rows:
        print(
            f"quality {quality:.3f}: {right:.1%} right, {promised:.1%} promised, {count} searches"
        )
    draw(rows, options.out)
    print(f"wrote {options.out}")
    return 0


def measure(data: Path, partition: Path, kept: Path) -> list[tuple[float, float, float, int]]:
    """Return mean quality, share that was right, mean probability and searches of each bin."""
    dataset = FolderDataset(data) if data.is_dir() else PackedDataset(data)
    tests = dataset.select(load_partition(partition).test)
    encoder = Encoder.from_weights(encoder_file(DEFAULT_ENCODER))
    features = embed_dataset(tests, data, encoder, kept)
    qualities = np.array([steadiness(tests[index]) for index in range(len(tests))])
    everybody = of_labelled(features, qualities, most=2000)
    rng = np.random.default_rng(0)
    fitted, tested = np.array_split(rng.permutation(np.unique(everybody.groups)), 2)
    about = About(encoder.model_hash, "", "", "evaluation")
    calibration = fit(everybody.of_groups(fitted), about)
    found = draw_searches(everybody.of_groups(tested), SEARCHES, rng, people=(PEOPLE, PEOPLE))
    return _binned(found, found.probabilities(calibration))


def _binned(
    found: Searches, probable: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> list[tuple[float, float, float, int]]:
    bins = np.array_split(np.argsort(found.qualities), BINS)
    return [
        (
            float(found.qualities[each].mean()),
            float(found.is_right[each].mean()),
            float(probable[each].mean()),
            len(each),
        )
        for each in bins
    ]


def draw(rows: list[tuple[float, float, float, int]], path: Path) -> None:
    """Draw both curves."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    quality, right, promised, counts = (np.array(each) for each in zip(*rows, strict=True))
    error = 1.96 * np.sqrt(right * (1 - right) / counts)
    figure, axes = pyplot.subplots(figsize=(7.2, 4.2), layout="constrained")
    axes.errorbar(quality, 100 * right, 100 * error, fmt="o-", color="#0072b2", label="right")
    axes.plot(quality, 100 * promised, "s--", color="#e69f00", label="promised (mean probability)")
    axes.axhline(50 / PEOPLE, color="#999999", linewidth=1, label="chance")
    axes.set(
        xlabel="quality (the lower of probe and exemplar)",
        ylabel="nearest person is the right one, %",
        title=f"Galleries of {PEOPLE} people nobody fitted on; half of the searches for strangers",
        ylim=(0, None),
    )
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
