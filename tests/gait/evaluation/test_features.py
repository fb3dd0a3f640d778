from __future__ import annotations

import contextlib
import os
import resource
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gait.data.dataset import FolderDataset, SequenceKey
from gait.data.pickles import write_silhouettes
from gait.errors import DataError
from gait.evaluation import features
from gait.evaluation.features import embed_dataset, read_features

NUM_SEQUENCES = 6


class Means:
    """Embeds a sequence as its mean, and may be killed after some; counts its work."""

    def __init__(self, model_hash: str = "a", killed_after: int = 10**9) -> None:
        self.model_hash = model_hash
        self.killed_after = killed_after
        self.num_embedded = 0

    def embed(self, sequences: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        if self.num_embedded >= self.killed_after:
            raise KeyboardInterrupt
        self.num_embedded += len(sequences)
        return [np.full((4, 2), each.mean(), np.float32) for each in sequences]


def write(root: Path, index: int, value: int) -> None:
    folder = root / f"{index:03d}" / "nm-01" / "000"
    folder.mkdir(parents=True, exist_ok=True)
    write_silhouettes(folder / "000.pkl", np.full((3, 64, 44), value, np.uint8))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for index in range(NUM_SEQUENCES):
        write(tmp_path / "data", index, 10 * index + 10)
    return tmp_path / "data"


def means(found: features.Features) -> list[float]:
    result: list[float] = found.embeddings[:, 0, 0].tolist()
    return result


def test_every_sequence_is_embedded_in_order_and_read_again(root: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    found = embed_dataset(
        FolderDataset(root), root, Means(), tmp_path / "f", lambda *each: told.append(each)
    )
    assert means(found) == [10, 20, 30, 40, 50, 60]
    assert told == [(done, NUM_SEQUENCES) for done in range(NUM_SEQUENCES + 1)]
    again = read_features(tmp_path / "f")
    assert isinstance(again.embeddings, np.memmap)
    assert means(again) == means(found)
    assert again.keys == found.keys == FolderDataset(root).keys
    assert again.model_hash == "a"


def test_an_interrupted_run_goes_on_where_its_last_flush_was(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "_SAVED_EVERY", 2)
    with pytest.raises(KeyboardInterrupt):
        embed_dataset(FolderDataset(root), root, Means(killed_after=6), tmp_path / "f")
    with pytest.raises(DataError, match="expected all 6 sequences, got 4"):
        read_features(tmp_path / "f")
    second = Means()
    found = embed_dataset(FolderDataset(root), root, second, tmp_path / "f")
    assert second.num_embedded == 2
    assert means(found) == [10, 20, 30, 40, 50, 60]


def test_a_finished_folder_needs_no_more_work(root: Path, tmp_path: Path) -> None:
    embed_dataset(FolderDataset(root), root, Means(), tmp_path / "f")
    again = Means()
    embed_dataset(FolderDataset(root), root, again, tmp_path / "f")
    assert again.num_embedded == 0


@pytest.mark.parametrize("change", ["weights", "data", "subjects"])
def test_what_was_made_otherwise_is_made_again(root: Path, tmp_path: Path, change: str) -> None:
    embed_dataset(FolderDataset(root), root, Means(), tmp_path / "f")
    (tmp_path / "f" / "notes.txt").write_text("mine")
    if change == "data":
        write(root, 0, 99)
    subjects = ["000", "001"] if change == "subjects" else [f"{i:03d}" for i in range(6)]
    dataset = FolderDataset(root).select(subjects)
    second = Means("b" if change == "weights" else "a")
    found = embed_dataset(dataset, root, second, tmp_path / "f")
    assert second.num_embedded >= len(dataset)
    assert means(found)[0] == (99 if change == "data" else 10)
    assert (tmp_path / "f" / "notes.txt").read_text() == "mine"


def test_nothing_to_embed_is_an_error(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="check the partition"):
        embed_dataset(FolderDataset(root).select([]), root, Means(), tmp_path / "f")


def test_a_folder_that_cannot_be_written_is_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("a file")
    with pytest.raises(DataError, match="choose a folder"):
        embed_dataset(FolderDataset(root), root, Means(), tmp_path / "f")


def arrays(**changed: Any) -> dict[str, Any]:
    return {
        "embeddings": np.zeros((2, 4, 2), np.float16),
        "subjects": ["1", "2"],
        "conditions": ["nm", "nm"],
        "views": ["0", "9"],
    } | changed


def test_an_npz_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", **arrays())
    found = read_features(tmp_path / "f.npz")
    assert found.keys == [SequenceKey("1", "nm", "0"), SequenceKey("2", "nm", "9")]
    assert found.embeddings.shape == (2, 4, 2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"views": ["0"]}, r"got \(2, 4, 2\) and \(2,\), \(2,\), \(1,\)"),
        ({"subjects": [["1"], ["2"]]}, r"and \(2, 1\), \(2,\), \(2,\)"),
        ({"embeddings": np.zeros((2, 8))}, "expected embeddings"),
        ({"embeddings": np.full((2, 4, 2), "x")}, "in floating point"),
        ({"embeddings": np.zeros((2, 4, 2), np.complex64)}, "got complex64"),
        ({"subjects": np.array([{}, {}])}, "damaged"),
    ],
)
def test_an_npz_that_does_not_fit_together_says_why(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "f.npz", **arrays(**changed))
    with pytest.raises(DataError, match=message):
        read_features(tmp_path / "f.npz")


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", embeddings=np.zeros((2, 4, 2)), names=["a", "b"])
    with pytest.raises(DataError, match="without subjects, conditions, views"):
        read_features(tmp_path / "e.npz")
    (tmp_path / "t.npz").write_bytes(b"PK\x03\x04 truncated")
    with pytest.raises(DataError, match="damaged"):
        read_features(tmp_path / "t.npz")
    with pytest.raises(DataError, match="cannot read"):
        read_features(tmp_path / "none.npz")
    with pytest.raises(DataError, match="cannot read"):
        read_features(tmp_path)


def test_an_npz_damaged_anywhere_is_read_right_or_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "f.npz", **arrays())
    sound = (tmp_path / "f.npz").read_bytes()
    for place in range(len(sound)):
        damaged = bytearray(sound)
        damaged[place] ^= 1 + place % 255
        (tmp_path / "g.npz").write_bytes(damaged)
        with contextlib.suppress(DataError):
            assert read_features(tmp_path / "g.npz").keys == read_features(tmp_path / "f.npz").keys


@pytest.mark.parametrize("name", ["embeddings.npy", "done.npy", "features.json"])
@pytest.mark.parametrize("size", [0, 50, 160])
def test_a_folder_cut_off_is_made_anew_and_no_zeros_are_taken_for_embeddings(
    name: str, size: int, root: Path, tmp_path: Path
) -> None:
    embed_dataset(FolderDataset(root), root, Means(), tmp_path / "f")
    file = tmp_path / "f" / name
    os.truncate(file, min(size, file.stat().st_size - 1))
    with pytest.raises(DataError, match="damaged"):
        read_features(tmp_path / "f")
    found = embed_dataset(FolderDataset(root), root, Means(), tmp_path / "f")
    assert means(found) == [10, 20, 30, 40, 50, 60]


def test_a_folder_whose_parts_do_not_fit_together_is_refused(root: Path, tmp_path: Path) -> None:
    embed_dataset(FolderDataset(root), root, Means(), tmp_path / "f")
    np.save(tmp_path / "f" / "embeddings.npy", np.zeros((2, 4, 2), np.float32))
    with pytest.raises(DataError, match="one for each of 6 sequences, got float32 of shape"):
        read_features(tmp_path / "f")
    found = embed_dataset(FolderDataset(root), root, Means(), tmp_path / "f")
    assert means(found) == [10, 20, 30, 40, 50, 60]


def test_a_data_set_that_moved_away_is_an_error_that_names_the_file(
    root: Path, tmp_path: Path
) -> None:
    dataset = FolderDataset(root)
    shutil.move(root, tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"000\.pkl: cannot read it"):
        embed_dataset(dataset, root, Means(), tmp_path / "f")


class Large(Means):
    """Embeds each sequence as more than a page of memory."""

    def embed(self, sequences: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        return [np.full((64, 64), each.mean(), np.float32) for each in sequences]


def test_room_is_taken_before_the_first_embedding_so_that_a_full_disk_is_no_crash(
    root: Path, tmp_path: Path
) -> None:
    """Writing through a map into a hole of a file ends the process when the disk is full."""
    holes: list[int] = []

    def look_for_a_hole(done: int, total: int) -> None:
        with (tmp_path / "f" / "embeddings.npy").open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            holes.append(os.lseek(file.fileno(), 0, os.SEEK_HOLE) - size)

    embed_dataset(FolderDataset(root), root, Large(), tmp_path / "f", look_for_a_hole)
    assert holes == [0] * (NUM_SEQUENCES + 1)


def test_a_full_disk_is_an_error_in_words(root: Path, tmp_path: Path) -> None:
    """Files may not grow beyond 300 bytes: the system refuses the write as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
    try:
        with pytest.raises(DataError, match="writable and has room"):
            embed_dataset(FolderDataset(root), root, Means(), tmp_path / "f")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
