"""The release's evaluators on the golden listings, number for number."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from gait.evaluation import Evaluation, evaluate
from gait.evaluation.ccpg import CONDITIONS, _with_views
from gait.evaluation.pooled import probe_set_trial
from gait.evaluation.protocols import PROTOCOLS
from gait.evaluation.ranking import cmc, retrieval
from gait.evaluation.report import Findings
from gait.evaluation.setting import Setting
from gait.evaluation.single_view import SingleView, condition_trials, view_matrices
from gait.evaluation.trials import Metric, TestSet, scan

METRICS: dict[str, Metric] = {"euc": "euclidean", "cos": "cosine"}
PRECISIONS = ["float32", "float64"]

pytestmark = pytest.mark.golden


class Key(NamedTuple):
    subject: str
    condition: str
    view: str


def listing(rules: ModuleType, name: str) -> tuple[NDArray[np.float32], list[Key]]:
    source = {
        "CASIA-B": rules.casiab,
        "OUMVLP": rules.oumvlp,
        "SUSTech1K": rules.sustech1k,
        "CCPG": rules.ccpg,
        "Gait3D": lambda: rules.gait3d()[:3],
        "GREW": rules.grew,
    }[name]()
    features = source[3] if name == "GREW" else rules.eval_features(name, *source)
    return features.astype(np.float32), [Key(*row) for row in zip(*source[:3], strict=True)]


@pytest.fixture(scope="module")
def arrays(golden_dir: Path) -> dict[str, NDArray[Any]]:
    with np.load(golden_dir / "evaluation.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def figures(golden_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((golden_dir / "evaluation.json").read_text())
    return content


def percent(evaluation: Evaluation, name: str) -> float:
    return 100 * evaluation.metrics[name]


def published(figures: dict[str, Any], case: str) -> dict[str, float]:
    prefix = "scalar/test_accuracy/"
    return {name.removeprefix(prefix): value for name, value in figures[case]["result"].items()}


def matrices(protocol: str, tests: TestSet, ranks: tuple[int, ...]) -> dict[str, Any]:
    run = PROTOCOLS[protocol].run
    conditions = run.conditions if isinstance(run, SingleView) else CONDITIONS
    part = isinstance(run, SingleView) and run.part
    return {
        trial.name: view_matrices(Setting(tests), trial, Findings(), ranks)
        for trial in condition_trials(tests, conditions, part)
    }


@pytest.mark.parametrize("short", METRICS)
@pytest.mark.parametrize(
    ("protocol", "name", "case"),
    [("casia-b", "CASIA-B", "casiab"), ("ou-mvlp", "OUMVLP", "oumvlp")],
)
def test_single_view_matrices_are_the_releases(
    protocol: str,
    name: str,
    case: str,
    short: str,
    golden_rules: ModuleType,
    arrays: dict[str, NDArray[Any]],
) -> None:
    tests = TestSet.of(*listing(golden_rules, name), METRICS[short], "float32")
    for condition, by_rank in matrices(protocol, tests, (1,)).items():
        expected = arrays[f"{case}_{short}_{condition}"]
        np.testing.assert_allclose(100 * by_rank[1], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("short", METRICS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_casia_b_means_are_the_releases(
    short: str, precision: Any, golden_rules: ModuleType, figures: dict[str, Any]
) -> None:
    features, keys = listing(golden_rules, "CASIA-B")
    found = evaluate("casia-b", features, keys, metric=METRICS[short], precision=precision)
    for name, value in published(figures, f"casiab_single_view_{short}").items():
        assert percent(found, name.replace("@R", "/rank-")) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("short", METRICS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_ou_mvlp_counts_probes_without_a_gallery_as_errors(
    short: str, precision: Any, golden_rules: ModuleType, figures: dict[str, Any]
) -> None:
    features, keys = listing(golden_rules, "OUMVLP")
    found = evaluate("ou-mvlp", features, keys, metric=METRICS[short], precision=precision)
    (value,) = published(figures, f"oumvlp_single_view_{short}").values()
    assert percent(found, "rank-1") == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("short", METRICS)
def test_casia_b_cross_view_gallery_is_the_releases(
    short: str, golden_rules: ModuleType, figures: dict[str, Any]
) -> None:
    features, keys = listing(golden_rules, "CASIA-B")
    found = evaluate("casia-b-cross-view", features, keys, metric=METRICS[short])
    for name, value in published(figures, f"casiab_cross_view_gallery_{short}").items():
        ours = name.replace("-Rank@", "/rank-").replace("-mAP", "/mAP")
        assert percent(found, ours) == pytest.approx(value, abs=1e-5)  # theirs is float32


@pytest.mark.parametrize("short", METRICS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_sustech1k_is_the_releases_at_every_rank(
    short: str,
    precision: Any,
    golden_rules: ModuleType,
    figures: dict[str, Any],
    arrays: dict[str, NDArray[Any]],
) -> None:
    features, keys = listing(golden_rules, "SUSTech1K")
    found = evaluate("sustech1k", features, keys, metric=METRICS[short], precision=precision)
    for name, value in figures[f"sustech1k_{short}"]["means"].items():
        # Theirs are means of float32 cells.
        assert percent(found, name.replace("@R", "/rank-")) == pytest.approx(value, abs=1e-5)
    tests = TestSet.of(features, keys, METRICS[short], precision)
    for condition, by_rank in matrices("sustech1k", tests, (1, 2, 3, 4, 5)).items():
        for k, matrix in by_rank.items():
            expected = arrays[f"sustech1k_{short}_{condition}_R{k}"]
            np.testing.assert_allclose(100 * matrix, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("short", METRICS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_gait3d_is_the_releases(
    short: str,
    precision: Any,
    golden_rules: ModuleType,
    figures: dict[str, Any],
    arrays: dict[str, NDArray[Any]],
) -> None:
    features, keys = listing(golden_rules, "Gait3D")
    probe_set = frozenset(golden_rules.gait3d()[3])
    tests = TestSet.of(features, keys, METRICS[short], precision)
    trial = probe_set_trial(Setting(tests, probe_set))
    (scores,) = scan(tests, trial, [retrieval])
    valid = scores[~np.isnan(scores[:, 0])]
    np.testing.assert_allclose(valid[:, 1], arrays[f"gait3d_{short}_AP"], atol=1e-12)
    np.testing.assert_allclose(valid[:, 2], arrays[f"gait3d_{short}_INP"], atol=1e-12)
    np.testing.assert_allclose(cmc(scores[:, 0], 50), arrays[f"gait3d_{short}_cmc"], atol=1e-6)
    found = evaluate(
        "gait3d", features, keys, probe_set=probe_set, metric=METRICS[short], precision=precision
    )
    for name, value in published(figures, f"gait3d_{short}").items():
        assert percent(found, name.replace("R", "r")) == pytest.approx(value, abs=1e-5)
    assert (found.counts[0].probes, found.counts[0].counted) == (20, 16)


@pytest.mark.parametrize("short", METRICS)
def test_the_grew_submission_is_the_releases_byte_for_byte(
    short: str, golden_rules: ModuleType, golden_dir: Path
) -> None:
    features, keys = listing(golden_rules, "GREW")
    found = evaluate("grew", features, keys, metric=METRICS[short])
    assert found.submission is not None
    expected = (golden_dir / f"grew_submission_{short}.csv").read_bytes()
    assert found.submission.encode() == expected


@pytest.mark.parametrize("short", METRICS)
def test_the_local_proxy_of_grew_is_the_releases(
    short: str, golden_rules: ModuleType, figures: dict[str, Any]
) -> None:
    features, keys = listing(golden_rules, "GREW")
    found = evaluate("grew-local", features, keys, metric=METRICS[short])
    log = [line.strip("=") for line in figures[f"grew_local_{short}"]["log"]]
    for name, value in zip(log[::2], log[1::2], strict=True):
        assert round(percent(found, name.lower()), 2) == float(value)


@pytest.mark.parametrize("short", METRICS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_all_three_protocols_of_ccpg_are_the_releases(
    short: str,
    precision: Any,
    golden_rules: ModuleType,
    figures: dict[str, Any],
    arrays: dict[str, NDArray[Any]],
) -> None:
    features, keys = listing(golden_rules, "CCPG")
    found = evaluate("ccpg", features, keys, metric=METRICS[short], precision=precision)
    expected = figures[f"ccpg_{short}"]
    names = {
        "reid_R1": "reid/{}/rank-1",
        "reid_mAP": "reid/{}/mAP",
        "reid_mINP": "reid/{}/mINP",
        "gait_R1_include": "gait-including/{}/rank-1",
        "gait_R1_exclude": "gait-excluding/{}/rank-1",
    }
    for case, name in names.items():
        for condition, value in expected[case].items():
            # Theirs is float32 in places.
            assert percent(found, name.format(condition)) == pytest.approx(value, abs=1e-4)
    by_angle = dict(found.tables[-1].rows)
    for condition, values in expected["gait_R1_exclude_each_angle"].items():
        np.testing.assert_allclose(100 * np.array(by_angle[condition][:-1]), values, atol=1e-9)
    tests = _with_views(TestSet.of(features, keys, METRICS[short], precision))
    for condition, by_rank in matrices("ccpg", tests, (1,)).items():
        np.testing.assert_allclose(100 * by_rank[1], arrays[f"ccpg_{short}_{condition}"], atol=1e-9)


def test_the_ccpg_counts_are_the_releases(golden_rules: ModuleType) -> None:
    found = evaluate("ccpg", *listing(golden_rules, "CCPG"))
    counts = [(count.name, count.gallery, count.probes) for count in found.counts]
    assert counts == [("CL", 242, 160), ("UP", 79, 81), ("DN", 81, 80), ("BG", 80, 80)]
