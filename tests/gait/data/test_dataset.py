from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gait.data.dataset import FolderDataset, GaitDataset, SequenceKey
from gait.data.datasets import DATASETS
from gait.data.pack import PackedDataset, write_pack
from gait.errors import DataError
from gait.silhouette import to_model_input


@pytest.fixture(params=["folder", "packed"])
def dataset(request: pytest.FixtureRequest, casia_b: Path, tmp_path: Path) -> GaitDataset:
    folders = FolderDataset(casia_b)
    if request.param == "folder":
        return folders
    write_pack(folders, tmp_path / "d.gaitpack")
    return PackedDataset(tmp_path / "d.gaitpack")


def test_sequences_come_sorted_with_their_lengths(dataset: GaitDataset) -> None:
    assert [str(key) for key in dataset.keys[:3]] == [
        "001-nm-01-000",
        "001-nm-01-090",
        "074-nm-01-000",
    ]
    assert len(dataset) == 8
    assert dataset.lengths.dtype == np.int64
    assert dataset.lengths.tolist() == [len(dataset[i]) for i in range(8)]


def test_selected_subjects_keep_the_order_they_were_asked_in(dataset: GaitDataset) -> None:
    chosen = dataset.select(["124", "nobody", "001"])
    assert [key.subject for key in chosen.keys] == ["124", "124", "001", "001"]
    np.testing.assert_array_equal(chosen[0], dataset[6])
    assert chosen.lengths.tolist() == dataset.lengths[[6, 7, 0, 1]].tolist()
    assert chosen.select(["001"]).keys[1] == SequenceKey("001", "nm-01", "090")


def test_sequences_are_read_only(dataset: GaitDataset) -> None:
    with pytest.raises(ValueError, match="read-only"):
        dataset[0][0, 0, 0] = 1


@pytest.mark.parametrize("width", [44, 64])
def test_silhouettes_of_both_widths_reach_the_model_cut_exactly_once(
    width: int, to_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    whole = FolderDataset(to_dataset(tmp_path / "whole", ["001"]))
    same = FolderDataset(to_dataset(tmp_path / "same", ["001"], width))
    np.testing.assert_array_equal(to_model_input(same[0]), to_model_input(whole[0]))


def test_data_in_use_picks_one_of_several_files(
    silhouettes: Callable[..., np.ndarray], to_pickle: Callable[..., Path], tmp_path: Path
) -> None:
    key = "000/U0_D0/01_0"
    for name in ("01_0-pose", "01_0-rgbs", "01_0-sils"):
        to_pickle(tmp_path, key, np.zeros(3), f"{name}.pkl")
    to_pickle(tmp_path, key, silhouettes(1), "01_0-aligned-sils.pkl")
    chosen = FolderDataset(tmp_path, DATASETS["ccpg"].data_in_use)
    np.testing.assert_array_equal(chosen[0], silhouettes(1))
    with pytest.raises(DataError, match="say with data_in_use"):
        FolderDataset(tmp_path)
    with pytest.raises(DataError, match=r"expected 16 \.pkl files"):
        FolderDataset(tmp_path, DATASETS["sustech1k"].data_in_use)
    with pytest.raises(DataError, match="expected one True"):
        FolderDataset(tmp_path, [True, True, False, False])


def test_the_seventh_of_sixteen_files_is_sustech1ks_silhouettes() -> None:
    in_use = DATASETS["sustech1k"].data_in_use
    assert (len(in_use), in_use.index(True), sum(in_use)) == (16, 6, 1)


def test_a_prepared_folder_has_one_file_and_nothing_to_choose(casia_b: Path) -> None:
    assert len(FolderDataset(casia_b, DATASETS["ccpg"].data_in_use)) == 8


def test_a_folder_without_a_pickle_is_named(casia_b: Path) -> None:
    (casia_b / "001" / "nm-01" / "018").mkdir()
    with pytest.raises(DataError, match=r"nm-01/018: expected the \.pkl of a sequence, got none"):
        FolderDataset(casia_b)


def test_hidden_folders_and_other_files_are_left_out(casia_b: Path) -> None:
    (casia_b / ".prepare" / "a" / "b").mkdir(parents=True)
    (casia_b / "report.json").write_text("{}")
    (casia_b / "001" / "nm-01" / "000" / ".000.pkl.1.part").write_text("")
    assert len(FolderDataset(casia_b)) == 8


@pytest.mark.parametrize("path", ["none", "."])
def test_what_is_no_data_set_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none: No such file|expected folders subject"):
        FolderDataset(tmp_path / path)
