"""What is remembered of tracks, and that it has bounds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gait.tracklet import Tracklet
from pipeline.gallery.decision import DecisionConfig
from pipeline.gallery.tracks import TrackMemory

Make = Callable[..., Tracklet]


@pytest.fixture
def memory() -> TrackMemory:
    return TrackMemory(DecisionConfig(), remember_s=60.0)


def test_a_track_whose_clock_was_set_back_is_forgotten_and_heard_of_anew(
    memory: TrackMemory, tracklet: Make
) -> None:
    memory.hear([tracklet(stream="yard", track_id=1, start_s=0.0)])
    for start_s in (1000.0, 0.0):
        memory.hear([tracklet(stream="gate", track_id=1, start_s=start_s)])
    memory.forget()
    assert [track.name for track in memory] == ["yard/1"]
    memory.hear([tracklet(stream="gate", track_id=1, start_s=5.0)])
    memory.forget()
    assert [track.name for track in memory] == ["yard/1", "gate/1"]


def test_a_clock_that_rests_costs_its_own_stream_the_oldest_tracks(
    memory: TrackMemory, tracklet: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.gallery.tracks._MOST", 10)
    memory.hear([tracklet(stream="gate", track_id=1, start_s=0.0)])
    for number in range(30):
        memory.hear([tracklet(stream="stuck", track_id=number, start_s=0.0)])
        memory.forget()
    kept = [f"stuck/{number}" for number in range(21, 30)]
    assert [track.name for track in memory] == ["gate/1", *kept]
