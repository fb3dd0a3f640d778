"""What the golden listings do not cover: errors, options, and naive loops over a protocol."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gait.data.dataset import SequenceKey
from gait.data.datasets import DATASETS
from gait.distance import euclidean
from gait.errors import DataError
from gait.evaluation import PROTOCOLS, evaluate, trials
from gait.evaluation.openset import OpenSetConfig
from gait.evaluation.rerank import RerankConfig, rerank

CONDITIONS = ("nm-01", "nm-02", "nm-03", "nm-04", "nm-05", "nm-06", "bg-01", "cl-02")


@pytest.fixture
def keys() -> list[SequenceKey]:
    return [
        SequenceKey(f"{subject:03d}", condition, view)
        for subject in range(75, 81)
        for condition in CONDITIONS
        for view in ("000", "036", "090")
    ]


@pytest.fixture
def embeddings(keys: list[SequenceKey]) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    own = {key.subject: rng.standard_normal((16, 4)) for key in keys}
    noisy = [0.6 * own[key.subject] + rng.standard_normal((16, 4)) for key in keys]
    return np.array(noisy, np.float32)


def test_single_view_rank_1_agrees_with_a_naive_loop(
    embeddings: NDArray[np.float32], keys: list[SequenceKey]
) -> None:
    distances = euclidean(embeddings, embeddings, dtype=np.float32)
    cells = []
    for probe_view, gallery_view in [
        (a, b) for a in ("000", "036", "090") for b in ("000", "036", "090") if a != b
    ]:
        hits = []
        for i, probe in enumerate(keys):
            if probe.condition in ("nm-05", "nm-06") and probe.view == probe_view:
                gallery = [
                    j
                    for j, key in enumerate(keys)
                    if key.condition in CONDITIONS[:4] and key.view == gallery_view
                ]
                best = min(gallery, key=lambda j: (distances[i, j], j))
                hits.append(keys[best].subject == probe.subject)
        cells.append(round(np.mean(hits), 4))
    found = evaluate("casia-b", embeddings, keys)
    assert 0.3 < found.metrics["NM/rank-1"] < 0.95
    assert found.metrics["NM/rank-1"] == pytest.approx(np.mean(cells), abs=1e-12)


def test_each_against_all_agrees_with_a_naive_loop(
    embeddings: NDArray[np.float32], keys: list[SequenceKey]
) -> None:
    distances = euclidean(embeddings, embeddings, dtype=np.float32)
    np.fill_diagonal(distances, np.inf)
    hits = [
        keys[int(row.argmin())].subject == key.subject
        for row, key in zip(distances, keys, strict=True)
    ]
    found = evaluate("each-against-all", embeddings, keys)
    assert found.metrics["rank-1"] == pytest.approx(np.mean(hits))


def test_blocks_do_not_change_the_result(
    embeddings: NDArray[np.float32], keys: list[SequenceKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate("casia-b", embeddings, keys, open_set=OpenSetConfig(resamples=5))
    monkeypatch.setattr(trials, "_DISTANCES_AT_ONCE", 500)
    monkeypatch.setattr(trials, "_READ_AT_ONCE", 200)
    blocked = evaluate("casia-b", embeddings, keys, open_set=OpenSetConfig(resamples=5))
    assert blocked.metrics == pytest.approx(whole.metrics, nan_ok=True)


def test_memory_mapped_float16_features_give_what_arrays_give(
    embeddings: NDArray[np.float32], keys: list[SequenceKey], tmp_path: Path
) -> None:
    half = embeddings.astype(np.float16)
    np.save(tmp_path / "features.npy", half)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    assert evaluate("casia-b", mapped, keys).metrics == evaluate("casia-b", half, keys).metrics


def test_float16_distances_differ_a_little_from_float32(
    embeddings: NDArray[np.float32], keys: list[SequenceKey]
) -> None:
    coarse = evaluate("each-against-all", embeddings, keys, precision="float16")
    fine = evaluate("each-against-all", embeddings, keys)
    assert coarse.metrics["mAP"] != fine.metrics["mAP"]
    assert coarse.metrics["mAP"] == pytest.approx(fine.metrics["mAP"], abs=0.01)


def test_a_collapsed_network_is_at_chance_whatever_the_order(keys: list[SequenceKey]) -> None:
    same = np.ones((len(keys), 16, 4), np.float32)
    assert evaluate("casia-b", same, keys).metrics["NM/rank-1"] == pytest.approx(1 / 6, abs=1e-4)


def test_re_ranking_helps_clustered_features_and_is_said(
    embeddings: NDArray[np.float32], keys: list[SequenceKey]
) -> None:
    probes = frozenset(str(key) for key in keys if key.condition == "nm-06")
    plain = evaluate("gait3d", embeddings, keys, probe_set=probes)
    better = evaluate(
        "gait3d", embeddings, keys, probe_set=probes, reranking=RerankConfig(),
        open_set=OpenSetConfig(),
    )  # fmt: skip
    assert better.reranked
    assert better.metrics["mAP"] > plain.metrics["mAP"] + 0.05
    assert not better.open_sets


def test_re_ranking_without_one_gallery_is_refused(
    embeddings: NDArray[np.float32], keys: list[SequenceKey]
) -> None:
    with pytest.raises(ValueError, match="one gallery for all probes"):
        evaluate("casia-b", embeddings, keys, reranking=RerankConfig())


def test_re_ranking_more_than_fits_in_memory_is_refused(
    embeddings: NDArray[np.float32], keys: list[SequenceKey]
) -> None:
    probes = frozenset([str(keys[0])])
    with pytest.raises(DataError, match="at most 100 probe and gallery sequences, got 144"):
        evaluate(
            "gait3d", embeddings, keys, probe_set=probes,
            reranking=RerankConfig(max_sequences=100),
        )  # fmt: skip


def test_open_set_gallery_lacks_the_subjects_own_view(
    embeddings: NDArray[np.float32], keys: list[SequenceKey]
) -> None:
    found = evaluate("casia-b", embeddings, keys, open_set=OpenSetConfig(resamples=5))
    copies = embeddings.copy()  # identical to the gallery's in the same view: of no use
    for i, key in enumerate(keys):
        if key.condition in ("nm-05", "nm-06"):
            copies[i] = embeddings[keys.index(SequenceKey(key.subject, "nm-01", key.view))]
    cheated = evaluate("casia-b", copies, keys, open_set=OpenSetConfig(resamples=5))
    assert found.metrics["NM/EER"] > 0.1
    assert cheated.metrics["NM/EER"] > 0.1


def test_a_condition_nobody_walked_is_left_out(
    embeddings: NDArray[np.float32], keys: list[SequenceKey]
) -> None:
    kept = [i for i, key in enumerate(keys) if not key.condition.startswith("bg")]
    found = evaluate("casia-b", embeddings[kept], [keys[i] for i in kept])
    assert sorted(found.metrics) == ["CL/rank-1", "NM/rank-1"]


def test_a_view_without_probes_is_not_a_number_and_null_in_json(
    embeddings: NDArray[np.float32], keys: list[SequenceKey]
) -> None:
    kept = [i for i, key in enumerate(keys) if not (key.condition == "bg-01" and key.view == "036")]
    found = evaluate("casia-b", embeddings[kept], [keys[i] for i in kept])
    assert np.isnan(found.metrics["BG/rank-1"])
    content = json.loads(found.to_json(config="mine"))
    assert content["config"] == "mine"
    assert content["metrics"]["BG/rank-1"] is None
    assert content["metrics"]["NM/rank-1"] == found.metrics["NM/rank-1"]


def test_the_csv_holds_every_cell_in_percent(
    embeddings: NDArray[np.float32], keys: list[SequenceKey]
) -> None:
    found = evaluate("casia-b", embeddings, keys)
    lines = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert len(lines) == 3 * 4
    (mean,) = [each for each in lines if (each["row"], each["column"]) == ("NM", "mean")]
    assert float(mean["percent"]) == pytest.approx(100 * found.metrics["NM/rank-1"], abs=1e-4)


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ("ou-mvlp", "expected sequences for the probes"),
        ("gait3d", "expected a PROBE_SET"),
        ("grew", "expected sequences for the probes"),
        ("ccpg", "its conditions are bg-01, cl-02"),
    ],
)
def test_another_data_sets_protocol_says_what_is_missing(
    protocol: str, message: str, embeddings: NDArray[np.float32], keys: list[SequenceKey]
) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(protocol, embeddings, keys)


def test_one_view_alone_cannot_be_compared(
    embeddings: NDArray[np.float32], keys: list[SequenceKey]
) -> None:
    kept = [i for i, key in enumerate(keys) if key.view == "000"]
    with pytest.raises(DataError, match="several views"):
        evaluate("casia-b", embeddings[kept], [keys[i] for i in kept])


def test_nobody_twice_is_nothing_to_rank(embeddings: NDArray[np.float32]) -> None:
    keys = [SequenceKey(str(index), "nm-01", "000") for index in range(3)]
    with pytest.raises(DataError, match="nothing to rank"):
        evaluate("each-against-all", embeddings[:3], keys)


def test_an_embedding_with_nan_is_named(
    embeddings: NDArray[np.float32], keys: list[SequenceKey]
) -> None:
    embeddings[30, 3, 1] = np.nan
    name = "/".join((keys[30].subject, keys[30].condition, keys[30].view))
    with pytest.raises(DataError, match=name):
        evaluate("casia-b", embeddings, keys)


def test_what_does_not_exist_is_refused(
    embeddings: NDArray[np.float32], keys: list[SequenceKey]
) -> None:
    with pytest.raises(ValueError, match="expected one of casia-b"):
        evaluate("casia", embeddings, keys)
    with pytest.raises(ValueError, match="euclidean, cosine"):
        evaluate("casia-b", embeddings, keys, metric="manhattan")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one of each of the 144 keys"):
        evaluate("casia-b", embeddings[:5], keys)


def test_every_data_set_has_a_protocol() -> None:
    assert {each.dataset for each in PROTOCOLS.values()} == {*DATASETS, None}


@pytest.mark.parametrize(("protocol", "condition"), [("casia-b", "nm-0"), ("ccpg", "U1_D1")])
def test_a_view_without_gallery_is_not_a_number_and_no_rank_of_0(
    protocol: str, condition: str, embeddings: NDArray[np.float32], keys: list[SequenceKey]
) -> None:
    if protocol == "ccpg":
        names = dict(zip(CONDITIONS, ("U0_D0_BG", "U0_D0", "U1_D1", "U2_D2", "U3_D3", "U0_D3",
                                      "U1_D0", "U9_D9"), strict=True))  # fmt: skip
        keys = [SequenceKey(key.subject, names[key.condition], key.view) for key in keys]
    gone = [
        i
        for i, key in enumerate(keys)
        if key.condition.startswith(condition)
        and key.condition[-1] not in "56"
        and key.view == "036"
    ]
    kept = [i for i in range(len(keys)) if i not in gone]
    found = evaluate(protocol, embeddings[kept], [keys[i] for i in kept])
    figure = "NM/rank-1" if protocol == "casia-b" else "gait-including/DN/rank-1"
    assert np.isnan(found.metrics[figure])


def test_a_view_without_probes_leaves_the_other_views_of_a_cross_view_gallery_alone(
    embeddings: NDArray[np.float32], keys: list[SequenceKey]
) -> None:
    keys = [replace(key, condition=key.condition.replace("nm-03", "cl-01")) for key in keys]
    kept = [i for i, key in enumerate(keys) if (key.condition, key.view) != ("cl-01", "036")]
    found = evaluate("casia-b-cross-view", embeddings[kept], [keys[i] for i in kept])
    whole = evaluate("casia-b-cross-view", embeddings, keys)
    assert np.isnan(found.metrics["CL/rank-1"])
    assert found.metrics["NM/rank-1"] == whole.metrics["NM/rank-1"]
    (table,) = [each for each in found.tables if each.title.startswith("CL")]
    (expected,) = [each for each in whole.tables if each.title.startswith("CL")]
    assert dict(table.rows)["rank-1"][::2] == dict(expected.rows)["rank-1"][::2]


def test_a_sequence_that_is_probe_and_gallery_is_re_ranked_once(
    embeddings: NDArray[np.float32], keys: list[SequenceKey]
) -> None:
    """Twice among all sequences, each would be its own nearest neighbour."""
    config = RerankConfig(k1=8, k2=3)
    everybody = np.arange(len(keys))
    distances = euclidean(embeddings, embeddings, dtype=np.float32)
    ranked = rerank(distances, everybody, everybody, config)
    np.fill_diagonal(ranked, np.inf)
    nearest = [keys[index].subject for index in ranked.argmin(axis=1)]
    expected = np.mean([a == key.subject for a, key in zip(nearest, keys, strict=True)])
    found = evaluate("each-against-all", embeddings, keys, reranking=config)
    assert found.metrics["rank-1"] == pytest.approx(expected)


@pytest.mark.parametrize(("precision", "scale"), [("float32", 1e25), ("float16", 1e4)])
def test_embeddings_of_a_diverged_network_are_refused_and_not_ranked(
    precision: Any, scale: float, embeddings: NDArray[np.float32], keys: list[SequenceKey]
) -> None:
    with pytest.raises(DataError, match=f"too large for {precision}"):
        evaluate("casia-b", embeddings * np.float32(scale), keys, precision=precision)


@pytest.mark.parametrize("shape", [(0, 16, 4), (144, 0, 4), (144, 16, 0)])
def test_no_embeddings_are_an_error_in_words(
    shape: tuple[int, ...], keys: list[SequenceKey]
) -> None:
    with pytest.raises(DataError, match="check the partition"):
        evaluate("each-against-all", np.zeros(shape, np.float32), keys[: shape[0]])
