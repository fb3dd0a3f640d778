"""A mask is the boxed person, the whole person and nobody else, or None."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import ModelError
from pipeline.stages.segment import (
    SEGMENTERS,
    DetectorMasks,
    DetectorMasksConfig,
    PoseConfig,
    SamConfig,
    Segmenter,
    SegmenterConfig,
)
from pipeline.stages.segment_guard import MaskGuards, Region, guarded, padded_region
from pipeline.values import Frame
from trackers.boxes import Mask, Tracks

WALKER = (356, 218, 387, 310)  # dark clothes on light asphalt, in street-290
COUPLE = ((644, 125, 662, 181), (663, 126, 682, 181))  # shoulder to shoulder, in street-240


@pytest.fixture(scope="module")
def pose() -> Segmenter:
    return PoseConfig().build()


def tracks(*boxes: tuple[float, ...]) -> Tracks:
    n = len(boxes)
    return Tracks(
        track_ids=np.arange(n),
        xyxy=np.array(boxes, dtype=np.float32).reshape(n, 4),
        confidence=np.ones(n, dtype=np.float32),
        detection_indices=np.arange(n),
    )


def full(mask: Mask | None, frame: Frame) -> NDArray[np.bool_]:
    """Return the mask in a picture of the frame's size."""
    assert mask is not None
    picture = np.zeros(frame.hw, dtype=bool)
    h, w = mask.pixels.shape
    picture[mask.y : mask.y + h, mask.x : mask.x + w] = mask.pixels
    return picture


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_walker_in_dark_clothes_is_cut_out_as_a_threshold_would(
    pose: Segmenter, street: list[Frame]
) -> None:
    frame = street[1]
    ((mask,),) = pose.segment([frame], [tracks(WALKER)])
    left, top, right, bottom = WALKER
    dark = np.zeros(frame.hw, dtype=bool)
    dark[top:bottom, left:right] = frame.image[top:bottom, left:right].max(axis=2) < 100
    assert iou(full(mask, frame), dark) > 0.75


def test_a_mask_reaches_from_head_to_feet(pose: Segmenter, street: list[Frame]) -> None:
    ((mask,),) = pose.segment([street[1]], [tracks(WALKER)])
    assert mask is not None
    assert mask.y == pytest.approx(WALKER[1], abs=6)
    assert mask.y + mask.pixels.shape[0] == pytest.approx(WALKER[3], abs=6)


def test_neighbours_are_not_in_each_others_masks(pose: Segmenter, street: list[Frame]) -> None:
    frame = street[0]
    ((first, second),) = pose.segment([frame], [tracks(*COUPLE)])
    assert iou(full(first, frame), full(second, frame)) < 0.1


def test_the_person_is_found_under_a_loose_box(pose: Segmenter, street: list[Frame]) -> None:
    frame, (left, top, right, bottom) = street[1], WALKER
    loose = (left - 10, top - 8, right + 8, bottom + 10)
    ((mask, in_loose),) = pose.segment([frame], [tracks(WALKER, loose)])
    assert iou(full(mask, frame), full(in_loose, frame)) > 0.85


def test_boxes_without_a_person_give_no_mask(pose: Segmenter, street: list[Frame]) -> None:
    nobody = [(420, 200, 445, 250), (20, 300, 60, 420), (690, 40, 730, 100), (450, 340, 530, 480),
              (170, 190, 184, 210), (500, 450, 560, 570)]  # fmt: skip
    (masks,) = pose.segment([street[1]], [tracks(*nobody)])
    assert masks == (None,) * len(nobody)


def test_frames_and_tracks_keep_their_order(pose: Segmenter, street: list[Frame]) -> None:
    couple, walker = street
    alone = pose.segment([couple], [tracks(*COUPLE)])[0]
    among = pose.segment(
        [walker, couple, walker],
        [tracks(), tracks(COUPLE[1], (5, 5, 30, 60), COUPLE[0]), tracks(WALKER)],
    )
    assert [len(masks) for masks in among] == [0, 3, 1]
    assert among[1][1] is None
    for a, b in zip(alone, (among[1][2], among[1][0]), strict=True):
        np.testing.assert_array_equal(full(a, couple), full(b, couple))


@pytest.mark.parametrize(
    "box",
    [
        (700, 500, 900, 800),  # over the corner
        (-50, 200, 20, 320),
        (-5000, -5000, 5000, 5000),  # larger than the frame
        (900, 900, 950, 1000),  # outside
        (100, 100, 100, 200),  # no width
        (100, 100, 140, 100),  # no height
        (100, 100, 104, 108),  # too small
    ],
)
def test_odd_boxes_give_none_or_a_mask_inside_the_frame(
    pose: Segmenter, street: list[Frame], box: tuple[float, ...]
) -> None:
    ((mask,),) = pose.segment([street[0]], [tracks(box)])
    if mask is not None:
        assert mask.x >= 0
        assert mask.y >= 0
        assert mask.x + mask.pixels.shape[1] <= 768
        assert mask.y + mask.pixels.shape[0] <= 576


def test_a_person_cut_by_the_frames_edge_still_gives_a_mask(
    pose: Segmenter, street: list[Frame]
) -> None:
    cut = Frame(np.ascontiguousarray(street[1].image[:290]), "cut", 0, 0.0)
    ((mask,),) = pose.segment([cut], [tracks((*WALKER[:3], 290))])
    assert mask is not None
    assert mask.y + mask.pixels.shape[0] == 290


def test_a_16_by_16_frame_is_no_trouble(pose: Segmenter) -> None:
    tiny = Frame(np.full((16, 16, 3), 99, np.uint8), "tiny", 0, 0.0)
    assert pose.segment([tiny], [tracks((0, 0, 16, 16), (4, 2, 8, 14))]) == [(None, None)]


def test_a_person_in_a_large_frame_is_outlined_at_its_resolution(
    pose: Segmenter, street: list[Frame]
) -> None:
    small = street[1]
    large = Frame(small.image.repeat(4, axis=0).repeat(4, axis=1), "4k", 0, 0.0)
    ((mask,),) = pose.segment([small], [tracks(WALKER)])
    ((big,),) = pose.segment([large], [tracks(tuple(4 * v for v in WALKER))])
    enlarged = full(mask, small).repeat(4, axis=0).repeat(4, axis=1)
    assert iou(enlarged, full(big, large)) > 0.85


def test_one_segmenter_serves_several_threads(pose: Segmenter, street: list[Frame]) -> None:
    frame, boxes = street[0], tracks(*COUPLE)
    expected = [full(m, frame) for m in pose.segment([frame], [boxes])[0]]
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda _: pose.segment([frame], [boxes])[0], range(9)))
    for masks in found:
        for mask, pixels in zip(masks, expected, strict=True):
            np.testing.assert_array_equal(full(mask, frame), pixels)


def test_more_threads_find_the_same_masks(pose: Segmenter, street: list[Frame]) -> None:
    everybody = [tracks(*COUPLE, WALKER), tracks(WALKER)]
    expected = pose.segment(street[:2], everybody)
    segmenter = PoseConfig(threads=3).build()
    found = segmenter.segment(street[:2], everybody)
    segmenter.close()
    for frame, masks, others in zip(street, found, expected, strict=False):
        for mask, other in zip(masks, others, strict=True):
            assert (mask is None) == (other is None)
            if mask is not None:
                np.testing.assert_array_equal(full(mask, frame), full(other, frame))


def test_a_higher_threshold_gives_a_smaller_mask(street: list[Frame]) -> None:
    sizes = []
    for threshold in (0.1, 0.5, 0.9):
        ((mask,),) = PoseConfig(threshold=threshold).build().segment([street[1]], [tracks(WALKER)])
        sizes.append(full(mask, street[1]).sum())
    assert sizes[0] > sizes[1] > sizes[2]


def test_a_file_that_is_no_pose_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ModelError, match=r"text\.onnx: expected an ONNX file"):
        PoseConfig(model=str(tmp_path / "text.onnx")).build()
    with pytest.raises(ModelError, match="did you mean pose-landmark-full"):
        PoseConfig(model="pose-landmark-ful").build()


BOX = np.array([20, 10, 60, 110], dtype=np.float32)
REGION = Region(12, 2, 68, 118)


def person(left: int = 30, top: int = 12, right: int = 50, bottom: int = 108) -> NDArray[np.bool_]:
    pixels = np.zeros((116, 56), dtype=bool)
    pixels[top - 2 : bottom - 2, left - 12 : right - 12] = True
    return pixels


def test_the_guards_pass_a_person_and_trim_the_patch() -> None:
    mask = guarded(person(), REGION, BOX, MaskGuards())
    assert mask is not None
    assert (mask.x, mask.y, mask.pixels.shape) == (30, 12, (96, 20))
    assert mask.pixels.all()


def test_the_guards_keep_the_component_in_the_middle_of_the_box() -> None:
    pixels = person()
    pixels[10:100, 50:56] = True  # a larger neighbour at the flank would still lose
    mask = guarded(pixels, REGION, BOX, MaskGuards())
    assert mask is not None
    assert mask.pixels.shape == (96, 20)


@pytest.mark.parametrize(
    ("pixels", "why"),
    [
        (np.zeros((116, 56), dtype=bool), "nothing"),
        (np.ones((116, 56), dtype=bool), "spilled over the background"),
        (person(right=34), "too little of the box"),
        (person(bottom=60), "only the upper half"),
        (person(left=14, top=40, right=66, bottom=60), "wide and flat"),
    ],
)
def test_the_guards_drop_what_is_no_person(pixels: NDArray[np.bool_], why: str) -> None:
    assert guarded(pixels, REGION, BOX, MaskGuards()) is None, why


def test_a_region_is_the_padded_box_inside_the_frame() -> None:
    guards = MaskGuards(padding=0.1)
    assert padded_region(BOX, (200, 200), guards) == Region(10, 0, 70, 120)
    assert padded_region(BOX, (50, 40), guards) == Region(16, 6, 40, 50)
    assert padded_region(BOX, (20, 15), guards) is None


def test_the_detectors_masks_pass_through() -> None:
    mask = Mask(np.ones((3, 2), dtype=bool), 5, 6)
    frame = Frame(np.zeros((20, 20, 3), np.uint8), "s", 0, 0.0)
    one = tracks((5, 6, 7, 9))
    with_mask = Tracks(one.track_ids, one.xyxy, one.confidence, one.detection_indices, (), (mask,))
    assert DetectorMasks().segment([frame, frame], [with_mask, tracks()]) == [(mask,), ()]
    with pytest.raises(ModelError, match=r"set detector.model to a -seg model"):
        DetectorMasks().segment([frame], [one])


def test_the_kind_chooses_the_segmenter_in_the_table() -> None:
    adapter: TypeAdapter[PoseConfig | DetectorMasksConfig | SamConfig] = TypeAdapter(
        SegmenterConfig
    )
    needed = {"sam": {"checkpoint": "sam.pth"}, "replay": {"file": "masks.json"}}
    for kind, config in SEGMENTERS.items():
        block = {"kind": kind} | needed.get(kind, {})
        assert type(adapter.validate_python(block)) is config
    with pytest.raises(ValidationError):
        adapter.validate_python({"kind": "sam"})
