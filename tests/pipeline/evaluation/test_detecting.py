"""What the bundled detector finds in a recording, kept for trackers to be judged on."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from gait.errors import DataError
from pipeline.errors import SourceError
from pipeline.evaluation.detecting import record_detections
from pipeline.evaluation.tracking_folder import Sequence, find_sequences
from pipeline.sources.inputs import sample_path
from pipeline.stages.appearance import HistogramConfig

FRAMES = 3


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """The first frames of the sample clip as MOTChallenge lays a recording out."""
    folder = tmp_path / "street"
    for name in ("img1", "gt"):
        (folder / name).mkdir(parents=True)
    clip = cv2.VideoCapture(str(sample_path()))
    for number in range(1, FRAMES + 1):
        cv2.imwrite(str(folder / "img1" / f"{number:06}.png"), clip.read()[1])
    clip.release()
    (folder / "gt" / "gt.txt").write_text("1,1,10,10,20,40,1,1,1\n")
    return describe(folder, FRAMES)


def describe(folder: Path, frames: int) -> Path:
    (folder / "seqinfo.ini").write_text(f"[Sequence]\nframeRate=10\nseqLength={frames}\n")
    return folder


def only(folder: Path) -> Sequence:
    (sequence,) = find_sequences(folder)
    return sequence


@pytest.mark.parametrize("has_looks", [True, False])
def test_people_in_the_pictures_are_found_and_read_back(street: Path, has_looks: bool) -> None:
    done: list[str] = []
    looks = HistogramConfig().build() if has_looks else None
    record_detections(only(street), looks, on_frame=done.append)
    found = only(street).detections()
    assert len(done) == len(found) == FRAMES
    assert all((each.confidence > 0.5).any() for each in found), "the street is never empty"
    assert all((each.features is not None) == has_looks for each in found)


def test_another_number_of_frames_than_promised_is_refused_and_nothing_written(
    street: Path,
) -> None:
    with pytest.raises(DataError, match=r"img1: expected 5 frames, as seqinfo.ini says, got 3"):
        record_detections(only(describe(street, 5)))
    assert not (street / "det").exists()


def test_a_recording_without_pictures_says_where_they_were_looked_for(street: Path) -> None:
    for picture in (street / "img1").iterdir():
        picture.unlink()
    with pytest.raises(SourceError, match="img1"):
        record_detections(only(street))
