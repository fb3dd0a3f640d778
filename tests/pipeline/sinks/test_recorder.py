from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.sinks.folder import ResultsFolder
from pipeline.sinks.recorder import Recorder, outline, read_record
from pipeline.values import Frame
from trackers.boxes import Mask, Tracks

Make = Callable[..., Any]


def filled(mask: Mask) -> NDArray[np.bool_]:
    """The outline, filled by the rule the format documents, in the mask's own patch."""
    canvas = np.zeros(mask.pixels.shape, dtype=np.uint8)
    cv2.fillPoly(canvas, outline(mask), 1, offset=(-mask.x, -mask.y))
    return canvas > 0


def test_what_is_recorded_is_read_back(folder: ResultsFolder, scene: Make) -> None:
    scenes = [scene(i) for i in (0, 2, 4)]
    with Recorder(folder, "hall") as recorder:
        for frame, tracks, masks in scenes:
            recorder.write(frame, tracks, masks)
    read = list(read_record(folder.stream("hall").masks))
    assert [(f.index, f.time_s, f.epoch) for f in read] == [(0, 0.0, 0), (2, 0.2, 0), (4, 0.4, 0)]
    for found, (_, tracks, _) in zip(read, scenes, strict=True):
        assert [t.track_id for t in found.tracks] == [1, 2]
        boxes = np.array([t.xyxy for t in found.tracks])
        np.testing.assert_allclose(boxes, tracks.xyxy, atol=0.05)  # one decimal is kept
        assert found.tracks[1].outlines == ()


def test_tracks_are_in_the_motchallenge_format(folder: ResultsFolder, scene: Make) -> None:
    with Recorder(folder, "hall") as recorder:
        for i in range(3):
            recorder.write(*scene(i))
    rows = np.loadtxt(folder.stream("hall").tracks, delimiter=",", ndmin=2)
    assert rows.shape == (6, 10)
    assert rows[:, 0].tolist() == [1, 1, 2, 2, 3, 3]  # frames count from 1
    _, tracks, _ = scene(2)
    left, top, right, bottom = tracks.xyxy[1].tolist()
    expected = [3, 2, left, top, right - left, bottom - top, 0.5, -1, -1, -1]
    np.testing.assert_allclose(rows[5], expected, atol=0.005)


def test_the_outline_of_a_walker_covers_the_same_pixels(scene: Make) -> None:
    for i in range(8):
        mask = scene(i)[2][0]
        assert mask is not None
        both, either = filled(mask) & mask.pixels, filled(mask) | mask.pixels
        assert both.sum() / either.sum() > 0.95


def test_a_hole_stays_open() -> None:
    pixels = np.zeros((40, 30), dtype=bool)
    pixels[2:38, 4:26] = True
    pixels[12:26, 10:20] = False
    assert not filled(Mask(pixels, 7, 9))[14:24, 12:18].any()


def test_a_wild_mask_costs_bounded_bytes() -> None:
    noise = np.random.default_rng(0).random((1200, 800)) > 0.5
    polygons = outline(Mask(noise, 0, 0))
    assert len(polygons) <= 8
    assert max(len(p) for p in polygons) <= 120
    assert outline(Mask(np.zeros((5, 5), dtype=bool), 0, 0)) == []
    assert outline(Mask(np.zeros((0, 0), dtype=bool), 0, 0)) == []


def test_a_torn_last_line_ends_the_record_with_a_warning(
    folder: ResultsFolder, scene: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with Recorder(folder, "hall") as recorder:
        for i in range(3):
            recorder.write(*scene(i))
    path = folder.stream("hall").masks
    path.write_bytes(path.read_bytes()[:-20])
    with caplog.at_level(logging.WARNING):
        assert [f.index for f in read_record(path)] == [0, 1]
    assert "line 3 is damaged" in caplog.text


def test_a_frame_without_people_is_recorded(folder: ResultsFolder) -> None:
    frame = Frame(np.zeros((4, 4, 3), dtype=np.uint8), "hall", 0, 0.0, epoch=2)
    with Recorder(folder, "hall") as recorder:
        recorder.write(frame, Tracks(), ())
    assert [(f.epoch, f.tracks) for f in read_record(folder.stream("hall").masks)] == [(2, ())]
    assert folder.stream("hall").tracks.read_text() == ""


def test_a_mask_too_few_is_a_mistake_of_the_caller(folder: ResultsFolder, scene: Make) -> None:
    frame, tracks, masks = scene(0)
    with Recorder(folder, "hall") as recorder, pytest.raises(ValueError, match="2 masks, got 1"):
        recorder.write(frame, tracks, masks[:1])
