"""Folders of tracking data: what is read, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gait.errors import DataError
from pipeline.evaluation.tracking_folder import (
    Sequence,
    find_sequences,
    read_boxes,
    read_sequence,
    write_boxes,
)

INFO = "[Sequence]\nname=x\nframeRate=25\nseqLength=10\n"
TRUTH = "2,1,0,0,10,20,1,1,0.9\n1,1,0,0,10,20,1,1,1\n1,2,50,0,10,20,1,1,0.2\n"
FOUND = "1,-1,50,0,10,20,0.4\n2,-1,1,0,10,20,0.9\n1,-1,0,0,10,20,0.8\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "MOT17" / "train" / "walk"
    put(place / "seqinfo.ini", INFO)
    put(place / "gt" / "gt.txt", TRUTH)
    put(place / "det" / "det.txt", FOUND)
    return place


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def sequence(folder: Path) -> Sequence:
    return read_sequence(folder)


def test_recordings_are_found_two_folders_down(folder: Path) -> None:
    (found,) = find_sequences(folder.parents[1])
    assert (found.name, found.fps, found.num_frames) == ("walk", 25.0, 10)
    assert find_sequences(folder) == find_sequences(folder.parent)


def test_lines_may_come_in_any_order(folder: Path) -> None:
    boxes = sequence(folder).truth().boxes
    assert boxes.frames.tolist() == [0, 0, 1]
    assert boxes.ids.tolist() == [1, 2, 1]
    assert boxes.xyxy[1].tolist() == [50, 0, 60, 20]


def test_frames_without_boxes_have_no_detections(folder: Path) -> None:
    found = sequence(folder).detections()
    assert [len(each) for each in found] == [2, 1, *[0] * 8]
    assert found[1].confidence.tolist() == pytest.approx([0.9])


def test_features_stay_with_their_line(folder: Path) -> None:
    np.save(folder / "det" / "features.npy", np.array([[0.0], [1.0], [2.0]], dtype=np.float32))
    found = sequence(folder).detections()
    first, second = found[0].features, found[1].features
    assert first is not None
    assert second is not None
    assert dict(zip(found[0].xyxy[:, 0].tolist(), first[:, 0].tolist(), strict=True)) == {
        50.0: 0.0,
        0.0: 2.0,
    }
    assert second.tolist() == [[1.0]]


def test_features_of_another_recording_are_refused(folder: Path) -> None:
    np.save(folder / "det" / "features.npy", np.zeros((7, 2), dtype=np.float32))
    with pytest.raises(DataError, match=r"expected numbers of shape \(3, D\)"):
        sequence(folder).detections()


def test_who_is_hardly_visible_need_not_be_found(folder: Path) -> None:
    truth = sequence(folder).truth(min_visible=0.3)
    assert truth.counts.tolist() == [True, False, True]
    assert truth.is_ignored.tolist() == [False, True, False]


def test_classes_count_as_motchallenge_has_it(folder: Path) -> None:
    rows = [(1, 1), (1, 8), (1, 3), (0, 1), (1, 6)]  # counts, class
    text = "".join(f"1,{i + 1},{40 * i},0,10,20,{c},{k},1\n" for i, (c, k) in enumerate(rows))
    put(folder / "gt" / "gt.txt", text)
    truth = sequence(folder).truth()
    assert truth.counts.tolist() == [True, False, False, False, False]
    assert truth.is_ignored.tolist() == [False, True, False, False, False]
    crowd = folder.rename(folder.with_name("MOT20-01"))
    assert sequence(crowd).truth().is_ignored.tolist() == [False, True, False, False, True]


def test_results_are_read_where_trackeval_has_them(folder: Path, tmp_path: Path) -> None:
    boxes = sequence(folder).truth().boxes
    for place in ("mine/walk.txt", "yours/data/walk.txt"):
        write_boxes(tmp_path / place, boxes)
        read = sequence(folder).results(tmp_path / place.split("/")[0])
        assert read.xyxy.tolist() == boxes.xyxy.tolist()
        assert read.ids.tolist() == boxes.ids.tolist()


def test_an_empty_result_is_nobody_seen(folder: Path, tmp_path: Path) -> None:
    put(tmp_path / "mine" / "walk.txt", "")
    assert len(sequence(folder).results(tmp_path / "mine")) == 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1,1,nan,0,10,20,1", "finite numbers"),
        ("1,1,0,inf,10,20,1", "finite numbers"),
        ("0,1,0,0,10,20,1", "whole frames from 1"),
        ("1.5,1,0,0,10,20,1", "whole frames from 1"),
        ("1,1,0,0,-10,20,1", "sides from 0"),
        ("1,1,0,0", "at least 6 columns"),
        ("1,1,0,0,10,20,1\n1,2,3", "expected lines of frame,id"),
        ("frame,id,left,top,width,height", "expected lines of frame,id"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, line: str, words: str) -> None:
    put(tmp_path / "bad.txt", line + "\n")
    with pytest.raises(DataError, match=rf"bad\.txt: .*{words}"):
        read_boxes(tmp_path / "bad.txt")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("11,1,0,0,10,20,1\n", "expected frames from 1 to 10, as seqinfo.ini says, got frame 11"),
        ("1,1,0,0,10,20,1\n1,1,5,0,10,20,1\n", "1 twice in frame 1"),
        ("1,-1,0,0,10,20,1\n", "these are detections, not tracks"),
    ],
)
def test_truth_that_cannot_be_is_refused(folder: Path, text: str, words: str) -> None:
    put(folder / "gt" / "gt.txt", text)
    with pytest.raises(DataError, match=words):
        sequence(folder).truth()


def test_confidences_on_another_scale_are_refused(folder: Path) -> None:
    put(folder / "det" / "det.txt", "1,-1,0,0,10,20,3.2\n")
    with pytest.raises(DataError, match=r"confidences in 0\.\.1 .* got 3\.2 to 3\.2"):
        sequence(folder).detections()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "with frameRate and seqLength"),
        ("[Sequence]\nframeRate=fast\nseqLength=3\n", "as numbers"),
        ("[Sequence]\nframeRate=0\nseqLength=3\n", "a frameRate up to 1000"),
        ("[Sequence]\nframeRate=25\nseqLength=99999999999\n", "a seqLength up to"),
    ],
)
def test_a_bad_seqinfo_is_refused(folder: Path, text: str, words: str) -> None:
    put(folder / "seqinfo.ini", text)
    with pytest.raises(DataError, match=words):
        read_sequence(folder)


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        find_sequences(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"expected walk\.txt or data/walk\.txt"):
        sequence(folder).results(tmp_path)
    (folder / "det" / "det.txt").unlink()
    with pytest.raises(DataError, match=r"det\.txt: no such file; expected what a detector found"):
        sequence(folder).detections()
    (folder / "seqinfo.ini").unlink()
    with pytest.raises(DataError, match=r"seqinfo\.ini: cannot read it .*frameRate"):
        find_sequences(folder)
    (folder / "gt" / "gt.txt").unlink()
    with pytest.raises(DataError, match=r"expected NAME/gt/gt\.txt"):
        find_sequences(folder)
