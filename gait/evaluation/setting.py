"""What every protocol is given, and the steps they share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gait.errors import DataError
from gait.evaluation.openset import OpenSetConfig, open_set
from gait.evaluation.ranking import cmc, nearest_match_and_other, retrieval
from gait.evaluation.report import Count, Curve, Findings, named
from gait.evaluation.rerank import RerankConfig, rerank
from gait.evaluation.trials import Reader, TestSet, Trial, scan

CMC_LENGTH = 50


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """What is evaluated and how.

    Attributes:
        tests: The embeddings.
        probe_set: `subject-condition-view` of every probe, for the protocols that list them.
        reranking: k-reciprocal re-ranking, if wanted.
        open_set: Open-set figures, if wanted.
    """

    tests: TestSet
    probe_set: frozenset[str] | None = None
    reranking: RerankConfig | None = None
    open_set: OpenSetConfig | None = None


class Run(Protocol):
    """One protocol: what it compares and what it prints."""

    def __call__(self, setting: Setting) -> Findings:
        """Return what the protocol finds.

        Raises:
            DataError: The test set lacks what the protocol compares.
        """
        ...


def among(values: NDArray[np.str_], wanted: tuple[str, ...], *, part: bool) -> NDArray[np.bool_]:
    """Return which values are wanted: equal to one of `wanted`, or with one as a part."""
    if not part:
        return np.isin(values, wanted)
    return np.array([any(each in value for each in wanted) for value in values], dtype=bool)


def required(chosen: NDArray[np.bool_], what: str, tests: TestSet) -> NDArray[np.int64]:
    """Return the chosen positions.

    Raises:
        DataError: There are none.
    """
    if not chosen.any():
        known = ", ".join(np.unique(tests.conditions)[:20])
        raise DataError(
            f"test set: expected sequences for the {what}, got none; its conditions are {known}: "
            "is this the protocol of this data set?"
        )
    return np.flatnonzero(chosen)


def look(
    setting: Setting, trial: Trial, findings: Findings, *readers: Reader, counted: str = "all"
) -> list[NDArray[Any]]:
    """Return what the readers say; note counts, and open-set figures if they are wanted.

    Args:
        setting: What is evaluated.
        trial: Which sequences.
        findings: Receives the count and the open-set figures.
        readers: Look at the distances.
        counted: "all" if every probe counts; "valid" if the first reader is `retrieval` and
            probes without a match do not.
    """
    if setting.reranking is not None:
        trial = _reranked(setting.tests, trial, setting.reranking)
    wanted = [*readers] + ([nearest_match_and_other] if setting.open_set else [])
    results = scan(setting.tests, trial, wanted)
    valid = len(trial.probe) if counted == "all" else int((~np.isnan(results[0][:, 0])).sum())
    findings.counts.append(Count(trial.name, len(trial.probe), valid, len(trial.gallery)))
    if setting.open_set:
        _note_open_set(setting.open_set, trial, results.pop(), setting.tests, findings)
    return results


def retrieve(
    setting: Setting, trial: Trial, findings: Findings
) -> tuple[NDArray[np.float64], float, float]:
    """Return CMC, mAP and mINP over the probes that have a match; note count and curve.

    Raises:
        DataError: No probe has a match.
    """
    (scores,) = look(setting, trial, findings, retrieval, counted="valid")
    if np.isnan(scores[:, 0]).all():
        raise DataError(
            f"test set: no probe{' of ' + trial.name if trial.name else ''} has its subject in "
            "the gallery, so there is nothing to rank; check the partition"
        )
    curve = cmc(scores[:, 0], min(CMC_LENGTH, len(trial.gallery)))
    findings.curves.append(Curve(trial.name, curve))
    return curve, float(np.nanmean(scores[:, 1])), float(np.nanmean(scores[:, 2]))


def rank(curve: NDArray[np.float64], k: int) -> float:
    """Return the CMC at rank k; beyond the curve's end its last value."""
    return float(curve[min(k, len(curve)) - 1])


def _reranked(tests: TestSet, trial: Trial, config: RerankConfig) -> Trial:
    # each sequence once: a copy of itself among its neighbours would halve the neighbourhood
    both, places = np.unique(np.append(trial.probe, trial.gallery), return_inverse=True)
    if len(both) > config.max_sequences:
        raise DataError(
            f"re-ranking: expected at most {config.max_sequences} probe and gallery sequences, "
            f"got {len(both)}, which take {20 * len(both) ** 2 / 1e9:.0f} GB; leave it out"
        )
    distances = tests.distances(both, tests.embeddings[both])
    probe, gallery = np.split(places, [len(trial.probe)])
    return replace(trial, reranked=rerank(distances, probe, gallery, config))


def _note_open_set(
    config: OpenSetConfig,
    trial: Trial,
    distances: NDArray[np.float64],
    tests: TestSet,
    findings: Findings,
) -> None:
    rng = np.random.default_rng(config.seed)
    found = open_set(trial.name, distances, tests.subjects[trial.probe], config, rng)
    findings.open_sets.append(found)
    findings.metrics[named(trial.name, "EER")] = found.eer.value
    for point in found.points:
        label = f"FNIR@FPIR={100 * point.fpir_target:g}%"
        findings.metrics[named(trial.name, label)] = point.fnir.value
