"""Protocols with one pooled gallery: Gait3D, GREW and data of one's own (spec c.4)."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gait.errors import DataError
from gait.evaluation.ranking import Rows, cmc, first_match_ranks, nearest
from gait.evaluation.report import Count, Curve, Findings, Table
from gait.evaluation.setting import (
    CMC_LENGTH,
    Setting,
    look,
    rank,
    required,
    retrieve,
)
from gait.evaluation.trials import Trial

_SUBMITTED = 20


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Probes against one gallery; probes without a match are skipped.

    Attributes:
        trial: Which sequences are probes and gallery.
        ranks: The k of Rank-k.
    """

    trial: Callable[[Setting], Trial]
    ranks: tuple[int, ...] = (1, 5, 10)

    def __call__(self, setting: Setting) -> Findings:
        """Return Rank-k, mAP and mINP."""
        findings = Findings()
        curve, mean_ap, mean_inp = retrieve(setting, self.trial(setting), findings)
        figures = {f"rank-{k}": rank(curve, k) for k in self.ranks}
        figures |= {"mAP": mean_ap, "mINP": mean_inp}
        findings.metrics |= figures
        findings.tables.append(_one_row("All probes", figures))
        return findings


def grew_local(setting: Setting) -> Findings:
    """Return Rank-1/5/10/20 of GREW's local proxy: sequence 01 as gallery, 02 as probe.

    Every probe counts. Optimistic, and not comparable with the server's figures.
    """
    tests, findings = setting.tests, Findings()
    probe = required(tests.conditions == "02", "probes (02)", tests)
    gallery = required(tests.conditions == "01", "gallery (01)", tests)
    trial = Trial("", probe, gallery)
    (first,) = look(setting, trial, findings, first_match_ranks)
    curve = cmc(first, min(CMC_LENGTH, len(gallery)))
    findings.curves.append(Curve("", curve))
    figures = {f"rank-{k}": rank(curve, k) for k in (1, 5, 10, 20)}
    findings.metrics |= figures
    findings.tables.append(_one_row("All probes", figures))
    return findings


def grew_submission(setting: Setting) -> Findings:
    """Return the text of GREW's submission file; its ground truth is on the server only.

    One line a probe: the video's id, then the ids of the 20 nearest gallery sequences as whole
    numbers; an id may come twice.
    """
    tests = setting.tests
    is_probe = (tests.subjects == "probe") & (tests.conditions == "03")
    probe = required(is_probe, "probes (subject probe, 03)", tests)
    gallery = required(np.isin(tests.conditions, ("01", "02")), "gallery (01, 02)", tests)

    def read(rows: Rows) -> NDArray[np.int64]:
        return nearest(rows, _SUBMITTED)

    findings = Findings(counts=[Count("", len(probe), len(probe), len(gallery))])
    (positions,) = look(setting, Trial("", probe, gallery), Findings(), read)
    subjects = _numbers(tests.subjects[gallery])[positions]
    findings.submission = _submission(tests.views[probe], subjects)
    return findings


def probe_set_trial(setting: Setting) -> Trial:
    """Return the listed probes against all other sequences (Gait3D).

    Raises:
        DataError: There is no list, or none of its probes is in the test set.
    """
    if setting.probe_set is None:
        raise DataError(
            "partition: expected a PROBE_SET of subject-condition-view, got none; use the "
            "partition file of Gait3D, or the protocol each-against-all for your own data"
        )
    tests = setting.tests
    names = (
        "-".join(key) for key in zip(tests.subjects, tests.conditions, tests.views, strict=True)
    )
    is_probe = np.fromiter((name in setting.probe_set for name in names), bool)
    probe = required(is_probe, "probes (PROBE_SET of the partition)", tests)
    return Trial("", probe, required(~is_probe, "gallery", tests))


def each_against_all_trial(setting: Setting) -> Trial:
    """Return every sequence as the probe against all the others."""
    every = np.arange(len(setting.tests.subjects))
    return Trial("", every, every, "itself")


def _numbers(subjects: NDArray[np.str_]) -> NDArray[np.int64]:
    try:
        return subjects.astype(np.int64)
    except ValueError as error:
        raise DataError(
            f"gallery: GREW's subjects are numbers, got others ({error}); is this GREW's test set?"
        ) from error


def _submission(videos: NDArray[np.str_], subjects: NDArray[np.int64]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["videoId", *(f"rank{k}" for k in range(1, _SUBMITTED + 1))])
    for video, nearest_subjects in zip(videos.tolist(), subjects.tolist(), strict=True):
        writer.writerow([video, *nearest_subjects])
    return text.getvalue()


def _one_row(name: str, figures: dict[str, float]) -> Table:
    columns = tuple(figure.replace("rank", "Rank") for figure in figures)
    return Table("One gallery of all views", columns, ((name, tuple(figures.values())),))
