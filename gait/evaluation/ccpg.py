"""CCPG's three protocols (spec c.4). They differ by 10 points: a figure always names its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gait.evaluation.report import Findings, Table
from gait.evaluation.setting import Setting, rank, retrieve
from gait.evaluation.single_view import (
    Condition,
    condition_trials,
    off_diagonal_means,
    view_matrices,
)
from gait.evaluation.trials import TestSet, Trial

Readout = Literal["reid", "gait-including", "gait-excluding"]

CONDITIONS = (
    Condition("CL", ("U0_D0_BG", "U0_D0"), ("U1_D1", "U2_D2", "U3_D3")),
    Condition("UP", ("U3_D3",), ("U0_D3",)),
    Condition("DN", ("U1_D0",), ("U1_D1",)),
    Condition("BG", ("U0_D0_BG",), ("U0_D0",)),
)

TITLES: dict[Readout, str] = {
    "reid": "ReID protocol: all views pooled, same subject in the same view left out",
    "gait-including": "Gait protocol, identical view included",
    "gait-excluding": "Gait protocol, identical view excluded",
}


@dataclass(frozen=True, slots=True)
class Ccpg:
    """One or all of the three.

    Attributes:
        readouts: Which.
    """

    readouts: tuple[Readout, ...] = ("reid", "gait-including", "gait-excluding")

    def __call__(self, setting: Setting) -> Findings:
        """Return the figures of CL, UP, DN and BG; every name begins with its protocol."""
        setting = replace(setting, tests=_with_views(setting.tests))
        findings = Findings()
        trials = condition_trials(setting.tests, CONDITIONS, part=False)
        if "reid" in self.readouts:
            _read_reid(setting, trials, findings)
        gait: list[Readout] = [each for each in self.readouts if each != "reid"]
        if gait:
            _read_gait(setting, trials, gait, findings)
        return findings


def _with_views(tests: TestSet) -> TestSet:
    """Return the test set with the camera as the view: `01_0` is a second walk past `01`."""
    views = np.array([view.partition("_")[0] for view in tests.views], dtype=np.str_)
    return replace(tests, views=views)


def _read_reid(setting: Setting, trials: list[Trial], findings: Findings) -> None:
    rows: dict[str, list[float]] = {"rank-1": [], "mAP": [], "mINP": []}
    for trial in trials:
        curve, mean_ap, mean_inp = retrieve(setting, trial, findings)
        for row, value in zip(rows, (rank(curve, 1), mean_ap, mean_inp), strict=True):
            rows[row].append(value)
            findings.metrics[f"reid/{trial.name}/{row}"] = value
    findings.tables.append(_table(TITLES["reid"], trials, rows))


def _read_gait(
    setting: Setting, trials: list[Trial], readouts: Sequence[Readout], findings: Findings
) -> None:
    if findings.counts:  # the ReID protocol has noted counts and open-set figures: they are these
        setting, noted = replace(setting, open_set=None), Findings()
    else:
        noted = findings
    matrices = {trial.name: view_matrices(setting, trial, noted, (1,))[1] for trial in trials}
    angles = {name: off_diagonal_means(matrix) for name, matrix in matrices.items()}
    means: dict[Readout, dict[str, float]] = {
        "gait-including": {name: float(matrix.mean()) for name, matrix in matrices.items()},
        "gait-excluding": {name: float(each.mean()) for name, each in angles.items()},
    }
    for readout in readouts:
        for name, value in means[readout].items():
            findings.metrics[f"{readout}/{name}/rank-1"] = value
        rows = {"rank-1": list(means[readout].values())}
        findings.tables.append(_table(TITLES[readout], trials, rows))
    if "gait-excluding" in readouts:
        findings.tables.append(_angle_table(setting.tests, angles))


def _angle_table(tests: TestSet, angles: dict[str, NDArray[np.float64]]) -> Table:
    views = np.unique(tests.views).tolist()
    rows = tuple((name, (*each.tolist(), float(each.mean()))) for name, each in angles.items())
    return Table(f"{TITLES['gait-excluding']}: Rank-1 by probe view", (*views, "mean"), rows)


def _table(title: str, trials: list[Trial], rows: dict[str, list[float]]) -> Table:
    return Table(
        title,
        tuple(trial.name for trial in trials),
        tuple((name.replace("rank", "Rank"), tuple(values)) for name, values in rows.items()),
    )
