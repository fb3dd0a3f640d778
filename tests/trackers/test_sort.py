from __future__ import annotations

from collections.abc import Callable

from trackers.boxes import Detections, Tracks
from trackers.sort import Sort

People = Callable[..., Detections]


def ids(tracks: Tracks) -> list[int]:
    return [int(i) for i in tracks.track_ids]


def feed(tracker: Sort, *frames: Detections) -> list[Tracks]:
    return [tracker.update(f, interval_s=0.04) for f in frames]


def test_unsure_detections_are_ignored(people: People) -> None:
    sure, unsure = people((100, 200)), people((100, 200), confidence=0.4)
    assert ids(feed(Sort(min_confidence=0.5), *[sure] * 3, unsure)[-1]) == []
    assert ids(feed(Sort(min_confidence=0.3), *[sure] * 3, unsure)[-1]) == [1]


def test_a_pair_that_overlaps_too_little_is_none(people: People) -> None:
    # 20 of 40 pixels aside: a third of what both cover.
    for min_overlap, expected in ((0.32, [1]), (0.34, [])):
        tracker = Sort(min_overlap=min_overlap, box_margin=0.0)
        feed(tracker, *[people((100, 200))] * 20)
        assert ids(feed(tracker, people((120, 200)))[-1]) == expected


def test_with_a_buffer_of_one_frame_a_track_ends_when_it_misses_one(people: People) -> None:
    person = people((100, 200))
    seen = feed(Sort(lost_s=0.04), *[person] * 4, people(), people(), *[person] * 4)
    assert [t.ended for t in seen].index((1,)) == 5
    assert ids(seen[-1]) == [2]
