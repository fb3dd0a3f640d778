from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gait.evaluation.gei import gei_l2
from gait.evaluation.halves import HalvesConfig, Walk, WalkTrial, cut_halves, gain, judge
from gait.evaluation.paths import place_distances, turned_deg

QUICK = HalvesConfig(resamples=200)


def walk(
    name: str,
    start_s: float = 0.0,
    frames: int = 80,
    *,
    track: str | None = None,
    grey: int = 100,
    velocity: tuple[float, float] = (5.0, 0.0),
) -> Walk:
    times_s = start_s + np.arange(frames) / 10
    return Walk(
        name=name,
        track=track or name,
        silhouettes=np.full((frames, 64, 44), grey, dtype=np.uint8),
        times_s=times_s,
        feet_xy=np.outer(times_s, velocity),
        seen_s=(start_s, start_s + frames / 10),
    )


def crowd(count: int, config: HalvesConfig = QUICK) -> WalkTrial:
    return cut_halves([walk(str(n), grey=10 * n) for n in range(count)], config)


def separated(trial: WalkTrial) -> NDArray[np.float64]:
    return np.where(trial.same, 0.1, 0.9)


def test_perfect_separation_is_rank_1_of_1_and_eer_of_0() -> None:
    trial = crowd(6)
    score = judge(trial, separated(trial), QUICK)
    assert (score.rank1.value, score.rank1.low, score.rank1.high) == (1, 1, 1)
    assert (score.eer.value, score.eer.low, score.eer.high) == (0, 0, 0)


def test_people_of_different_grey_are_found_by_their_mean_silhouette() -> None:
    trial = crowd(6)
    score = judge(trial, gei_l2(trial.probe_shapes, trial.gallery_shapes), QUICK)
    assert score.rank1.value == 1
    assert score.eer.value == 0


def test_shuffled_distances_come_out_at_chance() -> None:
    trial = crowd(8)
    rng = np.random.default_rng(0)
    scores = [judge(trial, rng.random((8, 8)), HalvesConfig(resamples=1)) for _ in range(400)]
    assert trial.chance == pytest.approx(1 / 8)
    # 3200 searches: 3 standard deviations are 1.8 %
    assert np.mean([s.rank1.value for s in scores]) == pytest.approx(1 / 8, abs=0.018)
    assert np.mean([s.eer.value for s in scores]) == pytest.approx(0.5, abs=0.02)


@given(seed=st.integers(0, 10_000), count=st.integers(2, 7))
def test_figures_are_those_of_a_naive_loop(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    walks = [walk(str(n), float(rng.uniform(0, 9))) for n in range(count)]
    trial = cut_halves(walks, QUICK)
    distances = rng.integers(0, 6, (len(trial.probes), len(trial.gallery))).astype(float)
    score = judge(trial, distances, QUICK)
    hits, genuine, impostors = [], [], []
    for i in range(len(trial.probes)):
        others = [j for j in range(len(trial.gallery)) if trial.different[i, j]]
        hits.append(all(distances[i, i] < distances[i, j] for j in others))
        genuine.append(distances[i, i])
        impostors += [distances[i, j] for j in others]
    assert score.hits.tolist() == hits
    if not hits:
        assert np.isnan(score.rank1.value)
        assert np.isnan(score.eer.value)
        return
    assert score.rank1.value == pytest.approx(np.mean(hits))
    rates = [
        (np.mean([g > t for g in genuine]), np.mean([d <= t for d in impostors]))
        for t in np.unique(distances)
    ]
    missed, mistaken = min(rates, key=lambda both: round(abs(both[0] - both[1]), 9))
    # of thresholds that are as good the smallest, as in the package
    assert score.eer.value == pytest.approx((missed + mistaken) / 2)


def test_a_tie_is_a_miss() -> None:
    trial = crowd(3)
    assert judge(trial, np.zeros((3, 3)), QUICK).rank1.value == 0


def test_only_people_in_view_together_are_compared() -> None:
    walks = [walk("a", 0), walk("b", 4), walk("c", 7.5), walk("alone", 60)]
    trial = cut_halves(walks, HalvesConfig(together_s=2))
    assert [each.name for each in trial.probes] == ["a", "b", "c"]
    assert trial.different.tolist() == [
        [False, True, False],
        [True, False, True],
        [False, True, False],
    ]
    assert trial.chance == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 3)


def test_a_stranger_never_seen_together_is_no_mistake_however_alike() -> None:
    trial = cut_halves([walk("a", 0), walk("b", 4), walk("c", 7.5)], QUICK)
    distances = np.array([[0.5, 0.9, 0.1], [0.9, 0.5, 0.9], [0.1, 0.9, 0.5]])
    score = judge(trial, distances, QUICK)
    assert score.rank1.value == 1
    assert score.eer.value == 0


@given(
    share=st.floats(0.1, 0.5),
    gap_s=st.floats(0, 4),
    seed=st.integers(0, 1000),
    frames=st.integers(60, 120),
)
def test_halves_share_no_frame_and_keep_their_gap(
    share: float, gap_s: float, seed: int, frames: int
) -> None:
    rng = np.random.default_rng(seed)
    one = walk("a", frames=frames).frames(rng.random(frames) < 0.8)
    config = HalvesConfig(share=share, gap_s=gap_s, min_silhouettes=1)
    trial = cut_halves([one, walk("b")], config)
    for first, last in zip(trial.gallery, trial.probes, strict=True):
        assert last.times_s[0] - first.times_s[-1] > 0
        assert last.times_s[0] - first.times_s[-1] >= gap_s - 1e-9


def test_swapping_looks_for_the_first_halves_among_the_last() -> None:
    plain, swapped = crowd(3), crowd(3, HalvesConfig(swapped=True))
    for a, b in zip(plain.gallery, swapped.probes, strict=True):
        assert np.array_equal(a.times_s, b.times_s)


def test_walks_with_too_few_silhouettes_are_left_out() -> None:
    walks = [walk("long"), walk("other"), walk("short", frames=45), walk("none", frames=0)]
    trial = cut_halves(walks, HalvesConfig(min_silhouettes=20))
    assert [each.name for each in trial.probes] == ["long", "other"]


def test_windows_cut_each_half_into_whole_sequences() -> None:
    config = HalvesConfig(window=15, gap_s=0, min_silhouettes=15)
    trial = cut_halves([walk("a", frames=80), walk("b", frames=60)], config)
    assert [len(piece.silhouettes) for piece in trial.probes] == [15] * 4
    assert [piece.name for piece in trial.probes] == ["a", "a", "b", "b"]
    assert trial.same.sum() == trial.different.sum() == 8
    score = judge(trial, separated(trial), config)
    assert score.rank1.value == 1


def test_one_person_in_many_pieces_of_one_track_gives_no_certainty() -> None:
    walks = [walk(f"{n}", 4.0 * n, track="same") for n in range(6)]
    trial = cut_halves(walks, QUICK)
    distances = np.random.default_rng(3).random((6, 6))
    score = judge(trial, distances, QUICK)
    assert score.rank1.low == score.rank1.value == score.rank1.high  # one track: nothing to draw


def test_the_gain_of_a_method_over_itself_is_0_without_spread() -> None:
    trial = crowd(6)
    score = judge(trial, np.random.default_rng(0).random((6, 6)), QUICK)
    over = gain(trial, score, score, QUICK)
    assert (over.value, over.low, over.high) == (0, 0, 0)


def test_nobody_to_judge_gives_figures_that_are_not_numbers() -> None:
    trial = cut_halves([walk("alone")], QUICK)
    score = judge(trial, np.zeros((0, 0)), QUICK)
    assert np.isnan([score.rank1.value, score.eer.value, trial.chance]).all()


def test_distances_that_do_not_fit_are_refused() -> None:
    trial = crowd(3)
    with pytest.raises(ValueError, match=r"expected finite numbers of shape \(3, 3\)"):
        judge(trial, np.zeros((3, 2)), QUICK)
    with pytest.raises(ValueError, match="expected finite"):
        judge(trial, np.full((3, 3), np.nan), QUICK)


def test_a_walk_has_one_time_and_one_place_a_silhouette() -> None:
    with pytest.raises(ValueError, match="walk a: expected as many"):
        Walk("a", "a", np.zeros((3, 64, 44), np.uint8), np.arange(3.0), np.zeros((2, 2)), (0, 1))


def test_the_place_control_measures_pixels_between_mean_places() -> None:
    trial = cut_halves([walk("a", velocity=(10, 0)), walk("b", velocity=(0, 0))], QUICK)
    distances = place_distances(trial)
    assert distances[1, 1] == 0
    assert distances[0, 0] == pytest.approx(
        10 * (trial.probes[0].times_s.mean() - trial.gallery[0].times_s.mean())
    )


def test_turning_is_measured_between_the_halves() -> None:
    straight = walk("straight")
    there_and_back = walk("turned")
    out = np.minimum(there_and_back.times_s, 4.0)
    back = np.maximum(there_and_back.times_s - 4.0, 0.0)
    there_and_back.feet_xy[:] = np.stack([out, back], axis=1)  # right, then down
    trial = cut_halves([straight, there_and_back], QUICK)
    assert turned_deg(trial) == pytest.approx([0, 90], abs=1e-3)
