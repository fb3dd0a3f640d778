from __future__ import annotations

import os
import pickle
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gait.errors import DataError
from gait.sequences import read_sequences
from gait.silhouette import Reason, normalise


@pytest.fixture
def walk() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (3, 64, 64), np.uint8)


def write_pngs(folder: Path, frames: list[NDArray[np.uint8]]) -> Path:
    folder.mkdir()
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{index:03}.png"), frame)
    return folder


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_sequences(path)
    assert "expected" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("width", [44, 64])
def test_a_folder_of_silhouettes_is_read_as_it_is(
    width: int, walk: NDArray[np.uint8], tmp_path: Path
) -> None:
    frames = walk[:, :, :width]
    folder = write_pngs(tmp_path / "walk", list(frames))
    (sequence,) = read_sequences(folder)
    assert sequence.name == str(folder)
    np.testing.assert_array_equal(sequence.silhouettes, frames)


def test_frames_are_taken_in_the_order_of_their_names(
    walk: NDArray[np.uint8], tmp_path: Path
) -> None:
    folder = write_pngs(tmp_path / "walk", list(walk))
    (folder / "000.png").rename(folder / "9.png")
    (folder / "002.png").rename(folder / "10.png")
    cv2.imwrite(str(folder / "000-gei.png"), walk[0])
    (sequence,) = read_sequences(folder)
    np.testing.assert_array_equal(sequence.silhouettes, walk[[1, 2, 0]])


def test_a_folder_of_masks_is_normalised_and_empty_frames_are_counted(
    golden_rules: ModuleType, tmp_path: Path
) -> None:
    masks = [golden_rules.raw_silhouette(name) for name in ("walker", "empty", "centre", "px39")]
    (sequence,) = read_sequences(write_pngs(tmp_path / "walk", masks))
    np.testing.assert_array_equal(
        sequence.silhouettes, np.stack([normalise(masks[0]), normalise(masks[2])])
    )
    assert sequence.skipped == ((Reason.NO_PIXELS, 2),)


def test_colour_pngs_are_read_as_grey(golden_rules: ModuleType, tmp_path: Path) -> None:
    mask = golden_rules.raw_silhouette("walker")
    (sequence,) = read_sequences(write_pngs(tmp_path / "walk", [np.dstack([mask] * 3)]))
    np.testing.assert_array_equal(sequence.silhouettes[0], normalise(mask))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_opengait_pickle_is_read_in_every_protocol(
    protocol: int, order: str, walk: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = tmp_path / "000.pkl"
    path.write_bytes(pickle.dumps(np.asarray(walk, order=order), protocol))  # type: ignore[call-overload]
    (sequence,) = read_sequences(path)
    np.testing.assert_array_equal(sequence.silhouettes, walk)


def test_a_pickle_written_by_an_older_numpy_is_read(
    walk: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = tmp_path / "000.pkl"
    text = pickle.dumps(walk, 2)
    path.write_bytes(text.replace(b"numpy._core.", b"numpy.core."))
    np.testing.assert_array_equal(read_sequences(path)[0].silhouettes, walk)


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_code_is_refused_and_nothing_runs(
    protocol: int, walk: NDArray[np.uint8], tmp_path: Path
) -> None:
    path, target = tmp_path / "000.pkl", tmp_path / "owned"
    path.write_bytes(pickle.dumps([walk, Malicious(target)], protocol))
    message = refused(path)
    assert "mkdir" in message
    assert str(path) in message
    assert not target.exists()


@pytest.mark.parametrize(
    "content",
    [
        {"a": 1},
        [1, 2],
        None,
        np.zeros((2, 64, 44)),
        np.array([object()]),
        np.zeros((2, 64, 44), [("x", "u1")]),
        np.dtype,
        np.uint8,
    ],
)
def test_a_pickle_of_anything_but_uint8_pixels_is_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / "000.pkl"
    path.write_bytes(pickle.dumps(content))
    assert str(path) in refused(path)


@pytest.mark.parametrize("suffix", [".pkl", ".npy", ".npz"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused(
    suffix: str, share: float, walk: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = tmp_path / f"walk{suffix}"
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps(walk))
    elif suffix == ".npy":
        np.save(path, walk)
    else:
        np.savez(path, walk)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert str(path) in refused(path)


def test_each_array_of_an_npz_is_a_sequence(walk: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "walks.npz"
    np.savez(path, b=walk, a=walk[:1, :, 10:54])
    sequences = read_sequences(path)
    assert [each.name for each in sequences] == [f"{path}:b", f"{path}:a"]
    np.testing.assert_array_equal(sequences[1].silhouettes, walk[:1, :, 10:54])


def test_an_npy_is_one_sequence(walk: NDArray[np.uint8], tmp_path: Path) -> None:
    np.save(tmp_path / "walk.npy", walk)
    (sequence,) = read_sequences(tmp_path / "walk.npy")
    np.testing.assert_array_equal(sequence.silhouettes, walk)


def test_pickles_inside_an_npy_are_not_opened(tmp_path: Path) -> None:
    target = tmp_path / "owned"
    np.save(tmp_path / "walk.npy", np.array([Malicious(target)], dtype=object))
    refused(tmp_path / "walk.npy")
    assert not target.exists()


@pytest.mark.parametrize(
    "array",
    [
        np.full((2, 64, 44), 0.5),
        np.full((2, 44, 64), 255, np.uint8),
        np.full((64, 44), 255, np.uint8),
        np.full((2, 128, 128), 255, np.uint8),
        np.full((0, 64, 44), 255, np.uint8),
        np.ones((2, 64, 44), np.uint8),
        np.zeros((2, 64, 44), np.uint8),
    ],
)
def test_arrays_that_are_no_grey_silhouettes_are_refused(
    array: NDArray[np.uint8], tmp_path: Path
) -> None:
    np.save(tmp_path / "walk.npy", array)
    refused(tmp_path / "walk.npy")


def test_masks_of_zeros_and_ones_are_told_to_multiply(tmp_path: Path) -> None:
    masks = [np.ones((200, 100), np.uint8)]
    assert "multiply them by 255" in refused(write_pngs(tmp_path / "walk", masks))


@pytest.mark.parametrize("name", ["none", "none.pkl", "none.npy", "none.npz"])
def test_an_input_that_is_not_there_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing there|No such file"):
        read_sequences(tmp_path / name)


def test_a_folder_without_frames_or_with_a_broken_one_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "walk"
    folder.mkdir()
    assert "none" in refused(folder)
    (folder / "000.png").write_text("not a picture")
    assert "000.png" in refused(folder)
    (folder / "000.png").write_bytes(b"")
    assert "000.png" in refused(folder)
    (folder / "000.png").unlink()
    (folder / "000.png").mkdir()
    assert "000.png" in refused(folder)


def test_silhouettes_of_both_widths_in_one_folder_are_refused(
    walk: NDArray[np.uint8], tmp_path: Path
) -> None:
    assert "both" in refused(write_pngs(tmp_path / "walk", [walk[0], walk[1, :, 10:54]]))


def test_a_video_is_not_taken_for_silhouettes(tmp_path: Path) -> None:
    path = tmp_path / "walk.mp4"
    path.write_bytes(b"...")
    assert "of another kind" in refused(path)
