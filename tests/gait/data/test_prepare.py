from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from gait.data.dataset import FolderDataset
from gait.data.layouts import find_raw_sequences
from gait.data.pickles import read_silhouettes
from gait.data.prepare import plan_preparation, prepare
from gait.data.prepare_report import PreparationReport
from gait.data.pretreatment import FrameFault, pretreat
from gait.errors import DataError
from gait.silhouette import Reason, normalise

ROOT = Path(__file__).parents[3]


def prepared(raw: Path, out: Path, dataset: str = "casia-b", workers: int = 1) -> PreparationReport:
    plan = plan_preparation(raw, out, dataset)
    return PreparationReport.of(plan.settings, prepare(plan, workers))


def digests(out: Path) -> dict[str, str]:
    return {
        str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(out.rglob("*.pkl"))
    }


@pytest.fixture
def raw(masks: Callable[..., np.ndarray], to_pngs: Callable[..., Path], tmp_path: Path) -> Path:
    for seed, key in enumerate(("001/nm-01/000", "001/nm-01/018", "002/bg-02/180")):
        to_pngs(tmp_path / "raw" / key, masks(seed, 7))
    return tmp_path / "raw"


def test_a_sequence_is_its_frames_normalised_in_the_order_of_their_names(
    raw: Path, masks: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    report = prepared(raw, tmp_path / "out")
    expected = np.stack([np.asarray(normalise(mask)) for mask in masks(1, 7)])
    found = read_silhouettes(tmp_path / "out/001/nm-01/018/018.pkl")
    np.testing.assert_array_equal(found, expected)
    assert (report.num_frames, report.num_kept, report.skipped) == (21, 21, {})
    assert len(FolderDataset(tmp_path / "out")) == 3


@pytest.mark.golden
@pytest.mark.parametrize(
    "name",
    [
        "centre", "left_edge", "right_edge", "wide", "grey128", "two_blobs", "px39", "px40",
        "column0", "tall_thin", "empty", "walker",
    ],
)  # fmt: skip
def test_frames_are_kept_and_skipped_as_in_the_release(
    name: str, golden_rules: ModuleType, golden_dir: Path, tmp_path: Path
) -> None:
    golden = np.load(golden_dir / "pretreatment.npz")
    cv2.imwrite(str(tmp_path / "frame.png"), golden_rules.raw_silhouette(name))
    outcome = pretreat(tmp_path / "frame.png", "benchmark")
    if f"{name}_64" in golden:
        np.testing.assert_array_equal(outcome, golden[f"{name}_64"])
    else:
        assert isinstance(outcome, Reason)


def test_ccpg_shrinks_by_area_and_keeps_specks_and_the_first_column(
    golden_rules: ModuleType, tmp_path: Path
) -> None:
    def outcome(name: str) -> object:
        cv2.imwrite(str(tmp_path / "frame.png"), golden_rules.raw_silhouette(name))
        return pretreat(tmp_path / "frame.png", "ccpg")

    frame = golden_rules.raw_silhouette("centre")
    rows = np.flatnonzero(frame.any(axis=1))
    body = frame[rows[0] : rows[-1] + 1]
    width = int(64 * (body.shape[1] / body.shape[0]))
    scaled = cv2.resize(body, (width, 64), interpolation=cv2.INTER_AREA)
    cumulated = scaled.sum(axis=0, dtype=float).cumsum()
    centre = int(np.argmax(cumulated > cumulated[-1] / 2))
    np.testing.assert_array_equal(outcome("centre"), scaled[:, centre - 32 : centre + 32])
    assert np.asarray(outcome("px39")).shape == (64, 64)
    assert np.asarray(outcome("column0"))[:, 32].all()
    assert outcome("empty") is Reason.NO_PIXELS


def test_sustech1k_frames_are_only_scaled(
    masks: Callable[..., np.ndarray], to_pngs: Callable[..., Path], tmp_path: Path
) -> None:
    frames = masks(3, 5)
    to_pngs(tmp_path / "raw/0000/00-nm/000/PNG-Sils_aligned", frames)
    to_pngs(tmp_path / "raw/0000/00-nm/000/PNG-Sils_raw", frames[:2])
    to_pngs(tmp_path / "raw/0000/01-cr/090", frames)
    prepared(tmp_path / "raw", tmp_path / "out", "sustech1k")
    expected = [cv2.resize(each, (64, 64), interpolation=cv2.INTER_CUBIC) for each in frames]
    for key in ("0000/00-nm/000/06-000", "0000/01-cr/090/06-090"):
        found = read_silhouettes(tmp_path / "out" / f"{key}-Camera-Sils_aligned.pkl")
        np.testing.assert_array_equal(found, np.stack(expected))


def test_grews_frames_are_kept_as_they_are_and_renamed_as_the_protocol_wants(
    silhouettes: Callable[..., np.ndarray], to_pngs: Callable[..., Path], tmp_path: Path
) -> None:
    raw, frames = tmp_path / "raw", silhouettes(1, 5)
    for folder in ("train/00001/4XPn5Z28", "test/gallery/00001/zz", "test/gallery/00001/aa",
                   "test/probe/01DdvEHX", "distractors/edXJefi8"):  # fmt: skip
        to_pngs(raw / folder, frames)
    (raw / "train/00001/4XPn5Z28/00001_2d_pose.txt").write_text("0,0")
    cv2.imwrite(str(raw / "train/00001/4XPn5Z28/4XPn5Z28_gei.png"), frames[0])
    cv2.imwrite(str(raw / "test/probe/01DdvEHX/999.png"), frames[0][:50])
    report = prepared(raw, tmp_path / "out", "grew")
    dataset = FolderDataset(tmp_path / "out")
    assert [str(key) for key in dataset.keys] == [
        "00001-01-aa", "00001-02-zz", "00001train-00-4XPn5Z28", "probe-03-01DdvEHX",
    ]  # fmt: skip
    for index in range(4):
        np.testing.assert_array_equal(dataset[index], frames)
    assert report.skipped == {FrameFault.WRONG_SIZE: 1}


@pytest.mark.parametrize(
    ("layout", "folder", "key"),
    [
        ("generic", "001/nm-01/000", "001-nm-01-000"),
        ("ou-mvlp", "Silhouette_090-01/00023", "00023-01-090"),
        ("gait3d", "0002/camid9_videoid2/seq0", "0002-camid9_videoid2-seq0"),
        ("gait3d", "2D_Silhouettes/0002/camid9_videoid2/seq0", "0002-camid9_videoid2-seq0"),
        ("sustech1k", "0000/00-nm/000", "0000-00-nm-000"),
    ],
)
def test_each_layout_tells_who_walked_how_and_where(
    layout: str, folder: str, key: str, tmp_path: Path
) -> None:
    (tmp_path / folder).mkdir(parents=True)
    (found,) = find_raw_sequences(tmp_path, layout)
    assert (str(found.key), found.folder) == (key, tmp_path / folder)


def test_every_skipped_frame_is_reported_with_its_reason(raw: Path, tmp_path: Path) -> None:
    folder = raw / "001/nm-01/000"
    cv2.imwrite(str(folder / "001.png"), np.zeros((120, 100), np.uint8))
    cv2.imwrite(str(folder / "002.png"), np.ones((120, 100), np.uint8))
    (folder / "003.png").write_text("no picture")
    (folder / "004.png").write_bytes(b"")
    for file in (raw / "002/bg-02/180").iterdir():
        cv2.imwrite(str(file), np.zeros((120, 100), np.uint8))
    report = prepared(raw, tmp_path / "out")
    assert report.skipped == {"no_pixels": 8, "unreadable": 2, "levels_0_1": 1}
    written = json.loads(report.write(tmp_path / "out").read_text())
    assert written["skipped_frames"]["001-nm-01-000"] == {
        "no_pixels": ["001.png"],
        "levels_0_1": ["002.png"],
        "unreadable": ["003.png", "004.png"],
    }
    assert written["sequences_without_silhouettes"] == ["002-bg-02-180"]
    assert written["sequences_under_5_silhouettes"] == {"001-nm-01-000": 3}
    assert not (tmp_path / "out/002").exists()


def test_two_processes_prepare_what_one_does(raw: Path, tmp_path: Path) -> None:
    one = prepared(raw, tmp_path / "one")
    two = prepared(raw, tmp_path / "two", workers=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert one.to_json() == two.to_json()


def test_a_second_run_does_nothing_again_and_reports_the_same(raw: Path, tmp_path: Path) -> None:
    first = prepared(raw, tmp_path / "out")
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*.pkl")}
    assert prepared(raw, tmp_path / "out") == first
    assert times == {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*.pkl")}


def test_new_frames_and_damaged_or_lost_files_are_prepared_again(
    raw: Path, masks: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    prepared(raw, tmp_path / "out")
    expected = digests(tmp_path / "out")
    (tmp_path / "out/001/nm-01/000/000.pkl").unlink()
    (tmp_path / "out/001/nm-01/018/018.pkl").write_bytes(b"half")
    cv2.imwrite(str(raw / "002/bg-02/180/100.png"), masks(9, 1)[0])
    assert prepared(raw, tmp_path / "out").num_frames == 22
    found = digests(tmp_path / "out")
    assert {key for key in found if found[key] != expected[key]} == {"002/bg-02/180/180.pkl"}


def test_a_journal_torn_by_a_kill_is_mended(raw: Path, tmp_path: Path) -> None:
    first = prepared(raw, tmp_path / "out")
    journal = tmp_path / "out/.prepare/journal.jsonl"
    whole = journal.read_bytes()
    for end in range(0, len(whole), 97):
        journal.write_bytes(whole[:end])
        assert prepared(raw, tmp_path / "out") == first
        assert journal.read_bytes().count(b"\n") == 4


def test_a_folder_prepared_from_something_else_is_not_touched(raw: Path, tmp_path: Path) -> None:
    prepared(raw, tmp_path / "out")
    with pytest.raises(DataError, match="choose another folder"):
        prepared(raw, tmp_path / "out", "ccpg")


def test_two_preparations_of_one_folder_do_not_meet(raw: Path, tmp_path: Path) -> None:
    prepared(raw, tmp_path / "out")
    with (tmp_path / "out/.prepare/journal.jsonl").open("rb") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another `data prepare`"):
            prepared(raw, tmp_path / "out")


def test_raw_data_of_another_layout_is_refused_in_words(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected folders Silhouette_VIEW-SEQUENCE/subject"):
        plan_preparation(raw, tmp_path / "out", "ou-mvlp")
    with pytest.raises(DataError, match="layout: expected one of generic"):
        plan_preparation(raw, tmp_path / "out", "casia-b", "generik")
    with pytest.raises(DataError, match="cannot read the raw data"):
        plan_preparation(tmp_path / "none", tmp_path / "out", "casia-b")
    assert not (tmp_path / "out").exists()


def test_an_out_that_cannot_be_written_is_named(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DataError, match="out: cannot write there"):
        prepared(raw, tmp_path / "out")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_sequence_that_cannot_be_replaced_stops_with_its_name(
    workers: int, raw: Path, tmp_path: Path
) -> None:
    (tmp_path / "out/001/nm-01/000/000.pkl").mkdir(parents=True)
    with pytest.raises(DataError, match=r"nm-01/000: cannot read it, or replace .*000\.pkl"):
        prepared(raw, tmp_path / "out", workers=workers)


def test_a_raw_folder_that_goes_while_we_look_is_an_error_that_names_it(
    raw: Path, tmp_path: Path
) -> None:
    prepared(raw, tmp_path / "out")
    plan = plan_preparation(raw, tmp_path / "out", "casia-b")
    shutil.move(raw / "001/nm-01/018", tmp_path / "elsewhere")
    with pytest.raises(DataError, match="nm-01/018: cannot read it"):
        list(prepare(plan))


SCRIPT = """
import sys, time
from pathlib import Path
from gait.data.prepare import plan_preparation, prepare
if __name__ == "__main__":
    print("ready", flush=True)
    for _ in prepare(plan_preparation(Path(sys.argv[1]), Path(sys.argv[2]), "casia-b"), 2):
        print(".", end="", flush=True)
"""


def test_killed_again_and_again_nothing_is_half_written_and_the_end_is_the_same(
    masks: Callable[..., np.ndarray], to_pngs: Callable[..., Path], tmp_path: Path
) -> None:
    for seed in range(60):
        to_pngs(tmp_path / f"raw/{seed:03}/nm-01/000", masks(seed, 12))
    raw, out = tmp_path / "raw", tmp_path / "out"
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    seen = 0
    for after in (1, 9):
        process = subprocess.Popen(
            [sys.executable, str(script), str(raw), str(out)],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.stdout.read(seen + after)  # those done before come first, then new ones
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        _wait_for_orphans(out)
        written = digests(out)
        assert len(written) > seen
        for file in written:
            assert len(read_silhouettes(out / file)) == 12
        seen = sum(1 for _ in (out / ".prepare/journal.jsonl").open("rb")) - 1
    assert prepared(raw, out).num_kept == 720
    assert prepared(raw, tmp_path / "at once").num_kept == 720
    assert digests(out) == digests(tmp_path / "at once")
    assert not list(out.rglob("*.part"))


def _wait_for_orphans(out: Path) -> None:
    """Wait until nothing below `out` changes: killed workers end within moments."""
    before = None
    while before != (now := sorted(map(str, out.rglob("*")))):
        before = now
        time.sleep(0.5)
