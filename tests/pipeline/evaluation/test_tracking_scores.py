"""Scores of trackers: beside a naive oracle, TrackEval's recorded figures, and by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.evaluation.tracking_folder import MotBoxes, Truth
from pipeline.evaluation.tracking_scores import ALPHAS, Tally, score

FPS = 10.0
Row = tuple[int, int, float]
"""Frame, id, left edge; every box is 10 wide and 20 high."""


def boxes(rows: list[Row]) -> MotBoxes:
    rows = sorted(rows)
    left = np.array([row[2] for row in rows], dtype=np.float64)
    xyxy = np.stack([left, np.zeros_like(left), left + 10, np.full_like(left, 20.0)], axis=1)
    return MotBoxes(
        np.array([row[0] for row in rows], dtype=np.int64),
        np.array([row[1] for row in rows], dtype=np.int64),
        xyxy.reshape(-1, 4),
        np.ones((len(rows), 1)),
        np.arange(len(rows)),
    )


def truth(rows: list[Row], ignored: tuple[int, ...] = (), visible: float = 1.0) -> Truth:
    made = boxes(rows)
    is_ignored = np.isin(made.ids, ignored)
    return Truth(made, ~is_ignored, is_ignored, np.full(len(made), visible))


def walk(who: int, frames: range, left: float) -> list[Row]:
    return [(frame, who, left) for frame in frames]


def judge(true: Truth, found: list[Row], frames: int = 40) -> Tally:
    return score(true, boxes(found), num_frames=frames, fps=FPS)


def test_the_truth_itself_scores_full_marks() -> None:
    rows = walk(1, range(40), 0) + walk(2, range(10, 40), 100)
    tally = judge(truth(rows), rows)
    assert [tally.hota, tally.ass_a, tally.mota, tally.idf1, tally.purity] == pytest.approx([1] * 5)
    assert (tally.switches, tally.fragments, tally.misses, tally.false_boxes) == (0, 0, 0, 0)
    assert tally.pure_share(3.0) == 1.0
    assert tally.usable_s_per_person == pytest.approx(3.5)


def test_nobody_found_scores_nothing() -> None:
    tally = judge(truth(walk(1, range(40), 0)), [])
    assert (tally.hota, tally.mota, tally.idf1, tally.misses) == (0, 0, 0, 40)
    assert np.isnan(tally.purity)


def test_boxes_where_nobody_is_are_all_false() -> None:
    tally = judge(truth([]), walk(1, range(10), 0))
    assert (tally.false_boxes, tally.hota, tally.people) == (10, 0, 0)
    assert np.isnan(tally.pure_share(1.0))


def test_a_track_that_changes_hands_counts_a_switch_and_is_not_pure() -> None:
    people = walk(1, range(40), 0) + walk(2, range(40), 100)
    swapped = (
        walk(7, range(20), 0) + walk(8, range(20), 100)
        + walk(7, range(20, 40), 100) + walk(8, range(20, 40), 0)
    )  # fmt: skip
    tally = judge(truth(people), swapped)
    assert tally.switches == 2
    assert tally.purity == 0.5
    assert tally.pure_share(0.1) == 0
    assert tally.usable_s == 0
    assert tally.mota == pytest.approx(1 - 2 / 80)
    assert tally.idf1 == 0.5


def test_a_broken_track_is_pure_but_short() -> None:
    broken = walk(7, range(15), 0) + walk(8, range(15, 40), 0)
    tally = judge(truth(walk(1, range(40), 0)), broken)
    assert (tally.switches, tally.purity) == (1, 1.0)
    assert [tally.pure_share(t) for t in (1.0, 2.0, 3.0)] == [1.0, 25 / 40, 0.0]
    assert tally.usable_s == 2.5


def test_a_person_found_again_counts_a_fragment_and_no_switch() -> None:
    tally = judge(truth(walk(1, range(40), 0)), walk(7, range(10), 0) + walk(7, range(20, 40), 0))
    assert (tally.switches, tally.fragments, tally.misses) == (0, 0, 10)
    # A frame without any box is none to MOTChallenge; with somebody else in it, it is.
    others = walk(2, range(40), 100)
    both = truth(walk(1, range(40), 0) + others)
    found = walk(7, range(10), 0) + walk(7, range(20, 40), 0) + walk(9, range(40), 100)
    assert judge(both, found).fragments == 1


def test_who_need_not_be_found_may_be() -> None:
    rows = walk(1, range(40), 0) + walk(2, range(40), 100)
    tally = judge(truth(rows, ignored=(2,)), rows)
    assert (tally.people, tally.tracks, tally.false_boxes) == (1, 1, 0)
    assert tally.hota == pytest.approx(1)


def test_a_walk_that_is_mostly_hidden_is_not_usable() -> None:
    rows = walk(1, range(40), 0)
    tally = judge(truth(rows, visible=0.5), rows)
    assert (tally.pure_share(4.0), tally.usable_s, tally.visible_s) == (1.0, 0.0, 0.0)


def test_recordings_add_up_before_scores_are_taken() -> None:
    good = walk(1, range(40), 0)
    total = judge(truth(good), good) + judge(truth(good), [])
    assert total.mota == 0.5
    assert total.pure_share(4.0) == 0.5
    assert total.hota == pytest.approx(np.sqrt(0.5))  # DetA is half, AssA of what is found is 1


@pytest.mark.parametrize("seed", range(6))
def test_scores_equal_a_naive_count(seed: int) -> None:
    true, found = scribble(seed, people=3), scribble(seed + 100, people=4)
    tally = judge(truth(true), found, frames=6)
    assert tally.hota == pytest.approx(naive_hota(true, found), abs=1e-12)
    assert tally.id_matched == naive_identity(true, found)


def test_scores_equal_those_recorded_from_trackeval() -> None:
    """TrackEval 1.3.0 on the same boxes; `make bench-trackers` compares larger ones."""
    tally = judge(truth(scribble(1, people=5, frames=30)), scribble(2, people=6, frames=30), 30)
    ours = [tally.hota, tally.det_a, tally.ass_a, tally.mota, tally.idf1]
    assert ours == pytest.approx(TRACKEVAL[:5], abs=1e-9)
    assert [tally.switches, tally.fragments] == TRACKEVAL[5:]


TRACKEVAL = [
    0.4027284220757589,
    0.4138587443393861,
    0.39284286721999156,
    0.05,
    0.6171003717472119,
    15,
    32,
]
"""HOTA, DetA, AssA, MOTA, IDF1, IDSW, Frag."""


def scribble(seed: int, people: int, frames: int = 6) -> list[Row]:
    """Return people who stand near one another and are seen now and then."""
    rng = np.random.default_rng(seed)
    return [
        (frame, who, round(4.0 * who + float(rng.normal(0, 2)), 3))
        for frame in range(frames)
        for who in range(people)
        if rng.random() < 0.8
    ]


def iou(a: float, b: float) -> float:
    shared = max(0.0, 10 - abs(a - b))
    return shared / (20 - shared)


def naive_hota(true: list[Row], found: list[Row]) -> float:
    """HOTA by its definition, with every assignment of every frame tried."""
    pairs = best_pairs(true, found)
    scores = []
    for alpha in ALPHAS:
        kept = [(g, t) for g, t, overlap in pairs if overlap >= alpha - 1e-12]
        association = 0.0
        for g, t in kept:
            both = kept.count((g, t))
            of_g = sum(row[1] == g for row in true)
            of_t = sum(row[1] == t for row in found)
            association += both / (of_g + of_t - both)
        union = len(true) + len(found) - len(kept)
        scores.append(np.sqrt(association / union))
    return float(np.mean(scores))


def best_pairs(true: list[Row], found: list[Row]) -> list[tuple[int, int, float]]:
    aligned = alignment(true, found)
    pairs = []
    for frame in range(6):
        people = [row for row in true if row[0] == frame]
        tracks = [row for row in found if row[0] == frame]
        best: tuple[float, list[tuple[int, int, float]]] = (-1.0, [])
        few, many = sorted((people, tracks), key=len)
        for order in itertools.permutations(many, len(few)):
            couples = list(zip(few, order, strict=True))
            if few is tracks and few is not people:
                couples = [(b, a) for a, b in couples]
            chosen = [(g[1], t[1], iou(g[2], t[2])) for g, t in couples]
            worth = sum(aligned[g, t] * overlap for g, t, overlap in chosen)
            if worth > best[0] + 1e-12:
                best = (worth, chosen)
        pairs += best[1]
    return pairs


def alignment(true: list[Row], found: list[Row]) -> NDArray[np.float64]:
    common = np.zeros((10, 10))
    for g, t in itertools.product(true, found):
        if g[0] == t[0] and (overlap := iou(g[2], t[2])) > 0:
            of_g = sum(iou(g[2], row[2]) for row in found if row[0] == g[0])
            of_t = sum(iou(t[2], row[2]) for row in true if row[0] == t[0])
            common[g[1], t[1]] += overlap / (of_g + of_t - overlap)
    for g_id, t_id in itertools.product(range(10), range(10)):
        of_g = sum(row[1] == g_id for row in true)
        of_t = sum(row[1] == t_id for row in found)
        common[g_id, t_id] /= max(1e-9, of_g + of_t - common[g_id, t_id])
    return common


def naive_identity(true: list[Row], found: list[Row]) -> int:
    people, tracks = sorted({r[1] for r in true}), sorted({r[1] for r in found})
    touching = {
        (g, t): sum(
            a[0] == b[0] and iou(a[2], b[2]) >= 0.5
            for a in true for b in found if a[1] == g and b[1] == t
        )
        for g in people for t in tracks
    }  # fmt: skip
    return max(
        sum(touching[g, t] for g, t in zip(people, order, strict=True))
        for order in itertools.permutations(tracks, len(people))
    )
