"""`trackletgait data`: raw silhouettes to a data set, checked and packed."""

from __future__ import annotations

import json
import os
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import Progress, track
from rich.table import Table

from gait.data.atomic import write_atomically
from gait.data.check import CheckReport, check
from gait.data.check_rules import Finding, Severity
from gait.data.dataset import FolderDataset
from gait.data.datasets import DATASETS
from gait.data.pack import PACK_SUFFIX, write_pack
from gait.data.prepare import plan_preparation, prepare
from gait.data.prepare_report import PreparationReport
from pipeline.commands.console import Console

app = typer.Typer(help="Prepare, check and pack data sets of silhouettes.", no_args_is_help=True)

_SHOWN_A_KIND = 5
_CORES = os.cpu_count() or 1


class Benchmark(StrEnum):
    """The benchmarks of `gait.data.datasets`."""

    CASIA_B = "casia-b"
    OU_MVLP = "ou-mvlp"
    GAIT3D = "gait3d"
    GREW = "grew"
    CCPG = "ccpg"
    SUSTECH1K = "sustech1k"


class Layout(StrEnum):
    """The raw layouts of `gait.data.layouts`."""

    GENERIC = "generic"
    OU_MVLP = "ou-mvlp"
    GAIT3D = "gait3d"
    GREW = "grew"
    SUSTECH1K = "sustech1k"


_Workers = Annotated[
    int, typer.Option(min=1, help="Processes. More are faster, up to the number of cores.")
]
_DatasetOption = Annotated[
    Benchmark | None,
    typer.Option("--dataset", help="Which benchmark it is; none for your own data."),
]
_InUseOption = Annotated[
    str | None,
    typer.Option(
        "--data-in-use",
        metavar="0,1,...",
        help="Which .pkl of a view folder are the silhouettes, by name; one must be 1. Needed "
        "where a folder has several and --dataset does not tell.",
    ),
]


@app.command("prepare")
def prepare_command(
    raw: Annotated[Path, typer.Argument(help="Root of the raw silhouette PNGs.")],
    out: Annotated[Path, typer.Argument(help="Folder to write, or to continue in.")],
    dataset: Annotated[Benchmark, typer.Option(help="Which benchmark it is.")],
    layout: Annotated[
        Layout | None,
        typer.Option(
            help="Where the frames lie, if not as the benchmark ships them; generic is "
            "subject/condition/view/*.png.",
        ),
    ] = None,
    workers: _Workers = _CORES,
) -> None:
    """Turn raw silhouette PNGs into OpenGait's layout.

    Stop it when you like: the same command continues where it stopped.

    Exit code 0: done, 1: nothing could be prepared, 2: wrong usage.
    """
    console, errors = Console(), Console(stderr=True)
    plan = plan_preparation(raw, out, dataset.value, layout and layout.value)
    if layout is None and not DATASETS[dataset.value].layout_known:
        errors.print(
            f"[yellow]Note:[/yellow] how {DATASETS[dataset.value].title} ships its PNGs is not "
            "documented in public; expecting subject/condition/view. Rearrange them if they "
            "lie differently.",
        )
    steps = track(
        prepare(plan, workers), "Preparing", len(plan.tasks), console=errors, transient=True
    )
    report = PreparationReport.of(plan.settings, steps)
    _print_preparation(report, report.write(out), console)
    if not report.num_kept:
        errors.problem("no frame gave a silhouette; see the reasons above")
        raise typer.Exit(1)


@app.command("pack")
def pack_command(
    data: Annotated[Path, typer.Argument(help="Root of a data set in OpenGait's layout.")],
    out: Annotated[Path, typer.Argument(help=f"File to write, usually NAME{PACK_SUFFIX}.")],
    dataset: _DatasetOption = None,
    data_in_use: _InUseOption = None,
) -> None:
    """Pack a data set into one memory-mapped file, which training reads many times faster."""
    console, errors = Console(), Console(stderr=True)
    sequences = FolderDataset(data, _chosen(data_in_use, dataset))
    with Progress(console=errors, transient=True) as progress:
        bar = progress.add_task("Packing", total=len(sequences))
        write_pack(sequences, out, lambda _: progress.advance(bar))
    console.print(
        f"Packed {len(sequences)} sequences into {escape(str(out))}, "
        f"{out.stat().st_size / 1e6:.1f} MB",
        soft_wrap=True,
    )


@app.command("check")
def check_command(
    data: Annotated[Path, typer.Argument(help="Root of a data set, or a packed file.")],
    dataset: _DatasetOption = None,
    partition: Annotated[
        Path | None,
        typer.Option(help="The split as JSON; needed for Gait3D, a rule for the others."),
    ] = None,
    data_in_use: _InUseOption = None,
    workers: _Workers = _CORES,
    report: Annotated[Path | None, typer.Option(help="JSON file for all findings.")] = None,
) -> None:
    """Say in words what is wrong with a data set.

    Exit code 0: nothing that spoils results, 1: errors were found, 2: wrong usage.
    """
    console, errors = Console(), Console(stderr=True)
    with Progress(console=errors, transient=True) as progress:
        bar = progress.add_task("Checking", total=None)
        found = check(
            data,
            dataset_name=dataset and dataset.value,
            partition_path=partition,
            data_in_use=_parsed(data_in_use),
            num_workers=workers,
            on_sequence=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    if report is not None:
        write_atomically(report, json.dumps(found.to_json(), indent=1).encode() + b"\n")
    _print_findings(found, console)
    raise typer.Exit(1 if found.num_errors else 0)


def _chosen(data_in_use: str | None, dataset: Benchmark | None) -> tuple[bool, ...] | None:
    if data_in_use is None and dataset is not None:
        return DATASETS[dataset.value].data_in_use
    return _parsed(data_in_use)


def _parsed(data_in_use: str | None) -> tuple[bool, ...] | None:
    if data_in_use is None:
        return None
    entries = data_in_use.split(",")
    if not set(entries) <= {"0", "1"} or entries.count("1") != 1:
        raise typer.BadParameter(
            f"expected 0s and one 1, as in 1,0,0,0, got {data_in_use!r}",
            param_hint="--data-in-use",
        )
    return tuple(each == "1" for each in entries)


def _print_preparation(report: PreparationReport, path: Path, console: Console) -> None:
    table = Table("", "count", title=f"Prepared {report.settings['dataset']}")
    table.columns[1].justify = "right"
    table.add_row("sequences", f"{len(report.sequences):,}")
    table.add_row("  without a silhouette", f"{len(report.nothing):,}")
    table.add_row("  of fewer than 5 silhouettes", f"{len(report.short):,}")
    table.add_row("frames", f"{report.num_frames:,}")
    table.add_row("  kept", f"{report.num_kept:,}")
    for reason, count in report.skipped.items():
        table.add_row(f"  skipped: {reason}", f"{count:,}")
    console.print(table)
    console.print(f"Every skipped frame is named in {escape(str(path))}", soft_wrap=True)


def _print_findings(found: CheckReport, console: Console) -> None:
    shown: Counter[str] = Counter()
    for finding in found.findings:
        shown[finding.kind] += 1
        if shown[finding.kind] <= _SHOWN_A_KIND:
            _print_finding(finding, console)
    for kind, count in shown.items():
        if count > _SHOWN_A_KIND:
            console.print(
                f"... {count - _SHOWN_A_KIND} more of the kind {kind!r}; --report FILE has them",
                soft_wrap=True,
            )
    warnings = len(found.findings) - found.num_errors
    console.print(
        f"{found.num_subjects:,} subjects, {found.num_sequences:,} sequences, "
        f"{found.num_frames:,} frames: {found.num_errors} errors, {warnings} warnings",
        soft_wrap=True,
    )


def _print_finding(finding: Finding, console: Console) -> None:
    colour = "red" if finding.severity is Severity.ERROR else "yellow"
    where = "" if finding.message.startswith(finding.where) else f"{finding.where}: "
    console.print(
        f"[{colour}]{finding.severity}[/{colour}] {escape(where + finding.message)}",
        soft_wrap=True,
        highlight=False,
    )
