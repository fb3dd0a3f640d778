"""`trackletgait train`: a network from one YAML; `trackletgait export-authors`: for OpenGait."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Argument(help="YAML such as configs/gait/*.yaml.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Changes such as optimiser.rate=0.05."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run; default runs/NAME. A run there is gone on with."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:N; under torchrun auto or cpu.")
    ] = "auto",
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write curves for TensorBoard.")
    ] = False,
) -> None:
    """Train a network. The same command goes on with a run that was stopped or killed.

    For several GPUs: torchrun --nproc-per-node=4 -m pipeline.cli train CONFIG. Exit code 0:
    trained to the end, 1: failed (checkpoints are whole), 2: wrong usage or configuration.
    """
    from pipeline.commands.train_run import run_training

    run_training(config, overrides or [], out, device=device, tensorboard=tensorboard)


def export_authors(
    checkpoint: Annotated[
        Path, typer.Argument(help="Folder of a checkpoint, as runs/NAME/checkpoints/00060000.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="File to write; default NAME-ITERATION.pt.")
    ] = None,
) -> None:
    """Write a checkpoint as the authors' program does, for users of OpenGait, and its card."""
    from pipeline.commands.train_run import run_export

    run_export(checkpoint, out)
