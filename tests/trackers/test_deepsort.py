from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackers.boxes import Detections, Mask, Tracks
from trackers.deepsort import DeepSort

pytest.importorskip("deep_sort_realtime")
People = Callable[..., Detections]
RED, BLUE = np.eye(8, dtype=np.float32)[:2]


def looking(found: Detections, *looks: NDArray[np.float32]) -> Detections:
    features = np.array(looks, dtype=np.float32).reshape(len(found), -1)
    return Detections(found.xyxy, found.confidence, found.masks, features)


def feed(tracker: DeepSort, *frames: Detections, interval_s: float = 0.04) -> list[Tracks]:
    return [tracker.update(f, interval_s=interval_s) for f in frames]


def ids(tracks: Tracks) -> list[int]:
    return [int(i) for i in tracks.track_ids]


def test_a_walking_person_has_one_id_from_their_third_frame_on(people: People) -> None:
    frames = [looking(people((100 + 4 * i, 200)), RED) for i in range(6)]
    assert [ids(t) for t in feed(DeepSort(), *frames)] == [[], [], [1], [1], [1], [1]]


def test_appearance_keeps_apart_people_who_turn_round_where_they_meet(people: People) -> None:
    # Motion and overlap alone would carry both ids on through each other.
    way = [*range(100, 200, 5), *range(200, 100, -5)]
    frames = [looking(people((x, 200), (401 - x, 200)), RED, BLUE) for x in way]
    seen = feed(DeepSort(max_cosine_distance=0.3), *frames)
    by_row = [dict(zip(t.detection_indices.tolist(), ids(t), strict=True)) for t in seen]
    assert by_row[5] == by_row[-1]
    assert set(by_row[-1].values()) == {1, 2}


def test_a_coasting_track_is_not_reported(people: People) -> None:
    frames = [looking(people((100, 200)), RED)] * 5
    seen = feed(DeepSort(), *frames, Detections())
    assert (ids(seen[-2]), ids(seen[-1])) == ([1], [])
    assert seen[-1].ended == ()


def test_a_lost_person_keeps_their_id_within_the_buffer_and_loses_it_after(people: People) -> None:
    person = looking(people((100, 200)), RED)
    for lost_frames, expected in ((24, 1), (26, 2)):
        tracker = DeepSort(lost_s=1.0)
        feed(tracker, *[person] * 5, *[Detections()] * (lost_frames - 1))
        after = feed(tracker, *[person] * 3)
        assert ids(after[-1]) == [expected]
        assert [i for t in after for i in t.ended] == ([1] if expected == 2 else [])


def test_a_gap_in_the_video_is_bridged_by_as_many_motion_steps(people: People) -> None:
    # Without appearance to help (a new look), overlap must find the person 60 pixels on.
    for interval_s, expected in ((0.6, [1]), (0.04, [])):
        tracker = DeepSort()
        feed(tracker, *[looking(people((100 + 4 * i, 200)), RED) for i in range(30)])
        (after,) = feed(tracker, looking(people((100 + 4 * 44, 200)), BLUE), interval_s=interval_s)
        assert ids(after) == expected


def test_a_gap_longer_than_the_buffer_ends_everybody(people: People) -> None:
    person = looking(people((100, 200)), RED)
    tracker = DeepSort(lost_s=1.0)
    feed(tracker, *[person] * 5)
    (after,) = feed(tracker, person, interval_s=3600.0)
    assert (ids(after), after.ended) == ([], (1,))


def test_rows_stay_right_beside_empty_and_unsure_boxes(people: People) -> None:
    found = people((100, 200), (300, 200), (500, 200))
    found.xyxy[0, 2] = found.xyxy[0, 0]
    masks = tuple(Mask(np.ones((1, 1), dtype=np.bool_), x, 0) for x in (1, 2, 3))
    confidence = np.array([0.9, 0.1, 0.8], dtype=np.float32)
    found = Detections(found.xyxy, confidence, masks, np.eye(3, dtype=np.float32))
    tracks = feed(DeepSort(), *[found] * 4)[-1]
    assert tracks.detection_indices.tolist() == [2]
    assert tracks.confidence.tolist() == pytest.approx([0.8])
    assert tracks.masks == (masks[2],)
    np.testing.assert_allclose(tracks.xyxy[0], found.xyxy[2], atol=0.5)


def test_finish_ends_everybody_and_ids_go_on(people: People) -> None:
    person = looking(people((100, 200)), RED)
    tracker = DeepSort()
    feed(tracker, *[person] * 4)
    assert (tracker.finish(), tracker.finish()) == ((1,), ())
    assert ids(feed(tracker, *[person] * 4)[-1]) == [2]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1)), max_size=4, unique=True),
        max_size=15,
    )
)
def test_ids_are_unique_end_exactly_once_and_never_return(
    frames: list[list[tuple[int, int]]],
) -> None:
    tracker = DeepSort(lost_s=0.12, confirm_frames=2)
    ended: list[int] = []
    seen: set[int] = set()
    for places in frames:
        boxes = [[30 * x, 0, 30 * x + 40, 100] for x, _ in places]
        found = Detections(
            np.array(boxes, dtype=np.float32).reshape(-1, 4),
            np.full(len(places), 0.9, dtype=np.float32),
            features=np.eye(2, dtype=np.float32)[[look for _, look in places]].reshape(-1, 2),
        )
        tracks = tracker.update(found, interval_s=0.04)
        ended += tracks.ended
        seen |= set(ids(tracks))
        assert len(set(ids(tracks))) == len(set(tracks.detection_indices.tolist())) == len(tracks)
        assert not set(ids(tracks)) & set(ended)
    ended += tracker.finish()
    assert len(ended) == len(set(ended))
    assert set(ended) == seen


def test_memory_stays_bounded(people: People) -> None:
    tracker = DeepSort(features_per_track=5, lost_s=0.2)
    places = np.random.default_rng(0).uniform(0, 600, (400, 2)).round()
    for i in range(1200):
        feed(tracker, looking(people(tuple(places[i // 3]), (2000, 200)), RED, BLUE))
    samples = tracker._library.tracker.metric.samples
    assert max(map(len, samples.values())) <= 5
    assert max(len(samples), len(tracker._ids), len(tracker._unseen_s)) <= 10


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (None, "run an appearance stage before DeepSORT"),
        (np.zeros((1, 8), dtype=np.float32), "finite vectors of length 1"),
        (np.full((1, 8), np.nan, dtype=np.float32), "finite vectors of length 1"),
        (np.ones((1, 9), dtype=np.float32), "expected 8 numbers"),
    ],
    ids=["missing", "zero", "nan", "other size"],
)
def test_unusable_features_are_refused_and_change_nothing(
    people: People, features: NDArray[np.float32] | None, words: str
) -> None:
    tracker = DeepSort()
    person = looking(people((100, 200)), RED)
    feed(tracker, *[person] * 4)
    bad = looking(person, RED)
    object.__setattr__(bad, "features", features)  # as a stage may that writes into an array
    with pytest.raises(ValueError, match=words):
        tracker.update(bad, interval_s=0.04)
    with pytest.raises(ValueError, match="interval_s: expected seconds"):
        tracker.update(person, interval_s=-1.0)
    (after,) = feed(tracker, person)
    assert ids(after) == [1]


def test_a_missing_library_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "deep_sort_realtime.deepsort_tracker", None)
    with pytest.raises(ImportError, match="pip install --no-deps deep-sort-realtime"):
        DeepSort()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_confidence", 1.5),
        ("max_cosine_distance", -0.1),
        ("min_overlap", float("nan")),
        ("lost_s", -1.0),
        ("confirm_frames", 1),
        ("features_per_track", 0),
        ("frame_interval_s", 0.0),
    ],
)
def test_a_parameter_out_of_range_is_refused_by_name(name: str, value: float) -> None:
    parameters: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        DeepSort(**parameters)
