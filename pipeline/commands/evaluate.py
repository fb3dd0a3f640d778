"""`trackletgait eval`: how good a network is; `trackletgait results`: how near the paper."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.markup import escape

from gait import evaluation
from gait.data.atomic import write_atomically
from gait.data.dataset import FolderDataset, GaitDataset, SequenceKey
from gait.data.datasets import DATASETS
from gait.data.pack import PackedDataset
from gait.data.partition import Partition, load_partition, partition_for
from gait.errors import GaitError
from gait.evaluation.features import Features, embed_dataset, read_features
from gait.evaluation.openset import OpenSetConfig
from gait.evaluation.plots import draw
from gait.evaluation.protocols import PROTOCOLS
from gait.evaluation.published import read_rows
from gait.evaluation.rerank import RerankConfig
from gait.evaluation.trials import Metric, Precision
from pipeline.commands.console import Console
from pipeline.commands.evaluation_tables import (
    embedding_progress,
    print_evaluation,
    print_results,
)
from pipeline.weights import encoder_file

if TYPE_CHECKING:  # torch takes a second: not for `--help`
    from gait.training.config import TrainingConfig

RESULT_FILE = "evaluation.json"


class MetricName(StrEnum):
    """How far apart two embeddings are."""

    EUCLIDEAN = "euclidean"
    COSINE = "cosine"


class PrecisionName(StrEnum):
    """What distances are computed in."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    FLOAT64 = "float64"


@dataclass(frozen=True, slots=True)
class _Job:
    """The options of one run."""

    name: str
    weights: Path | None
    features: Path | None
    data: Path | None
    partition: Path | None
    protocol: str
    device: str
    metric: Metric
    precision: Precision
    reranking: RerankConfig | None
    open_set: OpenSetConfig | None


def evaluate(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="CONFIG_OR_WEIGHTS",
            help="Weights: a bundled network by name, an authors' checkpoint (.pt), ours "
            "(.safetensors) or the folder of a run. Or a training configuration (.yaml): then the "
            "newest checkpoint in runs/NAME. "
            "Configuration and run give name, data, partition and protocol.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Weights, when the argument is a configuration and they lie elsewhere."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of subject/condition/view/*.pkl, or a packed file."),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help=f"One of {', '.join(PROTOCOLS)}.", show_default=False)
    ] = "",
    partition: Annotated[
        Path | None,
        typer.Option(help="Partition JSON; not needed where the split is a rule."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; default results/NAME.")
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            help="Evaluate stored embeddings: an .npz with embeddings, subjects, conditions and "
            "views, or the features folder of an earlier run."
        ),
    ] = None,
    name: Annotated[
        str,
        typer.Option(
            help="What the result counts for in `trackletgait results`: the name of a "
            "configuration; default: the given configuration's, or else the weights' file name."
        ),
    ] = "",
    metric: Annotated[MetricName, typer.Option(help="The papers use euclidean.")] = (
        MetricName.EUCLIDEAN
    ),
    precision: Annotated[
        PrecisionName,
        typer.Option(help="float16 repeats the release's mixed precision, for comparison."),
    ] = PrecisionName.FLOAT32,
    rerank: Annotated[
        bool,
        typer.Option(
            "--rerank",
            help="k-reciprocal re-ranking: say so beside the figure. No open-set figures then.",
        ),
    ] = False,
    open_set: Annotated[
        bool, typer.Option(help="Also FNIR at FPIR 1 % and 0.1 %, DET curve, EER, thresholds.")
    ] = True,
    plots: Annotated[bool, typer.Option(help="Draw PNG and SVG (needs matplotlib).")] = True,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Evaluate a network by a benchmark's protocol, and by what benchmarks leave out.

    Embeddings are kept in the results folder: interrupted, the same command goes on where it
    stopped. Exit code 0: evaluated, 1: failed, 2: wrong usage.
    """
    job = _Job(
        name,
        weights,
        features,
        data,
        partition,
        protocol,
        device,
        metric.value,
        precision.value,
        RerankConfig() if rerank else None,
        OpenSetConfig() if open_set else None,
    )
    job = _completed(job, model)
    _check_usage(job)
    folder = out if out is not None else Path("results") / job.name
    console, errors = Console(), Console(stderr=True)
    try:
        found, model_hash = _run(job, folder, errors)
        print_evaluation(found, console)
        _write(found, folder, job.name, model_hash)
        if plots:
            _draw(found, folder, errors)
    except GaitError as error:
        errors.problem(error)
        raise typer.Exit(1) from error
    console.print(f"Results: {escape(str(folder))}", soft_wrap=True)


def results(
    folder: Annotated[
        Path, typer.Argument(help="Folder under which the results of `trackletgait eval` lie.")
    ] = Path("results"),
    configs: Annotated[
        Path, typer.Option(help="Folder of configurations with `published:` figures.")
    ] = Path("configs/gait"),
) -> None:
    """Print published figures beside reproduced ones."""
    if not configs.is_dir():
        raise typer.BadParameter(f"no such folder: {configs}", param_hint="--configs")
    try:
        print_results(read_rows(configs, folder), Console())
    except GaitError as error:
        Console(stderr=True).problem(error)
        raise typer.Exit(1) from error


def _completed(job: _Job, model: Path | None) -> _Job:
    """Return the job with what the first argument says of weights, name, data and protocol."""
    from gait.training.checkpoints import CARD_FILE, read_card
    from gait.training.config import load_config

    config: TrainingConfig | None = None
    if model is not None and model.suffix in (".yaml", ".yml"):
        config = load_config(model)
        run = Path("runs") / config.name  # where `trackletgait train` leaves it
        job = replace(job, weights=job.weights or (None if job.features else _newest(run)))
    elif model is not None:
        job = replace(job, weights=_newest(model) if model.is_dir() else model)
    if config is None and job.weights is not None and (job.weights.parent / CARD_FILE).is_file():
        config = read_card(job.weights.parent).config
    if config is not None:
        job = _configured(job, config)
    source = job.weights or job.features
    return job if job.name or source is None else replace(job, name=source.stem)


def _newest(folder: Path) -> Path:
    """Return the weights of a training run, the newest, or of one checkpoint of it."""
    from gait.training.checkpoints import CARD_FILE, MODEL_FILE, Checkpoints
    from gait.training.trainer import CHECKPOINTS

    checkpoint = folder if (folder / CARD_FILE).is_file() else None
    checkpoint = checkpoint or Checkpoints(folder / CHECKPOINTS).newest()
    if checkpoint is None:
        raise typer.BadParameter(
            f"no checkpoint under {folder}; train first, or say with --weights where it lies"
        )
    return checkpoint / MODEL_FILE


def _configured(job: _Job, config: TrainingConfig) -> _Job:
    """Return the job with what it leaves open from a training configuration."""
    partition = config.data.partition
    return replace(
        job,
        name=job.name or config.name,
        data=job.data or Path(config.data.path),
        partition=job.partition or (None if partition is None else Path(partition)),
        protocol=job.protocol or config.evaluation.protocol or "",
    )


def _check_usage(job: _Job) -> None:
    """Refuse before any work what cannot end well."""
    if job.protocol not in PROTOCOLS:
        raise typer.BadParameter(
            f"expected one of {', '.join(PROTOCOLS)}, got {job.protocol!r}", param_hint="--protocol"
        )
    if job.reranking is not None and not PROTOCOLS[job.protocol].can_rerank:
        raise typer.BadParameter(
            f"{job.protocol} has not one gallery for all probes", param_hint="--rerank"
        )
    if (job.features is None) == (job.weights is None):
        raise typer.BadParameter("expected either weights to embed with, or --features")
    if job.weights is not None and job.data is None:
        raise typer.BadParameter("expected the data set to embed", param_hint="--data")
    from gait.encoder import pick_device

    try:
        pick_device(job.device)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--device") from error


def _run(job: _Job, folder: Path, errors: Console) -> tuple[evaluation.Evaluation, str]:
    """Return what was found, and the hash of the network, empty where nothing tells it."""
    if job.features is not None:
        features, split = _stored(job.features, job)
    else:
        features, split = _embedded(job, folder, errors)
    for gap in _gaps(job, features.keys, split):
        errors.print(f"Not comparable with published figures: {gap}", soft_wrap=True)
    found = evaluation.evaluate(
        job.protocol,
        features.embeddings,
        features.keys,
        probe_set=split.probe,
        metric=job.metric,
        precision=job.precision,
        reranking=job.reranking,
        open_set=job.open_set,
    )
    return found, features.model_hash


def _stored(path: Path, job: _Job) -> tuple[Features, Partition]:
    """Return stored features; with a partition, only those of its test subjects."""
    features = read_features(path)
    if job.partition is None:
        return features, Partition([], list(dict.fromkeys(key.subject for key in features.keys)))
    split = load_partition(job.partition)
    test = set(split.test)
    kept = [index for index, key in enumerate(features.keys) if key.subject in test]
    if len(kept) < len(features.keys):
        keys = [features.keys[index] for index in kept]
        features = Features(features.embeddings[np.array(kept, int)], keys, features.model_hash)
    return features, split


def _embedded(job: _Job, folder: Path, errors: Console) -> tuple[Features, Partition]:
    assert job.weights is not None  # _check_usage
    assert job.data is not None
    dataset = _open(job.data, PROTOCOLS[job.protocol].dataset)
    split = _partition(job, dataset)
    from gait.encoder import Encoder

    encoder = Encoder.from_weights(encoder_file(str(job.weights)), device=job.device)
    errors.print(f"Encoder: {escape(encoder.description)}", soft_wrap=True)
    tests = dataset.select(split.test)
    with embedding_progress(errors) as progress:
        kept = folder / "features"
        return embed_dataset(tests, job.data, encoder, kept, progress), split


def _gaps(job: _Job, keys: Sequence[SequenceKey], split: Partition) -> Iterator[str]:
    """Yield where the test set is not what the partition file lists or the data set has."""
    known = DATASETS.get(PROTOCOLS[job.protocol].dataset or "")
    subjects, sequences = {key.subject for key in keys}, {str(key) for key in keys}
    sizes = {"test subjects": (len(subjects), len(split.test))}
    if split.probe is not None:
        sizes["probes"] = (len(sequences & split.probe), len(split.probe))
    if known is not None and job.partition is None:
        sizes["test subjects"] = (len(subjects), known.num_test)
        sizes["test sequences"] = (len(keys), known.num_test_sequences or len(keys))
    for what, (found, expected) in sizes.items():
        if found != expected:
            yield f"expected {expected} {what}, got {found}"


def _open(data: Path, dataset: str | None) -> GaitDataset:
    if not data.is_dir():
        return PackedDataset(data)
    known = DATASETS.get(dataset or "")
    return FolderDataset(data, known.data_in_use if known and known.num_inputs > 1 else None)


def _partition(job: _Job, dataset: GaitDataset) -> Partition:
    """Return who tests: by the file, by the data set's rule, or everybody."""
    subjects = list(dict.fromkeys(key.subject for key in dataset.keys))
    if job.partition is not None:
        return load_partition(job.partition)
    name = PROTOCOLS[job.protocol].dataset
    return Partition([], subjects) if name is None else partition_for(name, subjects)


def _write(found: evaluation.Evaluation, folder: Path, name: str, model_hash: str) -> None:
    """Write JSON and CSV, and the submission plain and zipped as the server wants it."""
    about = {"config": name, "model_hash": model_hash}
    write_atomically(folder / RESULT_FILE, found.to_json(**about).encode())
    write_atomically(folder / "evaluation.csv", found.to_csv().encode())
    for pattern in ("cmc.*", "open-set.*", "submission.*"):
        for old in folder.glob(pattern):  # drawn or written from other figures
            old.unlink()
    if found.submission is not None:
        write_atomically(folder / "submission.csv", found.submission.encode())
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("submission.csv", found.submission)
        write_atomically(folder / "submission.zip", archive.getvalue())


def _draw(found: evaluation.Evaluation, folder: Path, errors: Console) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        errors.print("No plots: matplotlib is not installed (pip install 'trackletgait[plots]')")
        return
    draw(found, folder)
