"""IDF1 and retrieval against counting by hand and trying everything."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.boxes import (
    Boxes,
    matched,
    touching,
    whom_tracks_followed,
    without_ignored,
)
from pipeline.evaluation.identity import chance, cross_camera, id_score

WIDE = 100.0


def at(place: float, size: float = 10.0) -> tuple[float, float, float, float]:
    return (place, 0.0, place + size, 20.0)


def overlap(one: np.ndarray, two: np.ndarray) -> float:
    wide = min(one[2], two[2]) - max(one[0], two[0])
    high = min(one[3], two[3]) - max(one[1], two[1])
    shared = max(wide, 0) * max(high, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
    return shared / (sum(areas) - shared)


def naive_right(truth: dict[str, Boxes], found: dict[str, Boxes]) -> int:
    """Try every assignment of identities and count the frames on which it agrees."""
    people = sorted({who for boxes in truth.values() for who in boxes.who.tolist()})
    names = sorted({who for boxes in found.values() for who in boxes.who.tolist()} - {""})
    longer = names + [None] * len(people)
    return max(
        (
            sum(
                agreed(truth, found, person, name)
                for person, name in zip(people, chosen, strict=True)
            )
            for chosen in set(itertools.permutations(longer, len(people)))
        ),
        default=0,
    )


def agreed(truth: dict[str, Boxes], found: dict[str, Boxes], person: str, name: str | None) -> int:
    count = 0
    for camera, true in truth.items():
        if camera not in found:
            continue
        claims = found[camera]
        for frame, who, box in zip(true.frames, true.who, true.xyxy, strict=True):
            hits = [
                overlap(box, other) >= 0.5
                for t, n, other in zip(claims.frames, claims.who, claims.xyxy, strict=True)
                if t == frame and n == name
            ]
            count += who == person and any(hits)
    return count


scenes = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.integers(0, 2),
        st.sampled_from(["p", "q", "r"]),
        st.sampled_from(["", "1", "2", "3"]),
        st.sampled_from([0.0, 2.0, 6.0, 50.0]),
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(scenes)
def test_idf1_is_that_of_the_best_of_all_assignments(
    rows: list[tuple[str, int, str, str, float]],
) -> None:
    truth_rows: dict[tuple[str, int, str], None] = {}
    for camera, frame, person, _, _ in rows:
        truth_rows[camera, frame, person] = None
    places = {"p": 0.0, "q": 4.0, "r": WIDE}
    truth = {c: Boxes.of((f, p, at(places[p])) for cc, f, p in truth_rows if cc == c) for c in "ab"}
    found = {
        c: Boxes.of((f, n, at(places[p] + shift)) for cc, f, p, n, shift in rows if cc == c)
        for c in "ab"
    }
    right = naive_right(truth, found)
    num_true = sum(map(len, truth.values()))
    num_found = sum(int((boxes.who != "").sum()) for boxes in found.values())
    score = id_score(truth, found)
    assert score.true_positives == right
    assert score.false_positives == num_found - right
    assert score.false_negatives == num_true - right
    if num_true + num_found:
        assert score.f1 == pytest.approx(2 * right / (num_true + num_found))


def walk(who: str, frames: range, place: float) -> list[tuple[int, str, tuple[float, ...]]]:
    return [(frame, who, at(place)) for frame in frames]


def test_one_person_under_two_names_on_two_cameras_is_half_right() -> None:
    truth = {c: Boxes.of(walk("p", range(10), 0)) for c in "ab"}
    found = {c: Boxes.of(walk(f"on {c}", range(10), 0)) for c in "ab"}
    assert id_score(truth, found).f1 == 0.5
    assert id_score({"a": truth["a"]}, {"a": found["a"]}).f1 == 1.0


def test_who_is_left_unnamed_costs_recall_only() -> None:
    truth = {"a": Boxes.of(walk("p", range(10), 0) + walk("q", range(10), WIDE))}
    found = {"a": Boxes.of(walk("1", range(10), 0) + walk("", range(10), WIDE))}
    score = id_score(truth, found)
    assert (score.precision, score.recall) == (1.0, 0.5)


def test_two_people_under_one_name_are_counted_for_one_of_them() -> None:
    truth = {"a": Boxes.of(walk("p", range(10), 0) + walk("q", range(4), WIDE))}
    found = {"a": Boxes.of(walk("1", range(10), 0) + walk("1", range(4), WIDE))}
    score = id_score(truth, found)
    assert (score.true_positives, score.false_positives, score.false_negatives) == (10, 4, 4)


def test_nothing_at_all_has_no_score() -> None:
    assert np.isnan(id_score({}, {}).f1)
    assert id_score({"a": Boxes.of(walk("p", range(2), 0))}, {}).f1 == 0.0


def test_a_box_on_two_people_is_given_to_the_nearer_one() -> None:
    truth = Boxes.of([(0, "p", at(0)), (0, "q", at(2))])
    found = Boxes.of([(0, "1", at(1.8)), (0, "2", at(3.0))])
    assert sorted(map(tuple, touching(truth, found).tolist())) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert sorted(map(tuple, matched(truth, found).tolist())) == [(0, 0), (1, 1)]


def test_a_track_is_the_person_most_of_its_boxes_are_on() -> None:
    truth = Boxes.of(walk("p", range(10), 0) + walk("q", range(10), WIDE))
    found = Boxes.of(
        walk("1", range(7), 0) + walk("1", range(7, 10), WIDE) + walk("2", range(5), 500)
    )
    tracks = whom_tracks_followed(truth, found)
    one, two = tracks["1"], tracks["2"]
    assert (one.person, one.own, one.on_people, one.boxes) == ("p", 7, 10, 10)
    assert (two.person, two.on_people, two.boxes) == ("", 0, 5)


def test_boxes_on_the_hidden_do_not_count_but_those_on_the_visible_do() -> None:
    truth, hidden = Boxes.of([(0, "p", at(0))]), Boxes.of([(0, "q", at(2)), (1, "q", at(50))])
    found = Boxes.of([(0, "1", at(1)), (1, "2", at(50)), (1, "3", at(300))])
    assert without_ignored(truth, hidden, found).tolist() == [True, False, True]


def naive_retrieval(d: np.ndarray, cameras: list[str], people: list[str]) -> tuple[float, float]:
    hits, precisions = [], []
    for i, camera in enumerate(cameras):
        for other in sorted(set(cameras) - {camera}):
            order = sorted((j for j, c in enumerate(cameras) if c == other), key=lambda j: d[i, j])
            right = [people[j] == people[i] for j in order]
            if people[i] and any(right):
                hits.append(right[0])
                ranks = [k + 1 for k, is_right in enumerate(right) if is_right]
                precisions.append(np.mean([(n + 1) / rank for n, rank in enumerate(ranks)]))
    return float(np.mean(hits)), float(np.mean(precisions))


def test_tracks_are_looked_for_on_every_other_camera() -> None:
    rng = np.random.default_rng(5)
    cameras = [str(c) for c in rng.choice(list("abc"), 24)]
    people = [str(p) for p in rng.choice(["p", "q", "r", "s", ""], 24)]
    distances = rng.random((24, 24))
    score = cross_camera(distances, np.array(cameras), np.array(people))
    assert (score.rank1, score.mean_ap) == pytest.approx(
        naive_retrieval(distances, cameras, people)
    )
    assert score.num_probes > 20


def test_chance_is_the_mean_over_random_orders() -> None:
    cameras = np.array(list("aaaabbbbbb"))
    people = np.array(["p", "q", "q", "", "p", "q", "q", "", "r", "q"])
    rng = np.random.default_rng(6)
    drawn = [cross_camera(rng.random((10, 10)), cameras, people) for _ in range(2000)]
    expected = chance(cameras, people)
    assert expected.num_probes == drawn[0].num_probes
    # 2000 draws of 8 probes: a standard error of about 0.004
    assert expected.rank1 == pytest.approx(np.mean([s.rank1 for s in drawn]), abs=0.02)
    assert expected.mean_ap == pytest.approx(np.mean([s.mean_ap for s in drawn]), abs=0.015)


def test_one_camera_alone_has_nothing_to_find() -> None:
    nowhere = cross_camera(np.zeros((2, 2)), np.array(["a", "a"]), np.array(["p", "p"]))
    assert nowhere.num_probes == 0
    assert np.isnan(nowhere.rank1)
    assert np.isnan(chance(np.array(["a", "a"]), np.array(["p", "p"])).rank1)
