from __future__ import annotations

import numpy as np
import pytest

from gait.evaluation.halves import Walk
from gait.evaluation.returns import Sightings, returning


def walk(name: str, track: str = "1") -> Walk:
    silhouettes = np.zeros((3, 64, 44), dtype=np.uint8)
    return Walk(name, track, silhouettes, np.arange(3.0), np.zeros((3, 2)), (0.0, 2.0))


def test_who_comes_back_is_looked_for_in_other_tracks_only() -> None:
    walks = [walk("a1", track="1"), walk("a2", track="1"), walk("a3", track="2"), walk("b")]
    trial = returning([*walks, walk("unknown")], ["a", "a", "a", "b", None])
    assert [each.name for each in trial.probes] == ["a1", "a2", "a3"]
    assert [each.name for each in trial.gallery] == ["a1", "a2", "a3", "b"]
    assert trial.same.tolist() == [
        [False, False, True, False],
        [False, False, True, False],
        [True, True, False, False],
    ]
    assert trial.different.tolist() == [[False, False, False, True]] * 3
    assert trial.chance == pytest.approx((1 / 2 + 1 / 2 + 2 / 3) / 3)


def test_each_walk_needs_a_name_or_none() -> None:
    with pytest.raises(ValueError, match="expected one for each of 1 walks, got 2"):
        returning([walk("a")], ["a", "b"])


NOTES = Sightings(
    times_s=np.array([0.0, 0.0, 1.0, 2.0]),
    xy=np.array([[50.0, 50.0], [90.0, 50.0], [60.0, 50.0], [70.0, 50.0]]),
    people=np.array(["anna", "ben", "anna", "ben"]),
)


def boxes(*lefts: float) -> np.ndarray:  # type: ignore[type-arg]
    return np.array([[left, 0.0, left + 60, 100.0] for left in lefts])


def test_a_box_holds_the_noted_person_nearest_to_its_middle() -> None:
    assert NOTES.who(np.array([0.0]), boxes(25)) == "anna"  # alone in it
    assert NOTES.who(np.array([0.0]), boxes(35)) == "anna"  # both are; the middle is 65
    assert NOTES.who(np.array([0.0]), boxes(45)) == "ben"  # both are; the middle is 75


def test_a_walk_of_two_people_is_nobody() -> None:
    times = np.array([0.0, 1.0, 2.0])
    assert NOTES.who(times, boxes(20, 30, 40)) is None
    assert NOTES.who(times, boxes(20, 30, 40), agreement=0.6) == "anna"


def test_a_walk_without_notes_is_nobody() -> None:
    assert NOTES.who(np.array([0.5, 0.0]), boxes(20, 500)) is None
