from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.sources.images import ImageFolderSource
from pipeline.sources.source import ReadConfig


def save(path: Path, level: int, hw: tuple[int, int] = (24, 32), channels: int = 3) -> None:
    shape = hw if channels == 1 else (*hw, channels)
    assert cv2.imwrite(str(path), np.full(shape, level, np.uint8))


def levels(source: ImageFolderSource) -> list[int]:
    return [round(float(frame.image.mean())) for frame in source]


def source(folder: Path, **read: object) -> ImageFolderSource:
    return ImageFolderSource(folder, "cam", ReadConfig(**read))  # type: ignore[arg-type]


def test_images_come_in_the_order_a_person_counts(tmp_path: Path) -> None:
    for number in (1, 2, 9, 10, 11, 100):
        save(tmp_path / f"frame{number}.png", number)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_bytes(b"")
    with source(tmp_path) as opened:
        assert levels(opened) == [1, 2, 9, 10, 11, 100]
        assert opened.problem is None


def test_time_follows_the_frame_rate_given(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / f"{number}.png", number)
    with source(tmp_path, image_fps=10.0, start_s=0.1, stride=2) as opened:
        assert [(f.index, f.time_s) for f in opened] == [(1, 0.1), (3, 0.3), (5, 0.5)]
        assert (opened.info.fps, opened.info.num_frames, opened.info.duration_s) == (10.0, 6, 0.6)
        assert opened.num_decoded == 3


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "PNG"])
def test_every_kind_of_image_equals_what_opencv_reads(tmp_path: Path, suffix: str) -> None:
    smooth = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, (41, 63, 3), dtype=np.uint8), (0, 0), 6
    )
    path = tmp_path / f"a.{suffix}"
    assert cv2.imwrite(str(path), smooth)
    expected = cv2.imread(str(path))
    assert expected is not None
    with source(tmp_path) as opened:
        image = next(iter(opened)).image
    # Decoders of lossy files may round the chroma differently.
    assert np.abs(image.astype(int) - expected).max() <= (4 if suffix[0] in "jw" else 0)


def test_gray_and_transparent_and_deep_images_become_bgr(tmp_path: Path) -> None:
    save(tmp_path / "1.png", 50, channels=1)
    save(tmp_path / "2.png", 60, channels=4)
    assert cv2.imwrite(str(tmp_path / "3.png"), np.full((24, 32, 3), 70 * 257, np.uint16))
    with source(tmp_path) as opened:
        frames = list(opened)
    assert [f.image.shape for f in frames] == [(24, 32, 3)] * 3
    assert [round(float(f.image.mean())) for f in frames] == [50, 60, 70]
    assert {f.epoch for f in frames} == {0}


def test_an_unreadable_image_is_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"")
    save(tmp_path / "1.png", 10)
    (tmp_path / "2.jpg").write_text("not an image")
    save(tmp_path / "3.png", 30)
    with source(tmp_path) as opened:
        assert [(f.index, f.time_s) for f in opened] == [(1, 0.04), (3, 0.12)]
        assert opened.problem == "images that could not be read: 2"
        assert opened.num_decoded == 2


def test_a_change_of_size_starts_a_new_epoch(tmp_path: Path) -> None:
    for number, hw in enumerate([(24, 32), (24, 32), (32, 24), (24, 32)]):
        save(tmp_path / f"{number}.png", 9, hw)
    with source(tmp_path) as opened:
        assert [f.epoch for f in opened] == [0, 0, 1, 2]


def test_a_photo_taken_sideways_stands_upright(tmp_path: Path) -> None:
    image: NDArray[np.uint8] = np.zeros((40, 60, 3), np.uint8)
    image[:20, :30] = 255
    plain = bytes(cv2.imencode(".jpg", image)[1])
    # EXIF with the one tag "orientation" (0x0112) = 6: turn a quarter clockwise.
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    marked = plain[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + plain[2:]
    (tmp_path / "a.jpg").write_bytes(marked)
    with source(tmp_path) as opened:
        upright = next(iter(opened)).image
    expected = np.rot90(image, -1)
    assert upright.shape == expected.shape
    assert np.abs(upright.astype(int) - expected).mean() < 3


@pytest.mark.parametrize("name", ["img%03d.png", "a b ü.png", "x:1.png", "[1].png"])
def test_any_image_name_is_read(tmp_path: Path, name: str) -> None:
    save(tmp_path / name, 77)
    with source(tmp_path) as opened:
        assert levels(opened) == [77]


def test_a_folder_without_a_readable_image_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no images in it"):
        source(tmp_path)
    (tmp_path / "a.png").write_text("not an image")
    with pytest.raises(SourceError, match="none of its 1 images can be read"):
        source(tmp_path)
    with pytest.raises(SourceError, match="cannot be listed"):
        source(tmp_path / "gone")
