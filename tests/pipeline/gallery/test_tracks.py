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


def test_a_track_came_where_its_first_tracklet_began_and_left_where_its_last_ended(
    memory: TrackMemory, tracklet: Make
) -> None:
    boxes = [(x, 0.0, x + 40.0, 100.0) for x in (0.0, 30.0, 60.0, 90.0)]
    late = tracklet(start_s=3.0, boxes=(boxes[2], boxes[3]))
    memory.hear([tracklet(num=0), tracklet(boxes=(boxes[0], boxes[1])), late])
    memory.hear([tracklet(boxes=(boxes[0], boxes[1]))])  # an old one again
    [track] = memory
    came, left = track.presence.came, track.presence.left
    assert came is not None
    assert left is not None
    assert (came.time_s, came.x, left.time_s, left.x) == (0.0, 20.0, 5.9, 110.0)
    track.first_seen_s = 3.0  # cut there: before, it was somebody else
    assert track.presence.came is None
