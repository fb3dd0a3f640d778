from __future__ import annotations

import numpy as np
import pytest

from pipeline.recording.moment import Moment, Seen
from pipeline.recording.preroll import PreRoll
from tests.pipeline.recording.scenes import BEGAN_S, FPS, frame, index_of, people

HD = (1080, 1920)


def moment(index: int, camera: str = "gate", hw: tuple[int, int] = (120, 160)) -> Moment:
    seen = Seen(frame(index, camera, hw), *people())
    return Moment.of(seen, BEGAN_S + index / FPS, height=None, outlined=False)


def test_the_last_seconds_come_back_in_order_and_once() -> None:
    preroll = PreRoll(1.0, 1e6)
    for index in range(30):
        preroll.add(moment(index))
    found = list(preroll.before(moment(30)))
    assert [index_of(each.picture) for each in found] == list(range(20, 30))
    assert list(preroll.before(moment(30))) == []
    assert preroll.num_bytes == 0


def test_a_camera_that_was_away_does_not_show_what_was_before() -> None:
    preroll = PreRoll(1.0, 1e6)
    preroll.add(moment(0))
    assert list(preroll.before(moment(600))) == []


def test_a_clock_that_was_set_back_keeps_nothing_for_ever() -> None:
    preroll = PreRoll(1.0, 1e6)
    preroll.add(moment(1000))
    preroll.add(moment(3))
    assert [index_of(each.picture) for each in preroll.before(moment(4))] == [3]


def test_eight_hd_cameras_stay_in_the_bound_and_it_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rng = np.random.default_rng(0)
    preroll = PreRoll(3.0, 16e6)
    noise = rng.integers(0, 255, (270, 480, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    for index in range(6):
        for camera in "abcdefgh":
            each = moment(index, camera, HD)
            each.picture[:] = noise
            preroll.add(each)
            assert preroll.num_bytes <= 16e6
    assert len([r for r in caplog.records if "memory_mb" in r.message]) == 1
    # all cameras give way alike: each has its newest left
    newest = [list(preroll.before(moment(6, camera, HD))) for camera in "abcdefgh"]
    assert {each[-1].at_unix_s for each in newest} == {BEGAN_S + 0.5}


def test_nothing_is_remembered_where_nothing_is_shown() -> None:
    preroll = PreRoll(0.0, 1e6)
    preroll.add(moment(0))
    assert preroll.num_bytes == 0
