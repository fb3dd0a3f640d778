"""Recorded boxes, ids and masks stand in for detector, tracker and segmenter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from gait.synthetic.ground_truth import encode_rle
from pipeline.config import PipelineConfig
from pipeline.errors import ModelError
from pipeline.stages.replay import ReplayConfig
from pipeline.stages.segment import ReplayMasksConfig
from pipeline.stages.track import StreamTrackers
from pipeline.values import Frame
from trackers.boxes import Mask, Tracks
from trackers.recorded import RecordedTracks

HW = (48, 64)


def frame(stream: str, index: int, hw: tuple[int, int] = HW) -> Frame:
    return Frame(np.zeros((*hw, 3), np.uint8), stream, index, index / 10)


def tracks(*boxes: tuple[float, float, float, float]) -> Tracks:
    n = len(boxes)
    return Tracks(
        track_ids=np.arange(n, dtype=np.int64),
        xyxy=np.array(boxes, dtype=np.float32).reshape(n, 4),
        confidence=np.ones(n, dtype=np.float32),
        detection_indices=np.arange(n, dtype=np.int64),
    )


def diamond(size: int) -> np.ndarray:
    reach = np.abs(np.arange(size) - size // 2)
    return (reach[:, None] + reach) <= size // 2


def write_masks(path: Path, *masks: tuple[int, int, int]) -> Path:
    """One diamond of 11 pixels per (frame from 1, left, top)."""
    annotations = [
        {
            "image_id": image,
            "bbox": [left, top, 11, 11],
            "segmentation": {"size": list(HW), "counts": encode_rle(diamond(11), left, top, HW)},
        }
        for image, left, top in masks
    ]
    path.write_text(json.dumps({"annotations": annotations}))
    return path


def test_each_stream_is_given_its_own_boxes_and_ids(tmp_path: Path) -> None:
    for name, left in (("a", 10), ("b", 20)):
        (tmp_path / f"{name}.txt").write_text(f"1,7,{left},1,5,5,1\n2,9,{left},1,5,5,1,0.5\n")
    detector = ReplayConfig(file=str(tmp_path / "{stream}.txt")).build()
    follow = StreamTrackers(RecordedTracks)
    frames = [frame("a", 0), frame("b", 0), frame("a", 1)]
    found = follow.update(frames, detector.detect(frames))
    assert [t.track_ids.tolist() for t in found] == [[7], [7], [9]]
    assert [t.xyxy[0, 0] for t in found] == [10, 20, 10]
    assert follow.finish("a") == (7, 9)
    assert follow.finish("b") == (7,)


def test_a_stream_without_a_recording_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    detector = ReplayConfig(file=str(tmp_path / "{stream}.txt")).build()
    with pytest.raises(ModelError, match=r"hall\.txt"):
        detector.detect([frame("hall", 0)])


def test_a_recording_that_gives_one_id_to_two_boxes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "det.txt").write_text("3,7,1,1,5,5,1\n3,7,9,1,5,5,1\n")
    with pytest.raises(ModelError, match=r"det\.txt:frame 3: .*different ids"):
        ReplayConfig(file=str(tmp_path / "det.txt")).build()


def test_boxes_without_ids_cannot_be_tracks(tmp_path: Path) -> None:
    (tmp_path / "det.txt").write_text("1,-1,1,1,5,5,1\n")
    detector = ReplayConfig(file=str(tmp_path / "det.txt")).build()
    with pytest.raises(ValueError, match="recording of tracks"):
        RecordedTracks().update(detector.detect([frame("a", 0)])[0], interval_s=0.1)


def test_replayed_tracks_need_replayed_boxes() -> None:
    with pytest.raises(ValidationError, match=r"detector: \{kind: replay"):
        PipelineConfig.model_validate({"tracker": "replay"})


def test_each_track_has_the_recorded_mask_its_box_overlaps_most(tmp_path: Path) -> None:
    write_masks(tmp_path / "a.json", (1, 5, 6), (1, 30, 20), (2, 50, 30))
    segmenter = ReplayMasksConfig(file=str(tmp_path / "{stream}.json")).build()
    boxes = tracks((31, 21, 42, 32), (5, 6, 16, 17), (0, 30, 11, 41))
    first, second = segmenter.segment([frame("a", 0), frame("a", 4)], [boxes, boxes])
    right, left, nobody = first
    assert isinstance(right, Mask)
    assert isinstance(left, Mask)
    assert (right.x, right.y, left.x, left.y) == (30, 20, 5, 6)
    np.testing.assert_array_equal(left.pixels, diamond(11))
    assert nobody is None
    assert second == (None, None, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "expected COCO annotations"),
        ('{"annotations": [{"image_id": 1, "bbox": [1, 2, 3]}]}', "expected COCO annotations"),
        ("no json", "expected COCO annotations"),
    ],
)
def test_masks_that_are_not_coco_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content)
    segmenter = ReplayMasksConfig(file=str(tmp_path / "a.json")).build()
    with pytest.raises(ModelError, match=message):
        segmenter.segment([frame("a", 0)], [tracks((0, 0, 5, 5))])


def test_masks_of_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    write_masks(tmp_path / "a.json", (1, 5, 6))
    segmenter = ReplayMasksConfig(file=str(tmp_path / "a.json")).build()
    with pytest.raises(ModelError, match="frame 1: expected masks of"):
        segmenter.segment([frame("a", 0, (96, 64))], [tracks((5, 6, 16, 17))])
    with pytest.raises(ModelError, match="cannot read"):
        ReplayMasksConfig(file=str(tmp_path / "b.json")).build().segment(
            [frame("a", 0)], [tracks((5, 6, 16, 17))]
        )
