"""A tracker put away and taken up again."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.trackers.everybody import (
    Make,
    all_trackers,
    crossing,
    same,
    seen_by,
)
from trackers.boxes import Detections
from trackers.recorded import RecordedTracks


@all_trackers
@pytest.mark.parametrize("stopped_after", [0, 1, 2, 17, 40])
def test_a_tracker_restored_from_a_file_goes_on_as_if_nothing_had_happened(
    make: Make, stopped_after: int
) -> None:
    frames = crossing()
    for i in (14, 15, 16):  # some are lost when the state is taken
        hidden = frames[i]
        assert hidden.features is not None
        frames[i] = Detections(hidden.xyxy[:2], hidden.confidence[:2], features=hidden.features[:2])
    tracker, twin = make(), make()
    seen_by(tracker, frames[:stopped_after])
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **tracker.state())
    file.seek(0)
    with np.load(file, allow_pickle=False) as state:
        twin.restore(state)
    for frame in frames[stopped_after:]:
        assert same(tracker.update(frame, interval_s=0.04), twin.update(frame, interval_s=0.04))
    assert tracker.finish() == twin.finish()


def test_recorded_tracks_are_restored_too() -> None:
    box = Detections(
        np.array([[0, 0, 9, 9]], dtype=np.float32),
        np.ones(1, dtype=np.float32),
        ids=np.array([7], dtype=np.int64),
    )
    tracker, twin = RecordedTracks(), RecordedTracks()
    tracker.update(box, interval_s=0.1)
    twin.restore(tracker.state())
    assert twin.finish() == (7,)


@all_trackers
def test_a_state_is_a_copy(make: Make) -> None:
    frames = crossing()
    tracker = make()
    seen_by(tracker, frames[:10])
    state = tracker.state()
    before = {name: array.copy() for name, array in state.items()}
    seen_by(tracker, frames[10:20])
    twin = make()
    twin.restore(state)
    seen_by(twin, frames[10:20])
    for name, array in state.items():
        np.testing.assert_array_equal(array, before[name])


def spoilt(state: dict[str, NDArray[Any]], how: str) -> dict[str, NDArray[Any]]:
    if how == "missing":
        del state["unseen_s"]
    elif how == "more":
        state["colour"] = np.zeros(3)
    elif how == "other tracker":
        state["tracker"] = np.array("Norfair")
    elif how == "other version":
        state["version"] = np.array(99)
    elif how == "nan":
        state["unseen_s"][0] = np.nan
    elif how == "negative":
        state["unseen_s"][0] = -1.0
    elif how == "shorter":
        state["unseen_s"] = state["unseen_s"][:-1]
    elif how == "other type":
        state["unseen_s"] = state["unseen_s"].astype(np.float32)
    elif how == "the same id twice":
        state["ids"][:2] = state["ids"][1]
    return state


@all_trackers
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", "expected tracker, version"),
        ("more", "expected tracker, version"),
        ("other tracker", r"state\.tracker: expected"),
        ("other version", r"state\.version: expected 1, got 99"),
        ("nan", r"state\.unseen_s: expected finite"),
        ("negative", r"state\.unseen_s: expected at least 0"),
        ("shorter", r"state\.\w+: expected .* of shape"),
        ("other type", r"state\.unseen_s: expected float64"),
        ("the same id twice", r"state\.ids: expected different"),
    ],
)
def test_a_state_that_cannot_be_is_refused_and_changes_nothing(
    make: Make, how: str, words: str
) -> None:
    frames = crossing(12)
    tracker, twin = make(), make()
    seen_by(tracker, frames[:10])
    seen_by(twin, frames[:10])
    with pytest.raises(ValueError, match=words):
        tracker.restore(spoilt(twin.state(), how))
    assert same(seen_by(tracker, frames[10:])[-1], seen_by(twin, frames[10:])[-1])
