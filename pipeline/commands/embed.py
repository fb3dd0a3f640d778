"""`trackletgait embed`: silhouettes in, a file of embeddings out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.markup import escape
from rich.progress import track

from gait.errors import GaitError
from pipeline.commands.console import Console
from pipeline.errors import ModelError, OutputError
from pipeline.weights import DEFAULT_ENCODER, encoder_file

if TYPE_CHECKING:
    from gait.encoder import Encoder
    from gait.sequences import Sequence


class Dtype(StrEnum):
    """What the network computes in."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"


@dataclass(slots=True)
class _Embedded:
    """What has been embedded so far, and which inputs could not be."""

    names: list[str] = field(default_factory=list)
    embeddings: list[NDArray[np.float32]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def embed(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT",
            help="Folders of silhouette PNGs, OpenGait .pkl files, or .npy/.npz files of uint8 "
            "(T, 64, 44) or (T, 64, 64).",
        ),
    ],
    weights: Annotated[
        str,
        typer.Option(
            help="Weights: a bundled network by name, ours (.safetensors) or an authors' "
            "checkpoint (.pt)."
        ),
    ] = DEFAULT_ENCODER,
    out: Annotated[
        Path, typer.Option(help="File to write: `embeddings` (N, 256, 16) float32 and `names`.")
    ] = Path("embeddings.npz"),
    dtype: Annotated[
        Dtype, typer.Option(help="What to compute in; float64 is exact and several times slower.")
    ] = Dtype.FLOAT32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Embed sequences of silhouettes with a TrackletGait network.

    One input that cannot be read does not stop the others. Exit code 0: all embedded, 1: some or
    all failed, 2: wrong usage.
    """
    console, errors = Console(), Console(stderr=True)
    _check_usage(out, device)
    try:
        compute = np.float64 if dtype is Dtype.FLOAT64 else np.float32
        from gait.encoder import Encoder  # torch takes a second: not for `--help`

        encoder = Encoder.from_weights(encoder_file(weights), device=device, dtype=compute)
        console.print(f"Encoder: {escape(encoder.description)}", soft_wrap=True)
        done = _embed_all(encoder, _with_progress(inputs, errors), console)
        if done.names:
            _write(out, done)
            console.print(
                f"Wrote {len(done.names)} embeddings to {escape(str(out))}", soft_wrap=True
            )
    except (GaitError, ModelError, OutputError) as error:
        errors.problem(error)
        raise typer.Exit(1) from error
    for failure in done.failures:
        errors.problem(failure)
    if done.failures:
        errors.print(f"{len(done.failures)} of {len(inputs)} inputs could not be embedded")
        raise typer.Exit(1)


def _check_usage(out: Path, device: str) -> None:
    """Refuse before any work what cannot end well."""
    if out.is_dir():
        raise typer.BadParameter(f"expected a file, got the folder {out}", param_hint="--out")
    try:
        from gait.encoder import pick_device

        pick_device(device)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--device") from error


def _with_progress(inputs: list[Path], console: Console) -> Iterable[Path]:
    if len(inputs) == 1:
        return inputs
    return track(inputs, description="Embedding", console=console, transient=True)


def _embed_all(encoder: Encoder, inputs: Iterable[Path], console: Console) -> _Embedded:
    from gait.sequences import read_sequences

    done = _Embedded()
    for path in inputs:
        try:
            sequences = read_sequences(path)
            embeddings = encoder.embed([each.silhouettes for each in sequences])
        except GaitError as error:
            done.failures.append(str(error))
            continue
        done.names += [each.name for each in sequences]
        done.embeddings += [each.astype(np.float32) for each in embeddings]
        for each in sequences:
            _report_skipped(each, console)
    return done


def _report_skipped(sequence: Sequence, console: Console) -> None:
    if sequence.skipped:
        counts = ", ".join(f"{reason} {count}" for reason, count in sequence.skipped)
        console.print(
            f"{escape(sequence.name)}: frames without a silhouette: {counts}", soft_wrap=True
        )


def _write(out: Path, done: _Embedded) -> None:
    """Write the file whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    partial = out.with_name(f"{out.name}.{os.getpid()}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.savez(file, embeddings=np.stack(done.embeddings), names=np.array(done.names))
        partial.replace(out)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise OutputError(
            f"{out}: cannot write the embeddings ({error.strerror}); choose a folder that is "
            "writable and has room with --out"
        ) from error
