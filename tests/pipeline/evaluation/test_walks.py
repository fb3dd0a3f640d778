from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from gait.evaluation.stretches import StretchConfig
from pipeline.errors import SourceError
from pipeline.evaluation import walks
from pipeline.evaluation.walks import Followed, clothes, follow
from pipeline.sources.inputs import open_source, sample_path
from pipeline.sources.source import ReadConfig
from trackers.boxes import Mask

FRAMES = 8


def person(colour: tuple[int, int, int], noise: int = 0) -> np.ndarray:  # type: ignore[type-arg]
    image = np.full((100, 60, 3), colour, dtype=np.uint8)
    spread = np.random.default_rng(noise).integers(0, 20, image.shape, dtype=np.uint8)
    return image + spread * np.uint8(noise > 0)


BODY = Mask(np.ones((80, 20), dtype=np.bool_), 20, 10)


@pytest.fixture
def two_people() -> Followed:
    """Track 7: somebody in red, from frame 40 on somebody in blue. Every third frame unused."""
    count = 80
    colours = [person((0, 0, 180) if n < 40 else (180, 0, 0), noise=n + 1) for n in range(count)]
    box = np.arange(count)[:, None] + np.array([0.0, 10.0, 20.0, 90.0])
    return Followed(
        sha256="0",
        track_ids=np.full(count, 7),
        times_s=np.arange(count) / 10,
        xyxy=box.astype(np.float32),
        colours=np.stack([clothes(image, BODY) for image in colours]),
        silhouettes=np.zeros((count, 64, 44), dtype=np.uint8),
        is_used=np.arange(count) % 3 > 0,
    )


def test_a_track_that_goes_over_to_other_clothes_becomes_two_walks(two_people: Followed) -> None:
    first, second = two_people.walks(StretchConfig())
    assert (first.name, second.name) == ("7.0", "7.1")
    assert first.track == second.track == "7"
    assert first.seen_s == (0.0, pytest.approx(3.9 - 0.5))
    assert second.seen_s == (pytest.approx(4.0 + 0.5), 7.9)


def test_a_walk_holds_the_used_silhouettes_and_where_the_feet_were(two_people: Followed) -> None:
    (walk,) = two_people.walks(StretchConfig(most_change=2))
    frames = [n for n in range(80) if n % 3]
    assert walk.times_s == pytest.approx([n / 10 for n in frames])
    assert walk.feet_xy.tolist() == [[n + 10, n + 90] for n in frames]


def test_clothes_do_not_depend_on_what_is_behind_the_person() -> None:
    on_grass, on_road = person((0, 120, 0)), person((120, 120, 120))
    for image in (on_grass, on_road):
        image[10:90, 20:40] = (30, 30, 160)
    assert np.array_equal(clothes(on_grass, BODY), clothes(on_road, BODY))
    assert np.linalg.norm(clothes(on_grass, BODY)) == pytest.approx(1)


def test_trousers_of_another_colour_are_other_clothes() -> None:
    plain, blue_legs = person((30, 30, 30)), person((30, 30, 30))
    blue_legs[50:] = (160, 40, 30)
    likeness = clothes(plain, BODY) @ clothes(blue_legs, BODY)
    assert 0.3 < likeness < 0.9  # half of the strips agree, and black is near dark blue


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "street.avi"
    with open_source(sample_path(), "sample", ReadConfig(max_frames=FRAMES)) as source:
        images = [frame.image for frame in source]
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (width, height))
    for image in images:
        writer.write(image)
    writer.release()
    return path


def test_a_recording_is_followed_once_and_read_back_after(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = follow(clip, tmp_path)
    assert seen.is_used.sum() >= 10  # three people are in view from the start
    assert seen.silhouettes[seen.is_used].any(axis=(1, 2)).all()
    assert not seen.silhouettes[~seen.is_used].any()
    (kept,) = tmp_path.glob("street-*.npz")

    def never(*_: object) -> None:
        raise AssertionError("perception ran again")

    with monkeypatch.context() as patch:
        patch.setattr(walks._Perception, "followed", never)
        again = follow(clip, tmp_path)
    for name in ("track_ids", "times_s", "xyxy", "colours", "silhouettes", "is_used"):
        assert np.array_equal(getattr(again, name), getattr(seen, name)), name

    kept.write_bytes(kept.read_bytes()[:1000])
    assert np.array_equal(follow(clip, tmp_path).silhouettes, seen.silhouettes)


def test_a_missing_recording_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"gone\.avi: expected a video file"):
        follow(tmp_path / "gone.avi", tmp_path)
