"""What trackers refuse, and that they are the same afterwards."""

from __future__ import annotations

from inspect import signature

import numpy as np
import pytest

from tests.trackers.everybody import (
    LOOKS,
    OURS,
    Make,
    all_trackers,
    crossing,
    ids,
    ours,
    same,
    seen_by,
)
from trackers.botsort import BotSort
from trackers.boxes import Detections
from trackers.bytetrack import ByteTrack
from trackers.deepsort import DeepSort
from trackers.ocsort import OCSort
from trackers.sort import Sort


def bad(frame: Detections, how: str) -> Detections:
    """Return the frame as a stage leaves it that writes into somebody else's arrays."""
    copy = Detections(frame.xyxy.copy(), frame.confidence.copy(), features=frame.features)
    if how == "nan":
        copy.xyxy[0, 2] = np.nan
    elif how == "flipped":
        copy.xyxy[0, 2] = copy.xyxy[0, 0] - 5
    elif how == "infinite":
        copy.xyxy[0, 3] = np.inf
    elif how == "confidence":
        copy.confidence[0] = np.nan
    elif how == "shape":
        object.__setattr__(copy, "confidence", copy.confidence[:-1])
    elif how == "looks of other length":
        object.__setattr__(copy, "features", np.ones((4, 9), dtype=np.float32))
    elif how == "looks of nobody":
        object.__setattr__(copy, "features", LOOKS[:1])
    elif how == "looks of no number":
        object.__setattr__(copy, "features", np.full((4, 8), np.nan, dtype=np.float32))
    elif how == "camera":
        object.__setattr__(copy, "camera_motion", np.zeros((2, 3)))
    return copy


@all_trackers
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("nan", r"Detections\.xyxy\[0\]"),
        ("flipped", r"Detections\.xyxy\[0\]"),
        ("infinite", r"Detections\.xyxy\[0\]"),
        ("confidence", r"Detections\.confidence: expected values"),
        ("shape", r"Detections\.confidence: expected shape"),
        ("looks of nobody", r"Detections\.features: expected shape"),
        ("looks of no number", r"Detections\.features: expected finite"),
        ("camera", r"Detections\.camera_motion: expected"),
    ],
)
def test_bad_detections_are_refused_and_change_nothing(make: Make, how: str, words: str) -> None:
    demand_refused(make, how, words)


@pytest.mark.parametrize("make", [BotSort, DeepSort])
def test_who_looks_at_people_refuses_looks_of_another_length(make: Make) -> None:
    demand_refused(make, "looks of other length", r"Detections\.features: expected 8 numbers")


def demand_refused(make: Make, how: str, words: str) -> None:
    frames = crossing(12)
    tracker, twin = make(), make()
    seen_by(tracker, frames[:10])
    seen_by(twin, frames[:10])
    with pytest.raises(ValueError, match=words):
        tracker.update(bad(frames[10], how), interval_s=0.04)
    assert same(seen_by(tracker, frames[10:])[-1], seen_by(twin, frames[10:])[-1])


@all_trackers
@pytest.mark.parametrize("interval_s", [-0.1, float("nan"), float("inf")])
def test_time_that_runs_backwards_is_refused_and_changes_nothing(
    make: Make, interval_s: float
) -> None:
    frames = crossing(12)
    tracker, twin = make(), make()
    seen_by(tracker, frames[:10])
    seen_by(twin, frames[:10])
    with pytest.raises(ValueError, match="interval_s: expected seconds"):
        tracker.update(frames[10], interval_s=interval_s)
    assert same(seen_by(tracker, frames[10:])[-1], seen_by(twin, frames[10:])[-1])


OF_ALL: dict[str, float] = {
    "max_newcomer_overlap": 2.0,
    "box_margin": -0.1,
    "lost_s": float("inf"),
    "confirm_frames": 0,
    "box_noise": 0.0,
    "position_noise": -1.0,
    "velocity_noise": float("nan"),
    "min_overlap": 1.1,
}
OF_BYTETRACK: dict[str, float] = {
    "low_confidence": -0.1,
    "high_confidence": 0.05,
    "new_confidence": 0.3,
    "min_low_overlap": float("nan"),
    "min_new_overlap": -1.0,
}
OF_SORT: dict[str, float] = {"min_confidence": 1.5}
OF_OCSORT: dict[str, float] = {
    "min_recovery_overlap": float("nan"),
    "recovery_s": -1.0,
    "direction_weight": float("inf"),
    "direction_s": -0.1,
}
OF_BOTSORT: dict[str, float] = {
    "max_looks_distance": 1.5,
    "min_looks_overlap": -0.5,
    "looks_memory": 2.0,
}
BAD = [
    *[(Sort, *each) for each in (OF_ALL | OF_SORT).items()],
    *[(ByteTrack, *each) for each in (OF_ALL | OF_BYTETRACK).items()],
    *[(OCSort, *each) for each in (OF_ALL | OF_SORT | OF_OCSORT).items()],
    *[(BotSort, *each) for each in (OF_ALL | OF_BYTETRACK | OF_BOTSORT).items()],
]


@pytest.mark.parametrize(("make", "name", "value"), BAD)
def test_a_parameter_out_of_range_is_refused_by_name(make: Make, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        make(**{name: value})


def test_every_parameter_has_been_out_of_range() -> None:
    tried = {(make, name) for make, name, _ in BAD}
    assert tried == {(make, name) for make in OURS for name in signature(make).parameters}


@ours
def test_a_motion_that_turns_people_behind_the_camera_is_refused(make: Make) -> None:
    frames = crossing(5)
    tracker = make()
    seen_by(tracker, frames[:4])
    behind = np.array([[1, 0, 0], [0, 1, 0], [0, -1, 0.0]])
    turned = Detections(frames[4].xyxy, frames[4].confidence, camera_motion=behind)
    with pytest.raises(ValueError, match="camera_motion: expected people to stay in front"):
        tracker.update(turned, interval_s=0.04)
    assert ids(tracker.update(frames[4], interval_s=0.04)) == [1, 2, 3, 4]


@ours
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(8))
def test_boxes_of_any_size_and_place_are_taken_without_a_warning(make: Make, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tracker = make(confirm_frames=1 + seed % 3)
    for _ in range(40):
        n = int(rng.integers(0, 7))
        size = 10.0 ** rng.integers(-3, 12)
        left = rng.uniform(-size, size, (n, 2)).astype(np.float32)
        sides = np.abs(rng.normal(0, size, (n, 2))) * rng.integers(0, 2, (n, 2))
        boxes = np.concatenate([left, left + sides.astype(np.float32)], axis=1)
        looks = rng.normal(size=(n, 4)).astype(np.float32)
        found = Detections(boxes, rng.random(n).astype(np.float32), features=looks)
        tracker.update(found, interval_s=float(rng.choice([0.0, 0.04, 3.0])))
