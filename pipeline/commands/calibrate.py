"""`trackletgait calibrate`: what the encoder's distances mean, here."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from gait.errors import DataError
from pipeline.commands.console import Console
from pipeline.errors import OutputError
from pipeline.sinks.folder import MARKER, ResultsFolder
from pipeline.weights import DEFAULT_ENCODER, encoder_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gait.data.dataset import GaitDataset
    from gait.evaluation.features import Features
    from pipeline.gallery.calibration import Calibration
    from pipeline.gallery.comparisons import Comparisons
    from pipeline.gallery.fitting import About

_RATES = (0.01, 0.1)
_SIZES = (1, 10, 100, 1000)
_MOST_SEQUENCES = 2000
_HELD_OUT_SEARCHES = 4000


@dataclass(frozen=True, slots=True, eq=False)
class _Material:
    comparisons: Comparisons
    model_hash: str
    source: str
    kind: Literal["evaluation", "results"]


def calibrate(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="Results folders of `process` or `run`: nobody needs to be known there. Or one "
            "evaluation set with labels: a folder of subject/condition/view/*.pkl, a packed file, "
            "or stored embeddings (.npz, features folder) as `trackletgait eval` takes them.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The calibration's file.")] = Path(
        "calibration.json"
    ),
    weights: Annotated[
        str, typer.Option(help="Encoder for an evaluation set: a bundled name or a file.")
    ] = DEFAULT_ENCODER,
    partition: Annotated[
        Path | None, typer.Option(help="Partition JSON: only those who test are compared.")
    ] = None,
    gap: Annotated[
        float,
        typer.Option(
            min=0.0, help="Seconds between two tracklets of one track, in results folders."
        ),
    ] = 1.0,
    test: Annotated[
        list[Path] | None,
        typer.Option(
            help="Results folders of another time: say how right this, and the encoder's own "
            "calibration, are there."
        ),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(help="Keep embeddings of an evaluation set here, to go on when interrupted."),
    ] = None,
) -> None:
    """Fit thresholds and probabilities to an evaluation set or to the site's own results.

    Give the file to a run as gallery.calibration=FILE, with gallery.false_positive_rate=0.01 to
    take the threshold from it. Exit code 0: written, 1: failed, 2: wrong usage.
    """
    from pipeline.gallery.fitting import About, fit

    errors = Console(stderr=True)
    material = _material(sources, weights, partition, gap, features, errors)
    others = _of_others(test, gap, material.model_hash) if test else None
    about = About(
        material.model_hash,
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        material.source,
        material.kind,
    )
    with errors.status("fitting"):
        calibration = fit(material.comparisons, about)
        held_out = _held_out(material.comparisons, about)
    calibration.write(out)
    _print(calibration, held_out)
    if others is not None:
        _print_tested(calibration, others)
    Console(highlight=False, soft_wrap=True).print(f"Calibration: {escape(str(out))}")


def _material(
    sources: list[Path],
    weights: str,
    partition: Path | None,
    gap_s: float,
    kept: Path | None,
    errors: Console,
) -> _Material:
    for source in sources:
        if not source.exists():
            raise typer.BadParameter(f"no such file or folder: {source}", param_hint="SOURCE")
    are_results = [(source / MARKER).is_file() for source in sources]
    if all(are_results):
        return _of_results(sources, gap_s)
    if len(sources) > 1:
        raise typer.BadParameter(
            "expected results folders of `trackletgait process` or one evaluation set, got "
            f"{len(sources)} sources of which {sum(are_results)} are results folders",
            param_hint="SOURCE",
        )
    return _of_evaluation(sources[0], weights, partition, kept, errors)


def _of_results(folders: list[Path], gap_s: float) -> _Material:
    from pipeline.gallery.comparisons import of_results
    from pipeline.sinks.run import read_run

    hashes = {
        model.sha256
        for folder in folders
        for model in read_run(ResultsFolder(folder)).models
        if model.role == "encoder"
    }
    if len(hashes) != 1 or None in hashes:
        raise OutputError(
            "expected results that one encoder made, got "
            f"{', '.join(sorted(str(each)[:12] for each in hashes)) or 'none'}; run all of them "
            "again with one"
        )
    names = ", ".join(folder.resolve().name for folder in folders)
    return _Material(
        of_results(folders, gap_s=gap_s),
        str(hashes.pop()),
        f"unlabelled results {names}; tracklets of a track {gap_s:g} s or more apart",
        "results",
    )


def _of_others(folders: list[Path], gap_s: float, model_hash: str) -> Comparisons:
    """Return the comparisons of results to test on."""
    material = _material(folders, DEFAULT_ENCODER, None, gap_s, None, Console(stderr=True))
    if material.kind != "results" or material.model_hash != model_hash:
        raise typer.BadParameter(
            "expected results folders made by the same encoder", param_hint="--test"
        )
    return material.comparisons


def _of_evaluation(
    source: Path, weights: str, partition: Path | None, kept: Path | None, errors: Console
) -> _Material:
    from gait.data.partition import load_partition
    from gait.evaluation.features import Features, read_features
    from pipeline.gallery.comparisons import of_labelled

    split = None if partition is None else load_partition(partition)
    qualities = None
    name = source.name
    if source.suffix == ".npz" or (source / "features.json").is_file():
        features = read_features(source)
        if split is not None:
            rows = [i for i, key in enumerate(features.keys) if key.subject in set(split.test)]
            keys = [features.keys[row] for row in rows]
            features = Features(features.embeddings[np.array(rows, int)], keys, features.model_hash)
        if not features.model_hash:
            raise DataError(
                f"{source}: expected embeddings that say which model made them; give the data set "
                "or the features folder of `trackletgait eval`"
            )
    else:
        dataset = _opened(source)
        features, qualities = _embedded(
            dataset if split is None else dataset.select(split.test), source, weights, kept, errors
        )
        name = f"{name} with {weights}"
    words = f"evaluation set {name}" + ("" if partition is None else f", {partition.name}")
    return _Material(
        of_labelled(features, qualities, most=_MOST_SEQUENCES),
        features.model_hash,
        words,
        "evaluation",
    )


def _opened(source: Path) -> GaitDataset:
    from gait.data.dataset import FolderDataset
    from gait.data.pack import PackedDataset

    return FolderDataset(source) if source.is_dir() else PackedDataset(source)


def _embedded(
    dataset: GaitDataset, source: Path, weights: str, kept: Path | None, errors: Console
) -> tuple[Features, NDArray[np.float64]]:
    """Return embeddings and qualities of a data set's sequences."""
    import tempfile

    from gait.encoder import Encoder
    from gait.evaluation.features import Features, embed_dataset
    from pipeline.commands.evaluation_tables import embedding_progress
    from pipeline.gallery.comparisons import steadiness

    encoder = Encoder.from_weights(encoder_file(weights))
    with tempfile.TemporaryDirectory() as scratch, embedding_progress(errors) as progress:
        found = embed_dataset(dataset, source, encoder, kept or Path(scratch), progress)
        features = Features(np.array(found.embeddings), found.keys, found.model_hash)
    return features, np.array([steadiness(dataset[index]) for index in range(len(dataset))])


_Row = tuple[int, list[float]]


def _held_out(comparisons: Comparisons, about: About) -> list[_Row]:
    """Return how right a calibration of one half of the people is on the other half."""
    from pipeline.gallery.fitting import fit

    rng = np.random.default_rng(0)
    groups = rng.permutation(np.unique(comparisons.groups))
    fitted, tested = np.array_split(groups, 2)
    try:
        calibration = fit(comparisons.of_groups(fitted), about)
    except DataError:
        return []
    return _tested(calibration, comparisons.of_groups(tested), rng)


def _tested(calibration: Calibration, others: Comparisons, rng: np.random.Generator) -> list[_Row]:
    """Return how right a calibration is on other people.

    Returns:
        For some sizes of gallery: share that was right, calibration error, Brier score, then FPIR
        and FNIR for each of `_RATES`. Empty where there are too few people.
    """
    from pipeline.gallery.searches import draw_searches, expected_calibration_error

    rows: list[_Row] = []
    try:
        for size in (1, 5, 20, 60):
            found = draw_searches(others, _HELD_OUT_SEARCHES, rng, people=(size, size))
            if found.num_people.max() < size:
                break
            probable = found.probabilities(calibration)
            figures = [
                float(found.is_right.mean()),
                expected_calibration_error(probable, found.is_right),
                float(np.mean((probable - found.is_right) ** 2)),
            ]
            for rate in _RATES:
                figures += found.misses(calibration, rate)
            rows.append((size, figures))
    except ValueError:
        return rows
    return rows


def _print(calibration: Calibration, held_out: list[tuple[int, list[float]]]) -> None:
    console = Console(highlight=False)
    what = "people" if calibration.kind == "evaluation" else "tracks"
    console.print(
        f"{calibration.genuine_pairs} pairs of one person, {calibration.impostor_pairs} of two; "
        f"{calibration.people} {what}. Model {calibration.model_hash[:12]}."
    )
    table = Table("exemplars searched", *(f"threshold at FPIR {rate:.0%}" for rate in _RATES))
    for size in _SIZES:
        cells = []
        for rate in _RATES:
            at = calibration.threshold(rate, size)
            note = "" if at.is_resolved else ", too few pairs to tell"
            cells.append(f"{at.distance:.3f} ({at.low:.3f} to {at.high:.3f}{note})")
        table.add_row(str(size), *cells)
    console.print(table)
    if not held_out:
        console.print(f"Too few {what} to hold half of them out: how right this is, nobody knows.")
        return
    console.print(f"Fitted on half of the {what}, tested on the other half:")
    console.print(_table(held_out))


def _print_tested(calibration: Calibration, others: Comparisons) -> None:
    from pipeline.gallery.calibration import bundled_calibration

    console = Console(highlight=False)
    shipped = bundled_calibration(calibration.model_hash)
    for name, each in (("This calibration", calibration), ("The encoder's own", shipped)):
        if each is not None and (rows := _tested(each, others, np.random.default_rng(0))):
            console.print(f"{name}, tested on the other results:")
            console.print(_table(rows))


def _table(rows: list[_Row]) -> Table:
    names = [f"FPIR, FNIR at {rate:.0%}" for rate in _RATES]
    table = Table("people", "right", "ECE", "Brier", *names)
    for size, figures in rows:
        right, error, brier, *rates = figures
        pairs = zip(rates[::2], rates[1::2], strict=True)
        shares = [f"{100 * fpir:.1f}%, {100 * fnir:.1f}%" for fpir, fnir in pairs]
        table.add_row(str(size), f"{100 * right:.1f}%", f"{error:.3f}", f"{brier:.3f}", *shares)
    return table
