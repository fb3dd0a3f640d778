from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from gait.data.check import CheckReport, check
from gait.data.check_facts import clipped_share
from gait.data.check_rules import Severity
from gait.data.dataset import FolderDataset
from gait.data.pack import write_pack
from gait.errors import DataError


def errors(report: CheckReport) -> list[tuple[str, str]]:
    return [(e.kind, e.message) for e in report.findings if e.severity is Severity.ERROR]


def only_error(report: CheckReport, kind: str) -> str:
    ((found, message),) = errors(report)
    assert found == kind
    return message


def pad(silhouettes: np.ndarray, columns: int) -> np.ndarray:
    return np.pad(silhouettes, ((0, 0), (0, 0), (columns, columns)))


def test_a_sound_data_set_has_no_findings_in_folders_or_packed(
    casia_b: Path, tmp_path: Path
) -> None:
    write_pack(FolderDataset(casia_b), tmp_path / "d.gaitpack")
    for path in (casia_b, tmp_path / "d.gaitpack"):
        report = check(path)
        assert (report.num_subjects, report.num_sequences, report.findings) == (4, 8, ())
        assert report.num_frames == FolderDataset(casia_b).lengths.sum()


def test_every_file_that_holds_no_silhouettes_is_named_and_the_rest_is_still_read(
    casia_b: Path, to_pickle: Callable[..., Path]
) -> None:
    sound = check(casia_b).num_frames
    bad = [
        to_pickle(casia_b, "001/nm-02/000", np.zeros((0, 64, 64), np.uint8)),
        to_pickle(casia_b, "001/nm-03/000", np.zeros((4, 64, 64), np.float32)),
        to_pickle(casia_b, "001/nm-04/000", [np.zeros((64, 64), np.uint8)]),
    ]
    (casia_b / "001/nm-05/000").mkdir(parents=True)
    report = check(casia_b)
    assert [(e.kind, e.where) for e in report.findings] == [
        *(("file", str(file)) for file in bad),
        ("file", str(casia_b / "001/nm-05/000")),
    ]
    assert report.num_sequences == 12
    assert report.num_frames == sound


def test_both_widths_in_one_data_set_are_said_to_be_mixed(
    casia_b: Path, to_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    to_dataset(tmp_path / "casia-b", ["100"], 44, ("nm-02",))
    message = only_error(check(casia_b), "mixed")
    assert "2 sequences of 64x44 (cut) and 8 of 64x64" in message
    assert "100-nm-02-000" in message


@pytest.mark.parametrize("padded_to", [44, 64])
def test_silhouettes_cut_twice_are_recognised_after_padding_them_back(
    padded_to: int, silhouettes: Callable[..., np.ndarray], to_pickle: Callable[..., Path],
    tmp_path: Path,
) -> None:  # fmt: skip
    for seed in range(6):
        wide = np.stack([cv2.resize(each, (120, 64))[:, 28:92] for each in silhouettes(seed, 24)])
        twice = wide[:, :, 20:44]
        key = f"00{seed}/nm-0{seed % 2}/000"
        to_pickle(tmp_path / "d", key, pad(twice, (padded_to - 24) // 2))
    message = [message for kind, message in errors(check(tmp_path / "d")) if kind == "cut-twice"]
    assert len(message) == 1
    assert "5 of 6 sequences look cut twice" in message[0]
    assert "must not be cut again" in message[0]


@pytest.mark.parametrize("width", [44, 64])
@pytest.mark.parametrize("stretch", [64, 100])
def test_walkers_cut_once_do_not_look_cut_twice(
    width: int, stretch: int, silhouettes: Callable[..., np.ndarray]
) -> None:
    left = (stretch - width) // 2
    for seed in range(20):
        frames = [cv2.resize(each, (stretch, 64)) for each in silhouettes(seed, 30)]
        assert clipped_share(np.stack(frames)[:, :, left : left + width]) == 0.0


def test_one_wide_sequence_among_many_is_a_warning(
    to_dataset: Callable[..., Path], to_pickle: Callable[..., Path], tmp_path: Path
) -> None:
    root = to_dataset(tmp_path / "d", [f"{i:03}" for i in range(12)], 44)
    wide = np.zeros((6, 64, 44), np.uint8)
    wide[:, 10] = 255
    wide[0, 20, 20] = 255
    to_pickle(root, "000/nm-01/180", wide)
    (finding,) = check(root).findings
    assert (finding.kind, finding.severity) == ("cut-twice", Severity.WARNING)


def test_the_same_pixels_twice_are_named(casia_b: Path) -> None:
    shutil.copytree(casia_b / "001/nm-01/000", casia_b / "124/nm-01/018")
    message = only_error(check(casia_b), "duplicate")
    assert "001-nm-01-000, 124-nm-01-018" in message


def test_black_frames_and_short_sequences_are_warnings(
    casia_b: Path, silhouettes: Callable[..., np.ndarray], to_pickle: Callable[..., Path]
) -> None:
    frames = silhouettes(50, 4)
    frames[1:3] = 0
    to_pickle(casia_b, "001/nm-01/018", frames)
    report = check(casia_b)
    assert errors(report) == []
    assert [e.message for e in report.findings] == [
        "2 of 4 frames show nobody",
        "only 4 frames, a walk has 5 or more",
    ]


def test_subjects_on_one_side_only_of_disk_and_partition_are_named(
    casia_b: Path, tmp_path: Path
) -> None:
    partition = tmp_path / "p.json"
    content = {
        "TRAIN_SET": ["001", "002"], "TEST_SET": ["075", "124"],
        "PROBE_SET": ["075-nm-01-000", "075-nm-01-054", "001-nm-01-000"],  # who trains
    }  # fmt: skip
    partition.write_text(json.dumps(content))
    found = errors(check(casia_b, partition_path=partition))
    assert [kind for kind, _ in found] == ["stranger", "missing", "missing"]
    assert "in neither list of the partition and would be ignored: 074" in found[0][1]
    assert "1 of 2 subjects of TRAIN_SET are not there: 002" in found[1][1]
    assert "2 of 3 sequences of PROBE_SET are not among those of TEST_SET: 001-" in found[2][1]


def test_a_subject_to_train_with_needs_two_sequences(casia_b: Path, tmp_path: Path) -> None:
    for subject in ("074", "124"):
        shutil.rmtree(casia_b / subject / "nm-01/000")
    assert "2 subjects" in only_error(check(casia_b), "alone")
    partition = tmp_path / "p.json"
    partition.write_text(json.dumps({"TRAIN_SET": ["001", "074"], "TEST_SET": ["075", "124"]}))
    message = only_error(check(casia_b, partition_path=partition), "alone")
    assert message.startswith("1 subjects")
    assert "074" in message


def test_the_published_sizes_are_compared(casia_b: Path) -> None:
    messages = [message for _, message in errors(check(casia_b, dataset_name="casia-b"))]
    assert messages == [
        "CASIA-B has 74 training subjects, got 2; copy what is missing",
        "CASIA-B has 50 test subjects, got 2; copy what is missing",
        "CASIA-B has 5485 test sequences, got 4; copy what is missing",
    ]
    (message,) = [message for _, message in errors(check(casia_b, dataset_name="gait3d"))]
    assert message.startswith("Gait3D has 4000 subjects, got 4")


def test_too_many_are_not_told_to_copy_more(
    to_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    subjects = [f"{i:03}" for i in range(1, 126)]
    root = to_dataset(tmp_path / "d", subjects)
    found = dict(errors(check(root, dataset_name="casia-b")))
    assert "1 subjects are in neither list of the partition" in found["stranger"]
    assert "test sequences, got 100; copy what is missing" in found["size"]


def test_a_complete_casia_b_of_few_sequences_lacks_only_sequences(
    to_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    root = to_dataset(tmp_path / "d", [f"{i:03}" for i in range(1, 125)])
    assert "has 5485 test sequences, got 100" in only_error(
        check(root, dataset_name="casia-b", num_workers=2), "size"
    )


def test_a_damaged_pack_is_named(casia_b: Path, tmp_path: Path) -> None:
    path = tmp_path / "d.gaitpack"
    write_pack(FolderDataset(casia_b), path)
    with path.open("r+b") as file:
        file.seek(4096 + 500)
        file.write(b"\xff\x01")
    assert "001-nm-01-000 is damaged" in only_error(check(path), "file")


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected folders subject"):
        check(tmp_path)
    with pytest.raises(DataError, match="expected one of casia-b"):
        check(tmp_path, dataset_name="casiab")
