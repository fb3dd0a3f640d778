"""Plots of an evaluation, PNG and SVG. Only this file knows matplotlib, and imports it late."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gait.errors import DataError
from gait.evaluation.openset import Estimate, OpenSet, OperatingPoint
from gait.evaluation.report import Curve, Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gait.runtimes.bench_report import BenchReport
    from gait.runtimes.measure import Row

_DPI = 150
_LABELS_AT_MOST = 12
_LOGARITHMIC_BELOW = 0.1
_PRECISION_COLOURS = {
    "float32": "#0072b2",
    "bfloat16": "#e69f00",
    "float16": "#009e73",
    "int8": "#cc79a7",
}
_WHOLE_FROM = 100  # frames a second, from where on nobody reads digits behind the point
_BASELINE_COLOUR = "#999999"


def draw(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Draw what the evaluation has, each as PNG and SVG, and return the files.

    `cmc` is the CMC of every condition; `open-set` the DET curves with FNIR and threshold at the
    targets, with their confidence intervals.

    Raises:
        DataError: matplotlib is not installed, or the folder cannot be written.
    """
    wanted: list[tuple[str, Callable[[], Figure]]] = []
    if evaluation.curves and len(evaluation.curves) <= _LABELS_AT_MOST:
        wanted.append(("cmc", lambda: _cmc(evaluation.curves, evaluation.title)))
    defined = [each for each in evaluation.open_sets if np.isfinite(each.eer.value)]
    if defined:
        wanted.append(("open-set", lambda: _open_set(defined, evaluation.title)))
    if not wanted:
        return []
    files: list[Path] = []
    with _style("leave them out with --no-plots"):
        for name, plot in wanted:
            files += _save(plot(), folder / name)
    return files


def draw_encoder_bench(report: BenchReport, path: Path) -> None:
    """Draw frames a second of every runtime and precision, with the machine's peak as lines.

    Args:
        report: Of `gait.runtimes.bench_report`.
        path: A .png or .svg file.

    Raises:
        DataError: matplotlib is not installed, nothing was measured, or the file cannot be
            written.
    """
    if not any(row.frames_per_s for row in report.rows):
        raise DataError(f"{path}: there is nothing to draw; no runtime was measured")
    with _style("leave out --plot"):
        figure = _encoder_bench(report)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(
                path, dpi=_DPI, metadata={"Date": None} if path.suffix == ".svg" else None
            )
        except OSError as error:
            raise DataError(f"{path}: cannot write the plot ({error.strerror})") from error


def require_matplotlib(otherwise: str) -> None:
    """Make sure that something can be drawn.

    Args:
        otherwise: What to do without, for the message.

    Raises:
        DataError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise DataError(
            "plots need matplotlib, which is not installed; pip install 'trackletgait[plots]', or "
            f"{otherwise}"
        ) from error


def _style(otherwise: str) -> AbstractContextManager[None]:
    require_matplotlib(otherwise)
    from matplotlib import rc_context

    return rc_context(
        {
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "svg.hashsalt": "trackletgait",  # the same figures draw the same file
        }
    )


def _save(figure: Figure, stem: Path) -> list[Path]:
    files = [stem.with_suffix(suffix) for suffix in (".png", ".svg")]
    try:
        figure.savefig(files[0], dpi=_DPI)
        figure.savefig(files[1], metadata={"Date": None})
    except OSError as error:
        raise DataError(f"{stem.parent}: cannot write the plots ({error.strerror})") from error
    return files


def _cmc(curves: Sequence[Curve], title: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for curve in curves:
        ranks = np.arange(1, len(curve.values) + 1)
        label = f"{curve.name or 'all'}, Rank-1 {100 * curve.values[0]:.1f} %"
        axes.plot(ranks, 100 * curve.values, marker=".", markersize=3, label=label)
    axes.set(title=title, xlabel="rank k", ylabel="probes with a match within k, %")
    axes.set_ylim(top=101)
    axes.set_xlim(left=0.5)
    axes.legend(loc="lower right")
    return figure


def _open_set(found: Sequence[OpenSet], title: str) -> Figure:
    from matplotlib.figure import Figure

    num_targets = len(found[0].points)
    height = max(4.0, 1.6 + 0.3 * len(found) * num_targets)
    figure = Figure(figsize=(13, height), layout="constrained")
    figure.suptitle(title)
    det, missed, threshold = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
    _det(det, found)
    rows = [(_label(each, point), point) for each in found for point in each.points]
    labels = [label for label, _ in rows]
    _intervals(missed, labels, [point.fnir for _, point in rows], 100)
    missed.set(title="Missed at FPIR", xlabel="FNIR, %", xlim=(0, 100))
    _intervals(threshold, labels, [point.threshold for _, point in rows], 1)
    threshold.set(title="Threshold at FPIR", xlabel="distance")
    if not all(point.is_resolved for _, point in rows):
        figure.supxlabel(
            "* too few searches for one false alarm: the threshold allows none", size=8
        )
    return figure


def _label(found: OpenSet, point: OperatingPoint) -> str:
    star = "" if point.is_resolved else " *"
    return f"{found.name} at {100 * point.fpir_target:g} %{star}".strip()


def _det(axes: Axes, found: Sequence[OpenSet]) -> None:
    lowest, fewest, most = 1.0, 1.0, 0.0
    for each in found:
        shown = each.fpir > 0
        (line,) = axes.step(each.fpir[shown], each.fnir[shown], where="post")
        line.set_label(f"{each.name or 'all'}, EER {100 * each.eer.value:.1f} %")
        axes.plot(each.eer.value, each.eer.value, "o", color=line.get_color(), markersize=4)
        lowest = min(lowest, float(each.fpir[shown].min()))
        fewest = min(fewest, float(each.fnir.min()))
        most = max(most, float(each.fnir[shown].max()))
    for point in found[0].points:
        axes.axvline(point.fpir_target, color="grey", linestyle=":", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(min(lowest, *(point.fpir_target for point in found[0].points)) / 1.3, 1)
    if fewest < _LOGARITHMIC_BELOW and most > 0:
        axes.set_yscale("log", nonpositive="clip")
        axes.set_ylim(max(fewest, 0.5 / max(each.num_mated for each in found)) / 1.3, 1)
    else:
        axes.set_ylim(0, 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}")
    axes.set(
        title="DET: strangers answered against people missed",
        xlabel="FPIR, % (strangers who get a name)",
        ylabel="FNIR, % (enrolled people missed)",
    )
    axes.legend(loc="best")


def _intervals(
    axes: Axes, labels: Sequence[str], estimates: Sequence[Estimate], scale: float
) -> None:
    """Draw a dot with its confidence interval a row, the first on top."""
    places = np.arange(len(labels))[::-1]
    values = scale * np.array([[each.low, each.value, each.high] for each in estimates])
    axes.hlines(places, values[:, 0], values[:, 2], linewidth=2, clip_on=False)
    axes.plot(values[:, 1], places, "o", color="black", markersize=4, clip_on=False)
    axes.set_yticks(places, labels)
    axes.set_ylim(-0.7, len(labels) - 0.3)


def _encoder_bench(report: BenchReport) -> Figure:
    """Return a panel for each shape: frames of a sequence downwards, sequences to the right."""
    from matplotlib.figure import Figure

    panels: dict[tuple[int, int], list[Row]] = {}
    for row in report.rows:
        if row.frames_per_s and row.batch and row.frames:
            panels.setdefault((row.frames, row.batch), []).append(row)
    lengths, batches = (sorted({shape[axis] for shape in panels}) for axis in (0, 1))
    height = 0.8 + 0.24 * max(map(len, panels.values()))
    figure = Figure(
        figsize=(max(7.5, 1.8 + 3.2 * len(batches)), 1.5 + height * len(lengths)),
        layout="constrained",
    )
    grid = figure.subplots(len(lengths), len(batches), sharex=True, squeeze=False)
    for axes, (frames, batch) in zip(grid.flat, itertools.product(lengths, batches), strict=True):
        _speeds(axes, panels.get((frames, batch), []), _roofs(report, frames))
        axes.set_title(f"{batch} x {frames} frames a call", loc="left", fontsize=9)
    figure.suptitle(_heading(report), size=8, x=0.01, ha="left")
    _explain_precisions(figure, report)
    return figure


def _heading(report: BenchReport) -> str:
    machine = f"{report.machine}; {report.threads} thread(s)"
    texts = (f"Frames a second. {report.network}", machine, *report.warnings)
    return "\n".join(line for text in texts for line in textwrap.wrap(text, 120))


def _explain_precisions(figure: Figure, report: BenchReport) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[Patch | Line2D] = [
        Patch(
            color=_PRECISION_COLOURS[peak.precision],
            label=f"{peak.precision} (peak {peak.gflops:.3g} GFLOP/s)",
        )
        for peak in report.peaks
        if peak.gflops is not None
    ]
    roof = "if all ran at the machine's peak"
    entries.append(Line2D([], [], color="black", linestyle="--", linewidth=1, label=roof))
    if report.against is not None:
        entries.append(Patch(color=_BASELINE_COLOUR, label=f"{report.against}, which is 1.0x"))
    figure.legend(
        handles=entries, loc="outside lower center", ncols=min(3, len(entries)), fontsize=8
    )


def _roofs(report: BenchReport, frames: int) -> dict[str, float]:
    """Return the frames a second that each precision would reach at its peak."""
    gflop_a_frame = report.gflop[str(frames)] / frames
    return {
        peak.precision: peak.gflops / gflop_a_frame
        for peak in report.peaks
        if peak.gflops is not None
    }


def _speeds(axes: Axes, rows: Sequence[Row], roofs: Mapping[str, float]) -> None:
    """Draw a bar a row, the first on top, and the roofs of their precisions."""
    places = np.arange(len(rows))[::-1]
    for place, row in zip(places, rows, strict=True):
        is_baseline = row.parity is None  # which nobody judges, being what others are held to
        speed = row.frames_per_s or 0.0
        colour = _PRECISION_COLOURS[row.precision]
        if is_baseline:
            colour = _BASELINE_COLOUR
        bars = axes.barh(place, speed, color=colour, height=0.75)
        label = (f"{speed:.0f}" if speed >= _WHOLE_FROM else f"{speed:.3g}") + (
            f"  ({row.speedup:.1f}x)" if row.speedup else ""
        )
        for text in axes.bar_label(bars, [label], padding=3, fontsize=7):
            text.set(bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5}, zorder=4)
    for precision in dict.fromkeys(row.precision for row in rows):
        if precision in roofs:
            colour = _PRECISION_COLOURS[precision]
            axes.axvline(roofs[precision], color=colour, linestyle="--", linewidth=1.2)
    axes.set_yticks(places, [f"{row.runtime}, {row.precision}" for row in rows], fontsize=8)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(left=0)
    axes.margins(x=0.12)
