from __future__ import annotations

import itertools

import numpy as np
import pytest

from pipeline.evaluation.crowd import Crowd
from pipeline.evaluation.search_bench import (
    BRUTE,
    ONE,
    Noise,
    agreement,
    fill,
    measure,
    measure_changes,
    measure_recall,
)


def crowd() -> Crowd:
    rng = np.random.default_rng(0)
    people = rng.standard_normal((20, 4096)).repeat(10, axis=0)
    walks = people + 0.5 * rng.standard_normal((200, 4096))
    return Crowd.of(walks.astype(np.float32).reshape(200, 256, 16), np.arange(200) // 10)


def test_a_filled_gallery_knows_half_of_its_probes_and_answers_as_brute_force_does() -> None:
    filled = fill(crowd(), 1000, 20)
    assert len(filled.matrix) == 1000
    assert len(filled.probes) == 20
    known = [found[0].distance for found in filled.matrix.search(filled.known)]
    strangers = [found[0].distance for found in filled.matrix.search(filled.strangers)]
    assert np.median(known) < np.median(strangers)
    assert agreement(filled, 20) == 20


def test_ways_are_compared_by_what_a_probe_takes() -> None:
    filled = fill(Noise(), 100, 4)
    ticks = itertools.count()  # every call takes one second
    speeds = measure(
        filled,
        rounds=2,
        seconds=2.0,
        clock=lambda: float(next(ticks)),
        only=(BRUTE[0], ONE[0], "search, batches of 64"),
    )
    assert [(speed.p50_ms, speed.speedup) for speed in speeds] == [
        (1000, 1),
        (1000, 1),
        (1000 / 64, 64),
    ]


def test_changes_leave_the_gallery_as_it_was() -> None:
    people = crowd()
    filled = fill(people, 200, 4)
    before = filled.matrix.search(filled.probes, k=3)
    ticks = itertools.count()
    taken = measure_changes(filled.matrix, people, lambda: float(next(ticks)), count=5)
    assert taken == dict.fromkeys(("append", "move", "remove"), 1000.0)
    assert filled.matrix.search(filled.probes, k=3) == before
    assert len(filled.matrix) == 200


def test_recall_is_of_what_an_exact_search_finds() -> None:
    pytest.importorskip("faiss")
    ticks = itertools.count()
    recall = measure_recall(crowd(), 2000, 20, lambda: float(next(ticks)))
    assert recall.rows == 2000
    assert recall.probes == 20
    assert recall.nearest > 0.9
    assert recall.exact_ms == recall.coarse_ms == 1000
