from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.camera_clock import CameraClock, captured_s

TICKS = Fraction(1, 90_000)


def clock() -> CameraClock:
    camera = CameraClock()
    camera.begin(TICKS)
    return camera


def test_frames_are_as_far_apart_as_the_camera_says_though_the_network_shakes_them() -> None:
    camera = clock()
    delays = (0.0, 0.08, 0.01, 0.12, 0.05)
    times = [camera.tick(9000 * i, 500 + 0.1 * i + late) for i, late in enumerate(delays)]
    assert times == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4], abs=1e-9)


def test_without_timestamps_the_arrival_counts() -> None:
    camera = clock()
    assert [camera.tick(None, 7.0), camera.tick(None, 7.25)] == pytest.approx([0.0, 0.25])


def test_a_new_connection_goes_on_where_the_wall_clock_is() -> None:
    camera = clock()
    camera.tick(0, 100.0)
    camera.begin(TICKS)
    assert camera.tick(77_777_777, 160.0) == pytest.approx(60.0)


def test_a_camera_whose_clock_jumps_is_tied_to_ours_again() -> None:
    camera = clock()
    camera.tick(0, 0.0)
    assert camera.tick(9_000_000_000, 0.1) == pytest.approx(0.1)
    assert camera.tick(9_000_009_000, 0.2) == pytest.approx(0.2)


def test_a_camera_whose_clock_runs_slow_never_falls_far_behind() -> None:
    camera = clock()
    for second in range(2000):
        time_s = camera.tick(round(second * 0.99 * 90_000), float(second))
        assert abs(time_s - second) <= 0.51


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(-(2**40), 2**40)),
            st.floats(0, 5, allow_nan=False),
            st.booleans(),
        ),
        max_size=50,
    )
)
def test_time_always_rises(frames: list[tuple[int | None, float, bool]]) -> None:
    camera, now_s, last_s = clock(), 0.0, -1.0
    for pts, passed_s, is_new_connection in frames:
        now_s += passed_s
        if is_new_connection:
            camera.begin(TICKS)
        time_s = camera.tick(pts, now_s)
        assert time_s > last_s
        last_s = time_s


@pytest.mark.parametrize(
    ("began_s", "pts", "captured"),
    [
        (1000.0, 90_000, 1001.0),  # the camera's word
        (None, 90_000, 1001.2),  # it has not told yet
        (1000.0, None, 1001.2),
        (1000.25, 90_000, 1001.2),  # a little ahead of us: never after it came
        (900.0, 90_000, 1001.2),  # a clock that nobody has set
        (2000.0, 90_000, 1001.2),
    ],
)
def test_a_frame_was_captured_when_the_camera_says_so_if_that_can_be(
    began_s: float | None, pts: int | None, captured: float
) -> None:
    assert captured_s(began_s, pts, TICKS, 1001.2) == pytest.approx(captured)
