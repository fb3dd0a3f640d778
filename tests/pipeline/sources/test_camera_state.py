import random

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.address import Address
from pipeline.sources.camera_state import Backoff, fault_of

CAMERA = Address.parse("rtsp://guard:hunter2@127.0.0.1/s")


def test_the_first_retry_comes_within_a_second_and_the_waits_double_up_to_the_longest() -> None:
    backoff = Backoff(1.0, 30.0, random.Random(0))
    waits = [backoff.next_s() for _ in range(50)]
    assert waits[0] <= 1.0
    assert all(
        0.75 * whole <= wait <= whole
        for wait, whole in zip(waits[:5], (1, 2, 4, 8, 16), strict=True)
    )
    assert max(waits) <= 30.0
    assert min(waits[5:]) >= 22.5


def test_a_camera_that_was_well_is_tried_again_soon() -> None:
    backoff = Backoff(1.0, 30.0, random.Random(0))
    for _ in range(6):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 1.0


def test_cameras_that_went_together_do_not_come_back_together() -> None:
    waits = {Backoff(1.0, 30.0, random.Random(seed)).next_s() for seed in range(20)}
    assert len(waits) == 20


@given(st.integers(0, 3000))
def test_waiting_never_overflows(failures: int) -> None:
    backoff = Backoff(1.0, 30.0, random.Random(0))
    backoff._num_failures = failures
    assert backoff.next_s() <= 30.0


def _opened(url: str) -> Exception:
    with pytest.raises((av.FFmpegError, OSError)) as caught:
        av.open(url, timeout=(2, 2))
    return caught.value


@pytest.mark.parametrize(
    ("url", "words", "is_configuration"),
    [
        ("rtsp://guard:hunter2@127.0.0.1:1/s", "nothing listens", False),
        ("rtsp://guard:hunter2@no-such-host.invalid/s", "name is not known", False),
        ("/dev/video-that-is-not-there", "no such device or file", True),
        ("nonsense://127.0.0.1/s", "not an address", True),
    ],
)
def test_what_is_wrong_is_told_apart(url: str, words: str, is_configuration: bool) -> None:
    fault = fault_of(_opened(url), Address.parse(url), waited_s=0.1, timeout_s=2.0)
    assert words in fault.words
    assert fault.is_configuration == is_configuration
    assert "hunter2" not in fault.words


def test_a_wrong_password_is_for_a_person_to_mend() -> None:
    error = av.error.HTTPUnauthorizedError(825242872, "401 Unauthorized", "rtsp://x")
    fault = fault_of(error, CAMERA, waited_s=0.0, timeout_s=2.0)
    assert fault.is_configuration
    assert "password" in fault.words


def test_ffmpeg_calls_its_timeouts_by_any_name_so_the_clock_decides() -> None:
    error = av.error.InvalidDataError(1, "Invalid data found", "rtsp://x")
    assert "no answer within 2 s" in fault_of(error, CAMERA, waited_s=2.01, timeout_s=2.0).words
    assert "Invalid data" in fault_of(error, CAMERA, waited_s=0.1, timeout_s=2.0).words


def test_what_ffmpeg_quotes_of_an_address_is_without_its_password() -> None:
    error = OSError(5, f"cannot open {CAMERA.url}")
    assert "hunter2" not in fault_of(error, CAMERA, waited_s=0.0, timeout_s=2.0).words
