"""When a camera's clock read 0: by the camera, else by ours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.live.clocks import StreamClocks
from pipeline.recording.moment import CaptureTimes
from pipeline.values import Frame
from tests.pipeline.privacy.conftest import make_tracklet


def frame(time_s: float, captured_s: float | None = None) -> Frame:
    return Frame(np.zeros((2, 2, 3), np.uint8), "door", 0, time_s, captured_s=captured_s)


def test_all_tracklets_of_a_track_are_told_the_same_whatever_the_clock_says_later() -> None:
    moments = iter([1000.0, 2000.0])
    clocks = StreamClocks(lambda: next(moments))
    clocks.note(frame(10.0))
    first = clocks.stamped(make_tracklet())
    clocks.note(frame(11.0))
    last = clocks.stamped(replace(make_tracklet(), is_last=True))
    other = clocks.stamped(make_tracklet(2))
    assert (first.origin_unix_s, last.origin_unix_s, other.origin_unix_s) == (990.0, 990.0, 1989.0)


def test_a_camera_that_tells_the_time_of_day_is_believed() -> None:
    clocks = StreamClocks(lambda: 1000.0)
    clocks.note(frame(10.0, captured_s=500.0))
    assert clocks.stamped(make_tracklet()).origin_unix_s == 490.0


def test_frames_that_arrive_in_bursts_are_as_far_apart_as_the_camera_says() -> None:
    moments = iter([1000.0, 1000.0, 1000.9, 1010.0])
    times = CaptureTimes(lambda: next(moments))
    stamps = [times.unix_s(frame(time_s)) for time_s in (5.0, 5.1, 5.2, 5.3)]
    assert np.allclose(stamps[:3], [1000.0, 1000.1, 1000.2])
    assert stamps[3] == 1010.0, "a clock that was set is followed"
