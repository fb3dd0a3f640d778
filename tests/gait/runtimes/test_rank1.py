"""Rank-1 on people nobody trains on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gait.runtimes.cache import CACHE_VARIABLE
from gait.runtimes.rank1 import EvaluationSet, evaluation_set, rank1


def test_the_set_is_made_once_and_the_same_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = []
    for folder in ("one", "one", "other"):
        monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / folder))
        filmed: list[None] = []
        sets.append(evaluation_set(2, on_step=lambda filmed=filmed: filmed.append(None)))
        assert len(filmed) == (0 if len(sets) == 2 else 2)
    for each in sets:
        assert each.people.tolist() == [0] * 4 + [1] * 4
        assert all(walk.shape[1:] == (64, 44) and len(walk) for walk in each.walks)
        for walk, first in zip(each.walks, sets[0].walks, strict=True):
            np.testing.assert_array_equal(walk, first)


def test_a_damaged_set_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    made = evaluation_set(1)
    (path,) = (tmp_path / "cache").iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    again = evaluation_set(1)
    assert "damaged" in caplog.text
    np.testing.assert_array_equal(again.walks[0], made.walks[0])


def test_rank1_is_the_share_whose_nearest_other_walk_is_their_own() -> None:
    places = np.array([0.0, 1.0, 10.0, 11.0, 30.0, 11.5])
    walks = [np.full((1, 64, 44), index, np.uint8) for index in range(6)]
    evaluated = EvaluationSet(tuple(walks), np.array([0, 0, 1, 1, 2, 2]))

    def embed(some: list[np.ndarray]) -> list[np.ndarray]:
        return [np.full((2, 3), places[walk[0, 0, 0]]) for walk in some]

    # 0, 1 and 10 find their own; 11 and 11.5 find each other, 30 finds 11.5, which is its own
    assert rank1(embed, evaluated) == pytest.approx(4 / 6)
