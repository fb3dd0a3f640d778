"""What BoT-SORT adds to ByteTrack: looks. (Its camera is tested with all trackers.)"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from trackers.association import overlapping
from trackers.botsort import BotSort
from trackers.boxes import Detections, Tracks

People = Callable[..., Detections]
RED, BLUE = np.eye(8, dtype=np.float32)[:2]


def ids(tracks: Tracks) -> list[int]:
    return [int(i) for i in tracks.track_ids]


def feed(tracker: BotSort, *frames: Detections) -> list[Tracks]:
    return [tracker.update(f, interval_s=0.04) for f in frames]


def looking(found: Detections, *looks: NDArray[np.float32]) -> Detections:
    features = np.array(looks, dtype=np.float32).reshape(len(found), -1)
    return Detections(found.xyxy, found.confidence, found.masks, features)


def by_row(tracks: Tracks) -> dict[int, int]:
    return dict(zip(tracks.detection_indices.tolist(), ids(tracks), strict=True))


def turning_round(people: People) -> list[Detections]:
    """Return two people who meet, turn round, and walk back: motion alone swaps them."""
    way = [*range(100, 152, 4), *range(152, 100, -4)]
    return [looking(people((x, 200), (301 - x, 200)), RED, BLUE) for x in way]


def test_looks_keep_apart_people_who_turn_round_where_they_meet(people: People) -> None:
    frames = turning_round(people)
    seen = feed(BotSort(max_newcomer_overlap=1.0), *frames)
    blind = feed(BotSort(max_newcomer_overlap=1.0, max_looks_distance=0.0), *frames)
    assert set(by_row(seen[5]).values()) == {1, 2}
    assert by_row(seen[5]) == by_row(seen[-1])
    assert by_row(blind[5]) != by_row(blind[-1])


def test_a_pair_costs_what_the_papers_equation_says(people: People) -> None:
    tracker = BotSort(
        confirm_frames=1, box_margin=0.0, max_looks_distance=0.25, min_looks_overlap=0.5
    )
    feed(tracker, looking(people((100, 200), (300, 200)), RED, BLUE))
    mixed = np.float32(0.8) * RED + np.float32(0.6) * BLUE
    found = looking(people((104, 200), (112, 200), (300, 200)), mixed, RED, RED)
    scene = tracker._scene(found, 0.04)
    known = tracker._table
    wide = tracker._filter.xyxy(known.states)
    pairs = overlapping(wide, scene.wide)
    alike = tracker._alike(pairs, known, scene)
    assert scene.features is not None
    for row, column, overlap, found_alike in zip(*pairs, alike, strict=True):
        d_iou = 1 - overlap
        d_cos = 1 - float(known.features[row] @ scene.features[column])
        d = 0.5 * d_cos if d_cos < 0.25 and d_iou < 0.5 else 1.0
        assert found_alike == pytest.approx(1 - min(d_iou, d), abs=1e-6)
    assert (alike > pairs.overlap).any()
    assert (alike == pairs.overlap).any()


def test_what_a_person_looks_like_is_a_running_mean(people: People) -> None:
    tracker = BotSort(confirm_frames=1, looks_memory=0.75)
    feed(tracker, looking(people((100, 200)), RED), looking(people((100, 200)), BLUE))
    expected = np.float32(0.75) * RED + np.float32(0.25) * BLUE
    np.testing.assert_allclose(
        tracker._table.features[0], expected / np.linalg.norm(expected), atol=1e-6
    )


def test_looks_may_come_late_be_missing_or_be_nothing(people: People) -> None:
    person = people((100, 200))
    nothing = np.zeros(8, dtype=np.float32)
    tracker = BotSort()
    seen = feed(
        tracker,
        *[person] * 3,
        looking(person, nothing),
        looking(person, RED),
        person,
        looking(person, nothing),
        looking(person, BLUE),
    )
    assert [ids(t) for t in seen[2:]] == [[1]] * 6
    assert tracker._table.features[0, 0] > tracker._table.features[0, 1] > 0


def test_vectors_need_not_be_of_length_one(people: People) -> None:
    frames = turning_round(people)
    long = [looking(f, *(f.features * 37)) for f in frames if f.features is not None]
    one, other = BotSort(), BotSort()
    for a, b in zip(feed(one, *frames), feed(other, *long), strict=True):
        assert ids(a) == ids(b)
