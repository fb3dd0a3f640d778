"""Several cameras at once; files played at their own pace stand for them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.sources.camera import CameraConfig
from pipeline.sources.camera_state import CameraState, Change
from pipeline.sources.cameras import BatchingConfig, Cameras
from pipeline.values import Batch
from tests.pipeline.conftest import write_video


class Nobody:
    def changed(self, change: Change) -> None:
        pass


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", num_frames=500)


@pytest.fixture
def cameras() -> Iterator[Cameras]:
    with Cameras(Nobody(), BatchingConfig(window_s=0.02, batch_frames=4)) as cameras:
        yield cameras


def config(clip: Path) -> CameraConfig:
    return CameraConfig(url=str(clip), max_age_s=30.0)  # or a busy machine drops frames


def some(cameras: Cameras, num_batches: int) -> list[Batch]:
    return list(islice(cameras.batches(), num_batches))


def test_frames_of_all_cameras_come_together_and_each_cameras_in_order(
    cameras: Cameras, clip: Path
) -> None:
    for name in "abc":
        cameras.add(name, config(clip))
    batches = some(cameras, 30)
    seen = Counter(frame.stream for batch in batches for frame in batch.frames)
    assert set(seen) == {"a", "b", "c"}
    for batch in batches:
        assert len({frame.stream for frame in batch.frames}) == len(batch.frames)
    for name in "abc":
        own = [f for batch in batches for f in batch.frames if f.stream == name]
        assert all(x.index < y.index and x.time_s < y.time_s for x, y in pairwise(own))


def test_a_batch_is_never_larger_than_asked_and_nobody_is_left_out(
    cameras: Cameras, clip: Path
) -> None:
    names = "abcdefg"
    for name in names:
        cameras.add(name, config(clip))
    batches = some(cameras, 60)
    assert max(len(batch.frames) for batch in batches) <= 4
    assert {frame.stream for batch in batches for frame in batch.frames} == set(names)


def test_a_camera_that_is_not_there_takes_no_frame_from_one_that_is(
    cameras: Cameras, clip: Path
) -> None:
    for _ in range(5):  # a busy machine makes this thread miss a frame itself, but not each time
        cameras.add("dead", CameraConfig(url="rtsp://127.0.0.1:1/s"))
        cameras.add("well", config(clip))
        indices = [frame.index for batch in some(cameras, 40) for frame in batch.frames]
        if indices == list(range(len(indices))):
            return
        cameras.remove("dead")
        cameras.remove("well")
    pytest.fail(f"frames were lost: {indices}")


def test_a_camera_that_is_removed_ends_once_and_the_others_go_on(
    cameras: Cameras, clip: Path
) -> None:
    cameras.add("stays", config(clip))
    cameras.add("goes", config(clip))
    batches = cameras.batches()
    for batch in batches:
        if any(frame.stream == "goes" for frame in batch.frames):
            break
    cameras.remove("goes")
    after = list(islice(batches, 20))
    assert [name for batch in after for name in batch.ended] == ["goes"]
    assert {frame.stream for batch in after[1:] for frame in batch.frames} == {"stays"}


def test_a_changed_camera_ends_before_its_new_frames_come(cameras: Cameras, clip: Path) -> None:
    cameras.add("a", config(clip))
    batches = cameras.batches()
    next(batches)
    cameras.change("a", CameraConfig(url=str(clip), max_age_s=0.3))
    after = list(islice(batches, 10))
    place = next(i for i, batch in enumerate(after) if batch.ended)
    assert after[place].frames == ()
    assert any(batch.frames for batch in after[place:])


def test_frames_that_became_old_while_nobody_looked_are_dropped(
    cameras: Cameras, clip: Path
) -> None:
    cameras.add("a", CameraConfig(url=str(clip), max_age_s=0.1))
    for batch in islice(cameras.batches(), 8):
        assert len(batch.frames) == 1
        time.sleep(0.3)
    counts = cameras.by_name["a"].counts
    assert counts.dropped > 30
    assert counts.decoded - counts.dropped - counts.taken <= 1


def test_a_paused_camera_gives_nothing_until_it_is_resumed(cameras: Cameras, clip: Path) -> None:
    cameras.add("a", config(clip))
    cameras.add("b", config(clip))
    batches = cameras.batches()
    next(batches)
    cameras.pause("a")
    while cameras.by_name["a"].state is not CameraState.PAUSED:
        next(batches)
    next(batches)  # what had been taken before
    assert {f.stream for batch in islice(batches, 10) for f in batch.frames} == {"b"}
    cameras.resume("a")
    assert any(f.stream == "a" for batch in islice(batches, 60) for f in batch.frames)


def test_names_are_kept_apart(cameras: Cameras, clip: Path) -> None:
    cameras.add("a", config(clip))
    with pytest.raises(ConfigError, match="one of that name already"):
        cameras.add("a", config(clip))
    with pytest.raises(ConfigError, match="expected one of a"):
        cameras.remove("b")


def test_closing_ends_the_batches_and_every_thread(clip: Path) -> None:
    cameras = Cameras(Nobody())
    cameras.add("a", config(clip))
    batches = cameras.batches()
    next(batches)
    camera = cameras.by_name["a"]
    cameras.close()
    assert list(batches) == []
    assert camera.state is CameraState.CLOSED
