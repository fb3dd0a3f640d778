"""Protocols whose gallery is one view at a time: CASIA-B, OU-MVLP, SUSTech1K (spec c.4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gait.errors import DataError
from gait.evaluation.ranking import Rows, first_match_ranks
from gait.evaluation.report import Findings, Table, named
from gait.evaluation.setting import Setting, among, look, rank, required, retrieve
from gait.evaluation.trials import Reader, TestSet, Trial

_CELL_DECIMALS = 4  # of a fraction: the release rounds every cell to 2 decimals of a percent


@dataclass(frozen=True, slots=True)
class Condition:
    """What is looked for where.

    Attributes:
        name: As the papers call it.
        probe: Conditions of the probes.
        gallery: Conditions of the gallery.
    """

    name: str
    probe: tuple[str, ...]
    gallery: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SingleView:
    """Every view against every other view; identical views are left out of the means.

    Every probe counts, also one whose subject is not in the gallery.

    Attributes:
        conditions: What is looked for where.
        ranks: The k of Rank-k, rising.
        part: Whether a condition's names are parts of the data set's (SUSTech1K), not the whole.
    """

    conditions: tuple[Condition, ...]
    ranks: tuple[int, ...] = (1,)
    part: bool = False

    def __call__(self, setting: Setting) -> Findings:
        """Return Rank-k of each condition, and of each probe view."""
        trials = condition_trials(setting.tests, self.conditions, self.part)
        findings = Findings()
        each_view = {trial.name: self._scan(setting, trial, findings) for trial in trials}
        for name, angles in each_view.items():
            for k, values in angles.items():
                only = len(self.conditions) == 1
                findings.metrics[named("" if only else name, f"rank-{k}")] = _mean(values)
        if len(self.ranks) > 1:
            findings.tables.append(self._by_condition(findings, trials))
        findings.tables.append(_by_view(setting.tests, each_view))
        return findings

    def _scan(
        self, setting: Setting, trial: Trial, findings: Findings
    ) -> dict[int, NDArray[np.float64]]:
        """Return Rank-k of each probe view, by k."""
        matrices = view_matrices(setting, trial, findings, self.ranks)
        return {k: off_diagonal_means(matrix) for k, matrix in matrices.items()}

    def _by_condition(self, findings: Findings, trials: list[Trial]) -> Table:
        names = tuple(trial.name for trial in trials)
        rows = tuple(
            (f"Rank-{k}", tuple(findings.metrics[f"{name}/rank-{k}"] for name in names))
            for k in self.ranks
        )
        return Table("Mean over views, identical view excluded", names, rows)


@dataclass(frozen=True, slots=True)
class CrossView:
    """All views pooled in one gallery, without the probe's own view of the same subject.

    Not what papers report: the release offers it as an option (`cross_view_gallery`).

    Attributes:
        conditions: What is looked for where.
    """

    conditions: tuple[Condition, ...]

    def __call__(self, setting: Setting) -> Findings:
        """Return Rank-1 and mAP of each condition as means over the probe views."""
        tests, findings = setting.tests, Findings()
        views = np.unique(tests.views)
        for trial in condition_trials(tests, self.conditions, part=False):
            rows: dict[str, list[float]] = {"rank-1": [], "mAP": []}
            for view in views:
                chosen = trial.probe[tests.views[trial.probe] == view]
                curve, mean_ap = np.full(1, np.nan), np.nan
                if len(chosen):
                    one = Trial(f"{trial.name} {view}", chosen, trial.gallery, "same view")
                    curve, mean_ap, _ = retrieve(setting, one, findings)
                rows["rank-1"].append(round(rank(curve, 1), _CELL_DECIMALS))
                rows["mAP"].append(round(mean_ap, _CELL_DECIMALS))
            for figure, values in rows.items():
                findings.metrics[f"{trial.name}/{figure}"] = float(np.mean(values))
            findings.tables.append(_view_table(trial.name, views, rows))
        return findings


def condition_trials(tests: TestSet, conditions: tuple[Condition, ...], part: bool) -> list[Trial]:
    """Return one trial a condition; those without probes are left out.

    Raises:
        DataError: No condition has probes, or one has no gallery.
    """
    trials = []
    for condition in conditions:
        probe = among(tests.conditions, condition.probe, part=part)
        if probe.any():
            gallery = required(
                among(tests.conditions, condition.gallery, part=part),
                f"gallery of {condition.name} ({', '.join(condition.gallery)})",
                tests,
            )
            trials.append(Trial(condition.name, np.flatnonzero(probe), gallery, "same view"))
    if not trials:
        wanted = ", ".join(name for condition in conditions for name in condition.probe)
        required(np.zeros(len(tests.conditions), bool), f"probes ({wanted})", tests)
    return trials


def view_matrices(
    setting: Setting, trial: Trial, findings: Findings, ranks: tuple[int, ...]
) -> dict[int, NDArray[np.float64]]:
    """Return the Rank-k matrix of each k: probe view by gallery view, NaN where either has nobody.

    Cells are rounded as the release rounds them, to 0.01 %.

    Raises:
        DataError: The test set has one view only.
    """
    views, codes = np.unique(setting.tests.views, return_inverse=True)
    if len(views) < 2:
        raise DataError(
            f"test set: expected several views to compare, got only {views[0]!r}; use a protocol "
            "without views, such as each-against-all"
        )
    (first,) = look(setting, trial, findings, _ranks_by_view(codes[trial.gallery], len(views)))
    probe_views, gallery_views = codes[trial.probe], np.unique(codes[trial.gallery])
    matrices = {k: np.full((len(views), len(views)), np.nan) for k in ranks}
    for view in np.unique(probe_views):
        of_view = first[probe_views == view][:, gallery_views]
        for k in ranks:
            cells = (of_view <= k).mean(axis=0).round(_CELL_DECIMALS)
            matrices[k][view, gallery_views] = cells
    return matrices


def off_diagonal_means(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each row's mean without the identical view."""
    others = ~np.eye(len(matrix), dtype=bool)
    means: NDArray[np.float64] = matrix[others].reshape(len(matrix), -1).mean(axis=1)
    return means


def _ranks_by_view(gallery_views: NDArray[np.int64], num_views: int) -> Reader:
    """Return a reader of the first match's rank in each view's gallery, (M, V)."""
    masks = [gallery_views == view for view in range(num_views)]

    def read(rows: Rows) -> NDArray[np.int64]:
        return np.stack([first_match_ranks(rows.columns(mask)) for mask in masks], axis=1)

    return read


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.mean(values))


def _by_view(tests: TestSet, each_view: dict[str, dict[int, NDArray[np.float64]]]) -> Table:
    """Return Rank-1 of each condition and probe view, as the papers print it."""
    rows = []
    for name, angles in each_view.items():
        values = next(iter(angles.values()))
        rows.append((name, (*values.tolist(), _mean(values))))
    columns = (*np.unique(tests.views).tolist(), "mean")
    return Table("Rank-1 by probe view, identical view excluded", columns, tuple(rows))


def _view_table(name: str, views: NDArray[np.str_], rows: dict[str, list[float]]) -> Table:
    return Table(
        f"{name}, by probe view, all other views pooled in the gallery",
        (*views.tolist(), "mean"),
        tuple((row, (*values, float(np.mean(values)))) for row, values in rows.items()),
    )
