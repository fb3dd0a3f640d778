from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline.errors import OutputError
from pipeline.privacy.folders import ClipsFolder
from pipeline.privacy.labels import Labels
from pipeline.recording.config import RecordingConfig
from pipeline.recording.recording import Recording
from pipeline.sinks.drawing import UNKNOWN_RGB, identity_colour
from tests.pipeline.recording.scenes import (
    BEGAN_S,
    BOX,
    GREY,
    clips_in,
    decode,
    frame,
    index_of,
    people,
    record,
    show,
    sighting,
)


def config(**more: Any) -> RecordingConfig:
    return RecordingConfig(
        **{"before_s": 1.0, "after_s": 0.5, "height": None, "keep_days": None, **more}
    )


def wait_for(what: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def drain(recording: Recording) -> None:
    wait_for(lambda: recording.counts.waiting == 0)


def in_box(image: np.ndarray) -> np.ndarray:
    """Return the mean colour within the person's mask, away from its outline."""
    left, top, right, bottom = BOX
    return np.asarray(image[top + 15 : bottom - 5, left + 5 : right - 5].mean(axis=(0, 1)))


def tinted(rgb: tuple[int, int, int]) -> np.ndarray:
    return 0.65 * GREY + 0.35 * np.array(rgb[::-1])


def test_a_clip_begins_before_people_come_and_ends_after_they_left(tmp_path: Path) -> None:
    with Recording(config(), tmp_path) as recording:
        show(recording, range(30, 50), 80)
    [clip] = clips_in(tmp_path)
    assert clip.name == "20260921T141322.000Z.mp4"  # 2 s after frame 0: 1 s before frame 30
    pictures = decode(clip)
    assert [index_of(image) for _, image in pictures] == list(range(20, 55))
    np.testing.assert_allclose([t for t, _ in pictures], np.arange(35) / 10, atol=1e-3)


def test_nothing_is_shown_before_people_come_where_that_is_not_wanted(tmp_path: Path) -> None:
    with Recording(config(before_s=0.0), tmp_path) as recording:
        show(recording, range(30, 50), 80)
    [clip] = clips_in(tmp_path)
    assert [index_of(image) for _, image in decode(clip)] == list(range(30, 55))


def test_every_picture_keeps_its_time_at_a_variable_frame_rate(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.1, 0.5, 0.51, 1.7, 1.74, 3.0]
    with Recording(config(after_s=5), tmp_path) as recording:
        for index, at_s in enumerate(times):
            recording.saw(frame(index, at_s=at_s), *people(1))
    [clip] = clips_in(tmp_path)
    np.testing.assert_allclose([t for t, _ in decode(clip)], times, atol=1e-3)
    with av.open(str(clip)) as container:
        assert container.duration == pytest.approx((3.0 + 1.26) * av.time_base, rel=0.01)


def test_people_are_drawn_grey_until_it_is_known_who_they_are(tmp_path: Path) -> None:
    with Recording(config(), tmp_path) as recording:
        for index in range(20):
            if index == 10:
                drain(recording)
                recording.put(sighting(7, "person-3"))
            recording.saw(frame(index), *(people(7) if index >= 5 else people()))
    [clip] = clips_in(tmp_path)
    images = [image for _, image in decode(clip)]
    tolerance = 8  # of a lossy codec, in levels of 255
    np.testing.assert_allclose(in_box(images[2]), GREY, atol=tolerance)
    np.testing.assert_allclose(in_box(images[7]), tinted(UNKNOWN_RGB), atol=tolerance)
    known = tinted(identity_colour("person-3"))
    np.testing.assert_allclose(in_box(images[15]), known, atol=tolerance)


def test_a_plain_recording_shows_nothing_but_the_picture(tmp_path: Path) -> None:
    with Recording(config(annotate=False), tmp_path) as recording:
        show(recording, range(5), 5)
    [clip] = clips_in(tmp_path)
    for _, image in decode(clip):
        np.testing.assert_allclose(image[20:], GREY, atol=4)
    assert record(clip).annotated is False


def test_the_record_beside_a_clip_says_who_was_there_when(tmp_path: Path) -> None:
    with Recording(config(), tmp_path) as recording:
        recording.put(sighting(7, "person-3"))
        for index in range(20):
            ids = [7] * (index < 10) + [8] * (index >= 5)
            recording.saw(frame(index), *people(*ids))
    [clip] = clips_in(tmp_path)
    found = record(clip)
    assert (found.camera, found.file, found.complete) == ("gate", clip.name, True)
    assert (found.frames, found.width, found.height) == (20, 160, 120)
    assert (found.start_unix_s, found.end_unix_s) == (BEGAN_S, BEGAN_S + 1.9)
    first, second = found.tracks
    assert (first.track_id, first.identity, first.sighting) == (7, "person-3", "gate/7/1")
    assert (first.start_unix_s, first.end_unix_s) == (BEGAN_S, BEGAN_S + 0.9)
    assert (second.track_id, second.identity, second.sighting) == (8, None, None)


def test_who_it_was_is_added_also_when_the_clip_has_long_been_written(tmp_path: Path) -> None:
    with Recording(config(), tmp_path) as recording:
        show(recording, range(5), 20)
        wait_for(lambda: clips_in(tmp_path))
        recording.put(sighting(7, "person-3", "ended"))
        recording.put(sighting(99, "nobody's", "ended"))
    [clip] = clips_in(tmp_path)
    [track] = record(clip).tracks
    assert (track.identity, track.sighting) == ("person-3", "gate/7/1")
    assert record(clip).complete


def test_whoever_it_was_said_to_be_is_found_by_all_these_names(tmp_path: Path) -> None:
    with Recording(config(), tmp_path) as recording:
        show(recording, range(5), 20)
        for who, what in (("person-3", "seen"), (None, "ended"), ("person-5", "revised")):
            recording.put(sighting(7, who, what))
    [clip] = clips_in(tmp_path)
    [track] = record(clip).tracks
    assert (track.identity, track.formerly) == ("person-5", ("person-3",))
    folder = ClipsFolder(tmp_path)
    for name, count in (("person-3", 2), ("person-5", 2), ("person-4", 0)):
        assert len(list(folder.clips_of(Labels(frozenset({name}))))) == count


def test_a_long_stay_goes_on_in_a_new_file_without_a_gap(tmp_path: Path) -> None:
    with Recording(config(longest_s=2), tmp_path) as recording:
        show(recording, range(15, 36), 40)
    shown = [[index_of(image) for _, image in decode(clip)] for clip in clips_in(tmp_path)]
    assert [len(indices) for indices in shown] == [20, 15]
    assert list(chain(*shown)) == list(range(5, 40))


def test_high_pictures_are_scaled_down_and_small_ones_are_not_scaled_up(tmp_path: Path) -> None:
    with Recording(config(height=90), tmp_path) as recording:
        recording.saw(frame(0, "high", (240, 320)), *people(1))
        recording.saw(frame(0, "low", (72, 96)), *people(1))
    sizes = {record(clip).camera: decode(clip)[0][1].shape[:2] for clip in clips_in(tmp_path)}
    assert sizes == {"high": (90, 120), "low": (72, 96)}


def test_another_picture_size_or_a_clock_that_jumps_begins_a_new_clip(tmp_path: Path) -> None:
    with Recording(config(), tmp_path) as recording:
        recording.saw(frame(0), *people(1))
        recording.saw(frame(1, hw=(60, 80)), *people(1))
        recording.saw(frame(2, hw=(60, 80), at_s=5000.0), *people(1))
        recording.saw(frame(3, hw=(60, 80), at_s=0.3), *people(1))
    assert [len(decode(clip)) for clip in clips_in(tmp_path)] == [1, 1, 1, 1]


def test_cameras_that_are_not_named_are_not_recorded(tmp_path: Path) -> None:
    with Recording(config(cameras=("gate",)), tmp_path) as recording:
        show(recording, range(3), 3, "gate")
        show(recording, range(3), 3, "yard")
    assert [record(clip).camera for clip in clips_in(tmp_path)] == ["gate"]


def test_without_h264_clips_are_mpeg4_and_say_so(tmp_path: Path) -> None:
    with Recording(config(codec="mpeg4"), tmp_path) as recording:
        show(recording, range(5, 10), 20)
    [clip] = clips_in(tmp_path)
    assert record(clip).codec == "mpeg4"
    assert [index_of(image) for _, image in decode(clip)] == list(range(15))
    with av.open(str(clip)) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"


def test_an_encoder_that_hangs_costs_counted_frames_and_no_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_mended = threading.Event()

    def hang(*_: object) -> list[int]:
        is_mended.wait(30)
        return []

    monkeypatch.setattr("pipeline.recording.clip.Clip.add", hang)
    recording = Recording(config(memory_mb=8), tmp_path)
    for index in range(200):  # of 0.9 MB each
        recording.saw(frame(index, hw=(480, 640)), *people(1))
    counts = recording.counts
    assert counts.waiting * 480 * 640 * 3 <= 4e6
    assert counts.dropped >= 190
    recording.close(within_s=0.2)  # it hangs still: left alone
    is_mended.set()
    recording.close(within_s=30)


def test_a_place_that_cannot_be_written_is_said_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pipeline.recording.recording._FIRST_RETRY_S", 0.05)
    (tmp_path / "gate").write_text("a file where the camera's folder should be")
    with Recording(config(), tmp_path) as recording:
        show(recording, range(10), 10)
        show(recording, range(10), 10, "yard")
        drain(recording)
        counts = recording.counts
        assert counts.error == "there is a file of that name, expected a folder"
        assert counts.dropped == 10
        assert counts.written >= 9  # the other camera's, one of which may be on its way
        (tmp_path / "gate").unlink()
        index = 10

        def is_well() -> bool:
            nonlocal index
            index += 1
            recording.saw(frame(index), *people(1))
            return recording.counts.error is None

        wait_for(is_well)
    assert {record(clip).camera for clip in clips_in(tmp_path)} == {"gate", "yard"}
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len([w for w in warnings if "cannot write clips" in w.message]) == 1


CHILD = """
import resource, sys, time
import numpy as np
from pathlib import Path
from pipeline.recording.config import RecordingConfig
from pipeline.recording.recording import Recording
from tests.pipeline.recording.scenes import frame, people
limit = int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
rng = np.random.default_rng(0)
recording = Recording(RecordingConfig(after_s=0.5, height=None, keep_days=None), Path(sys.argv[1]))
for index in range(100):
    shown = frame(index)
    shown.image[40:] = rng.integers(0, 255, (80, 160, 3))
    recording.saw(shown, *people(1))
while recording.counts.waiting:
    time.sleep(0.01)
print(recording.counts.error, flush=True)
if limit:
    recording.close(30)
else:
    time.sleep(60)
"""


def start(folder: Path, limit: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(folder), str(limit)]
    root = Path(__file__).parents[3]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)


def test_what_a_killed_process_was_recording_can_be_watched(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "None\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert clips_in(tmp_path) == []
    Recording(config(), tmp_path).close()
    [clip] = clips_in(tmp_path)
    assert not list(tmp_path.glob("*/*.part"))
    found = record(clip)
    assert (found.complete, found.tracks[0].track_id) == (False, 1)
    indices = [index_of(image) for _, image in decode(clip)]
    assert indices == list(range(len(indices)))
    assert len(indices) >= 80  # of 100, with a key frame every 2 s


def test_a_disk_without_room_ends_the_clip_and_not_the_run(tmp_path: Path) -> None:
    process = start(tmp_path, limit=150_000)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "the file would grow beyond what is allowed\n")
    clip = clips_in(tmp_path)[0]
    assert not list(tmp_path.glob("*/*.part"))
    assert len(decode(clip)) >= 10
    assert record(clip).complete is False


def test_a_disk_without_any_room_is_not_littered(tmp_path: Path) -> None:
    process = start(tmp_path, limit=1)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "the file would grow beyond what is allowed\n")
    assert list((tmp_path / "gate").iterdir()) == []


def test_two_processes_do_not_record_into_one_folder(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(OutputError, match="another process records there"):
        Recording(config(), tmp_path)
    process.kill()
    process.communicate(timeout=60)
