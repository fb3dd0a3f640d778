from __future__ import annotations

import json
import os
import pickle
import resource
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gait.data.dataset import FolderDataset
from gait.data.pack import PackedDataset, write_pack
from gait.errors import DataError


@pytest.fixture
def packed(casia_b: Path, tmp_path: Path) -> Path:
    write_pack(FolderDataset(casia_b), tmp_path / "casia-b.gaitpack")
    return tmp_path / "casia-b.gaitpack"


def test_a_pack_gives_what_the_folders_give(casia_b: Path, packed: Path) -> None:
    folders, pack = FolderDataset(casia_b), PackedDataset(packed)
    assert pack.keys == folders.keys
    for index in np.random.default_rng(0).permutation(len(folders)):
        np.testing.assert_array_equal(pack[index], folders[index])


def test_reading_a_pack_copies_nothing(packed: Path) -> None:
    pack = PackedDataset(packed)
    assert not pack[3].flags.owndata
    assert np.shares_memory(pack[3], pack.select(["074"])[1])
    assert pack[3].flags.c_contiguous


def test_packing_the_same_data_twice_gives_the_same_bytes(casia_b: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_pack(FolderDataset(casia_b), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_another_process_maps_the_file_instead_of_receiving_it(packed: Path) -> None:
    chosen = PackedDataset(packed).select(["075"])
    sent = pickle.dumps(chosen)
    assert len(sent) < 2_000
    np.testing.assert_array_equal(pickle.loads(sent)[1], chosen[1])


def contents_or_refusal(path: Path) -> bytes | str:
    try:
        pack = PackedDataset(path)
        return b"".join(pack[index].tobytes() for index in range(len(pack)))
    except DataError as error:
        return str(error)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_one_damaged_byte_anywhere_that_matters_is_noticed(
    packed: Path, place: float, flip: int
) -> None:
    sound = bytearray(packed.read_bytes())
    damaged = bytearray(sound)
    damaged[int(place * len(sound))] ^= flip
    copy = packed.with_name("damaged.gaitpack")
    copy.write_bytes(damaged)
    outcome = contents_or_refusal(copy)
    if isinstance(outcome, str):
        assert str(copy) in outcome
    else:  # the unused bytes behind the head: nobody reads them
        assert outcome == bytes(sound[4096 : 4096 + len(outcome)])


@pytest.mark.parametrize("place", range(16, 32))
def test_a_head_that_asks_for_more_than_there_is_is_refused(packed: Path, place: int) -> None:
    damaged = bytearray(packed.read_bytes())
    damaged[place] ^= 255
    packed.write_bytes(damaged)
    with pytest.raises(DataError, match="damaged or truncated"):
        PackedDataset(packed)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_pack_is_refused(share: float, packed: Path) -> None:
    os.truncate(packed, int(packed.stat().st_size * share))
    with pytest.raises(DataError, match="truncated"):
        PackedDataset(packed)


def test_a_damaged_sequence_is_named_and_the_others_still_read(packed: Path) -> None:
    pack = PackedDataset(packed)
    with packed.open("r+b") as file:
        file.seek(4096 + int(pack.lengths[0]) * 64 * 64 + 100)
        file.write(b"\xff\x00\xff")
    fresh = PackedDataset(packed)
    assert len(fresh[0]) == pack.lengths[0]
    with pytest.raises(DataError, match="sequence 001-nm-01-090 is damaged"):
        fresh[1]


def test_another_version_is_refused(packed: Path) -> None:
    with packed.open("r+b") as file:
        file.seek(8)
        file.write(b"\x63")
    with pytest.raises(DataError, match="version 99"):
        PackedDataset(packed)


def test_another_file_is_refused(casia_b: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a pack"):
        PackedDataset(next(casia_b.rglob("*.pkl")))
    with pytest.raises(DataError, match="cannot read the pack"):
        PackedDataset(tmp_path / "none.gaitpack")


def test_both_widths_in_one_data_set_are_refused_and_nothing_is_left(
    to_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    to_dataset(tmp_path / "mixed", ["001"], 64)
    to_dataset(tmp_path / "mixed", ["002"], 44)
    with pytest.raises(DataError, match=r"002-nm-01-000: expected 64x64 as .*got 64x44"):
        write_pack(FolderDataset(tmp_path / "mixed"), tmp_path / "mixed.gaitpack")
    assert [each.name for each in tmp_path.iterdir()] == ["mixed"]


def test_a_damaged_pickle_stops_packing_and_the_old_pack_stays(casia_b: Path, packed: Path) -> None:
    before = packed.read_bytes()
    broken = next(casia_b.rglob("*.pkl"))
    broken.write_bytes(b"")
    with pytest.raises(DataError, match=str(broken)):
        write_pack(FolderDataset(casia_b), packed)
    assert packed.read_bytes() == before


def test_a_full_disk_leaves_the_old_pack_and_no_half_one(casia_b: Path, packed: Path) -> None:
    before, limit = packed.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limit[1]))
    try:
        with pytest.raises(DataError, match="cannot write it"):
            write_pack(FolderDataset(casia_b), packed)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert packed.read_bytes() == before
    assert not list(packed.parent.glob(".*.part"))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"width": "44"}, "at width"),
        ({"width": True}, "at width"),
        ({"keys": [["001", "nm-01", "000"]]}, "as many of each"),
        ({"keys": [[["001"], "nm-01", "000"]] * 8}, "at keys.0.0"),
        ({"lengths": [2**70] * 8}, "at lengths.0"),
        ({"lengths": [0] * 8}, "at lengths.0"),
        ({"lengths": [5.5] * 8}, "at lengths.0"),
        ({"crc32": ["x"] * 8}, "at crc32.0"),
        ({"lengths": [1] * 8}, "expected the index behind"),
        (None, "at its top"),
    ],
)
def test_an_index_that_is_whole_but_none_of_ours_is_refused_in_words(
    changed: dict[str, object] | None, says: str, packed: Path
) -> None:
    sound = packed.read_bytes()
    head = struct.Struct("<8sIIQQI")
    magic, version, _, offset, length, _ = head.unpack(sound[: head.size])
    content = json.loads(sound[offset : offset + length])
    data = b"[" * 100_000 if changed is None else json.dumps(content | changed).encode()
    begin = head.pack(magic, version, 0, offset, len(data), zlib.crc32(data))
    packed.write_bytes(begin + sound[head.size : offset] + data)
    with pytest.raises(DataError, match=says) as caught:
        PackedDataset(packed)
    assert str(packed) in str(caught.value)


def test_names_in_any_script_are_packed_and_read_again(
    to_pickle: Callable[..., Path], silhouettes: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    to_pickle(tmp_path / "data", "Zoë/歩行 1/0°", silhouettes(1))
    write_pack(FolderDataset(tmp_path / "data"), tmp_path / "a.gaitpack")
    assert str(PackedDataset(tmp_path / "a.gaitpack").keys[0]) == "Zoë-歩行 1-0°"


def test_a_name_that_is_no_text_is_refused_before_anything_is_read(
    to_pickle: Callable[..., Path], silhouettes: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    to_pickle(tmp_path, os.fsdecode(b"001/nm-01/09\xff"), silhouettes(1))
    with pytest.raises(DataError, match=r"nm-01: expected names in UTF-8, got '09\\udcff'"):
        FolderDataset(tmp_path)
