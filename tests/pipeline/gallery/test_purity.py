from __future__ import annotations

import numpy as np

from pipeline.gallery.decision import Heard
from pipeline.gallery.purity import switch


def windows(*distances: float) -> list[Heard]:
    return [
        Heard.of(str(n), 1.0, np.full((256, 16), d / 16, np.float32), [])
        for n, d in enumerate(distances)
    ]


def test_a_track_of_two_people_is_cut_where_the_second_begins() -> None:
    assert switch(windows(0.0, 0.2, 0.1, 3.0, 3.2), limit=1.0, margin=0.25) == 3


def test_a_track_of_one_person_is_not_cut() -> None:
    assert switch(windows(0.0, 0.4, 0.1, 0.5), limit=1.0, margin=0.25) is None


def test_a_walk_that_changes_little_by_little_is_not_cut() -> None:
    assert switch(windows(0.0, 0.7, 1.4, 2.1, 2.8), limit=1.0, margin=0.25) is None


def test_one_odd_window_is_nobody_else() -> None:
    assert switch(windows(0.0, 0.1, 0.2, 3.0), limit=1.0, margin=0.25) is None
    assert switch(windows(0.0, 3.0, 0.1, 0.2), limit=1.0, margin=0.25) is None


def test_too_few_windows_say_nothing() -> None:
    assert switch(windows(), limit=1.0, margin=0.25) is None
    assert switch(windows(0.0, 0.1, 3.0), limit=1.0, margin=0.25) is None
