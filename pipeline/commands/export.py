"""`trackletgait export`: a network as an ONNX file, checked against torch before it is written."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from gait.data.dataset import FolderDataset, GaitDataset
from gait.data.pack import PackedDataset
from gait.errors import DataError
from gait.model.card import card_path
from gait.silhouette import cut
from pipeline.commands.console import Console
from pipeline.stages.encode import read_card
from pipeline.weights import encoder_file, sha256_of

if TYPE_CHECKING:  # torch takes a second: not for `--help`
    from gait.export import Exported
    from gait.model.checkpoint import Checkpoint

_MOST_TRACKLETS = 32
_MOST_FRAMES = 32


class PrecisionName(StrEnum):
    """What the file computes in."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"


def export(
    weights: Annotated[
        str,
        typer.Argument(
            metavar="WEIGHTS",
            help="A bundled network by name, ours (.safetensors) or an authors' checkpoint (.pt).",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="File to write.")],
    precision: Annotated[
        PrecisionName,
        typer.Option(
            help="What to compute in; inputs and outputs are float32 in any case. float16 and "
            "bfloat16 are for GPUs, int8 is for CPUs."
        ),
    ] = PrecisionName.FLOAT32,
    lengths: Annotated[
        bool,
        typer.Option(
            "--lengths",
            help="Give the graph a second input, the frames of each sequence, so that sequences "
            "of different lengths may share a call.",
        ),
    ] = False,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="For int8: choose ranges by this data set (folder of subject/condition/view/"
            "*.pkl, or a packed file) instead of the tracklets that come with the package."
        ),
    ] = None,
    symmetric: Annotated[
        bool,
        typer.Option(
            "--symmetric", help="For int8: as TensorRT takes it; CPUs gain nothing by such a file."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT.onnx if it exists.")] = False,
) -> None:
    """Write a network as an ONNX file that any runtime reads.

    The file is compared with torch on real silhouettes first, and written only if it agrees.
    Exit code 0: written, 1: failed, 2: wrong usage.
    """
    _check_usage(out, force=force)
    _check_int8(precision, {"--calibrate": calibrate is not None, "--symmetric": symmetric})
    from gait.export import export as export_network
    from gait.model.checkpoint import load_checkpoint

    loaded = load_checkpoint(encoder_file(weights))
    exported = export_network(
        loaded.model,
        precision=precision.value,
        has_lengths=lengths,
        symmetric=symmetric,
        calibration=() if calibrate is None else _calibration(calibrate),
        metadata=_provenance(weights, loaded),
    )
    exported.write(out)
    _print(exported, out, Console(highlight=False))


def _check_usage(out: Path, *, force: bool) -> None:
    """Refuse before any work what cannot end well."""
    if out.is_dir():
        raise typer.BadParameter(f"expected a file, got the folder {out}", param_hint="OUT.onnx")
    if out.exists() and not force:
        raise typer.BadParameter(f"{out} exists; give --force to replace it", param_hint="OUT.onnx")


def _check_int8(precision: PrecisionName, given: dict[str, bool]) -> None:
    """Refuse options that mean nothing in the other precisions."""
    for option, is_given in given.items():
        if is_given and precision is not PrecisionName.INT8:
            raise typer.BadParameter(f"only for int8, not {precision}", param_hint=option)


def _provenance(weights: str, loaded: Checkpoint) -> dict[str, str]:
    """Return what the file says about the weights it was made of."""
    entries = {"weights": loaded.path.name, "weights_sha256": loaded.sha256}
    if read_card(weights) is not None:
        entries["card_sha256"] = sha256_of(card_path(loaded.path))
    return entries


def _calibration(path: Path) -> list[NDArray[np.uint8]]:
    """Return the middles of walks spread evenly over a data set.

    Raises:
        DataError: It is missing, damaged or empty.
    """
    dataset: GaitDataset = PackedDataset(path) if path.is_file() else FolderDataset(path)
    if not len(dataset):
        raise DataError(f"{path}: expected sequences to calibrate with, found none")
    chosen = np.linspace(0, len(dataset) - 1, min(len(dataset), _MOST_TRACKLETS)).astype(int)
    return [_middle(dataset[index]) for index in chosen.tolist()]


def _middle(silhouettes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    start = max(0, (len(silhouettes) - _MOST_FRAMES) // 2)
    return cut(silhouettes[start : start + _MOST_FRAMES])


def _print(exported: Exported, out: Path, console: Console) -> None:
    table = Table(title="Compared with torch in float32")
    for column in ("sequences", "frames", "largest difference", "worst part", "mean cosine"):
        table.add_column(column, justify="right")
    for check in exported.checks:
        table.add_row(
            str(check.batch),
            str(check.frames),
            f"{check.max_difference:.1e}",
            f"{check.min_cosine:.6f}",
            f"{check.mean_cosine:.6f}",
        )
    console.print(table)
    for key, value in sorted(exported.metadata.items()):
        if key != "checks":
            console.print(f"{key}: {escape(value)}", soft_wrap=True)
    console.print(f"Wrote {escape(str(out))} ({len(exported.onnx) / 1e6:.1f} MB)", soft_wrap=True)
