from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trackers.boxes import Detections, Mask, Tracks
from trackers.bytetrack import ByteTrack

People = Callable[..., Detections]
INTERVAL_S = 0.1


def feed(tracker: ByteTrack, *frames: Detections, interval_s: float = INTERVAL_S) -> list[Tracks]:
    return [tracker.update(f, interval_s=interval_s) for f in frames]


def walk(people: People, n: int, *, start: float = 100.0, **how: float) -> list[Detections]:
    """Return a person walking 8 pixels a frame to the right."""
    return [people((start + 8 * i, 200), **how) for i in range(n)]


def ids(tracks: Tracks) -> list[int]:
    return [int(i) for i in tracks.track_ids]


def test_a_walking_person_has_one_id_from_their_third_frame_on(people: People) -> None:
    seen = [ids(t) for t in feed(ByteTrack(confirm_frames=3), *walk(people, 6))]
    assert seen == [[], [], [1], [1], [1], [1]]


def test_with_one_confirming_frame_people_are_reported_at_once(people: People) -> None:
    tracks = ByteTrack(confirm_frames=1).update(people((100, 200), (400, 200)), interval_s=0.1)
    assert sorted(ids(tracks)) == [1, 2]


def test_a_false_detection_of_two_frames_is_never_reported_nor_ended(people: People) -> None:
    tracker = ByteTrack(confirm_frames=3)
    seen = feed(tracker, *walk(people, 2), *[people()] * 30)
    assert all(len(t) == 0 and t.ended == () for t in seen)
    assert tracker.finish() == ()


def test_a_lost_person_keeps_their_id_within_the_buffer(people: People) -> None:
    tracker = ByteTrack(lost_s=1.5)
    gone_and_back = [*walk(people, 10), *[people()] * 14, *walk(people, 3, start=100 + 8 * 24)]
    seen = feed(tracker, *gone_and_back)
    assert [ids(t) for t in seen[10:24]] == [[]] * 14
    assert [ids(t) for t in seen[24:]] == [[1]] * 3
    assert all(t.ended == () for t in seen)


def test_a_lost_person_ends_after_the_buffer_and_comes_back_as_somebody_new(
    people: People,
) -> None:
    tracker = ByteTrack(lost_s=1.5)
    gone_and_back = [*walk(people, 10), *[people()] * 15, *walk(people, 3, start=100 + 8 * 25)]
    seen = feed(tracker, *gone_and_back)
    assert [t.ended for t in seen].count((1,)) == 1
    assert seen[25].ended == (1,)
    assert ids(seen[-1]) == [2]


def test_a_gap_in_the_video_is_predicted_by_time_and_not_by_call(people: People) -> None:
    # 40 pixels in a gap of 0.5 s: as wide as the person, so that only the prediction bridges it.
    tracker = ByteTrack(box_margin=0.0)
    feed(tracker, *walk(people, 20))
    (after,) = feed(tracker, people((100 + 8 * 24, 200)), interval_s=0.5)
    assert ids(after) == [1]
    still = ByteTrack(box_margin=0.0)
    feed(still, *walk(people, 20))
    (mistaken,) = feed(still, people((100 + 8 * 24, 200)), interval_s=0.0)
    assert ids(mistaken) == []


def test_crossing_people_keep_their_ids(people: People) -> None:
    tracker = ByteTrack()
    frames = [people((100 + 10 * i, 200), (500 - 10 * i, 230)) for i in range(40)]
    seen = feed(tracker, *frames)
    at_first = dict(zip(seen[5].detection_indices.tolist(), ids(seen[5]), strict=True))
    at_last = dict(zip(seen[-1].detection_indices.tolist(), ids(seen[-1]), strict=True))
    assert at_first == at_last
    assert set(at_last.values()) == {1, 2}


def test_unsure_detections_keep_a_track_alive_and_begin_none(people: People) -> None:
    tracker = ByteTrack(low_confidence=0.1, high_confidence=0.5)
    sure, unsure = walk(people, 5), walk(people, 30, start=140, confidence=0.2)
    seen = feed(tracker, *sure, *unsure)
    assert [ids(t) for t in seen[5:]] == [[1]] * 30
    assert seen[-1].confidence.tolist() == pytest.approx([0.2])
    assert all(not ids(t) for t in feed(ByteTrack(), *unsure))


def test_unsure_detections_do_not_bring_back_the_lost(people: People) -> None:
    tracker = ByteTrack()
    feed(tracker, *[people((100, 200))] * 5, people())
    (tracks,) = feed(tracker, people((100, 200), confidence=0.3))
    assert ids(tracks) == []


def test_a_second_box_of_a_person_begins_no_track(people: People) -> None:
    frames = [people((100, 200), (112, 200))] * 10
    assert ids(feed(ByteTrack(), people((100, 200)), *frames)[-1]) == [1]
    permissive = ByteTrack(max_newcomer_overlap=1.0)
    assert len(feed(permissive, people((100, 200)), *frames)[-1]) == 2


def test_a_wider_margin_follows_boxes_that_jump_by_more_than_their_width(people: People) -> None:
    jumps = [people((100 + 45 * (i % 2), 200)) for i in range(12)]
    assert ids(feed(ByteTrack(box_margin=1.0), *jumps)[-1]) == [1]
    assert all(not ids(t) for t in feed(ByteTrack(box_margin=0.0), *jumps))


def test_every_track_names_the_row_and_mask_of_its_detection(people: People) -> None:
    masks = tuple(Mask(np.ones((2, 2), dtype=np.bool_), x, 0) for x in (100, 400))
    found = people((100, 200), (400, 200))
    found = Detections(found.xyxy, np.array([0.6, 0.9], dtype=np.float32), masks)
    tracks = feed(ByteTrack(), *[found] * 4)[-1]
    for i, row in enumerate(tracks.detection_indices):
        np.testing.assert_allclose(tracks.xyxy[i], found.xyxy[row], atol=1e-3)
        assert tracks.confidence[i] == found.confidence[row]
        assert tracks.masks is not None
        assert tracks.masks[i] is masks[row]


def test_the_fixture_stays_small() -> None:
    assert (Path(__file__).parents[1] / "data" / "vtest-detections.npz").stat().st_size < 200_000
