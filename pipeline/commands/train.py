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


def export_weights(
    checkpoint: Annotated[
        Path, typer.Argument(help="Folder of a run (its newest checkpoint) or of a checkpoint.")
    ],
    out: Annotated[Path, typer.Argument(help="File to write, NAME.safetensors.")],
    half: Annotated[
        bool, typer.Option("--half/--full", help="Store float16, half as large, or float32.")
    ] = True,
    data: Annotated[
        str | None, typer.Option(help="For the card: what it was trained with, recipe and seed.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, help="Largest distance at which two walks are one person's."),
    ] = None,
    threshold_source: Annotated[
        str, typer.Option(help="For the card: how the threshold was found.")
    ] = "",
    figures: Annotated[
        list[Path] | None,
        typer.Option(help="For the card: evaluation.json of `trackletgait eval`, repeatable."),
    ] = None,
) -> None:
    """Write the weights of a run as they ship: without the training head, with a model card.

    The pipeline reads the threshold from the card (NAME.json) beside the weights. The same
    checkpoint gives the same bytes: give the command again to complete the card.
    """
    from pipeline.commands.train_run import run_export_weights

    told = {"data": data, "threshold": threshold, "threshold_source": threshold_source}
    run_export_weights(checkpoint, out, figures or [], half=half, **told)


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
