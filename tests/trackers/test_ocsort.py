"""The three parts of OC-SORT: momentum, recovery, re-update."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from trackers.association import overlapping
from trackers.boxes import Detections, Tracks
from trackers.kalman import XYSR, BoxFilter
from trackers.ocsort import OCSort

People = Callable[..., Detections]
Floats = NDArray[np.float64]


def ids(tracks: Tracks) -> list[int]:
    return [int(i) for i in tracks.track_ids]


def feed(tracker: OCSort, *frames: Detections, interval_s: float = 0.1) -> list[Tracks]:
    return [tracker.update(f, interval_s=interval_s) for f in frames]


def box(x: float, y: float) -> Floats:
    return np.array([[x - 20, y - 50, x + 20, y + 50]])


@pytest.mark.parametrize("hidden", [1, 3, 7])
def test_a_track_found_again_has_the_state_of_one_seen_on_the_straight_line(
    people: People, hidden: int
) -> None:
    tracker = OCSort(confirm_frames=1)
    way = [(100.0 + 8 * i, 200.0) for i in range(6)]
    found = (140.0 + 5 * (hidden + 1), 206.0)
    feed(tracker, *[people(p) for p in way], *[people()] * hidden, people(found))
    # One track at a time, one frame at a time, every virtual observation written out.
    noises = ("box_noise", "position_noise", "velocity_noise")
    kalman = BoxFilter(XYSR, **{name: getattr(tracker, name) for name in noises})
    state = kalman.start(box(*way[0]))
    for p in way[1:]:
        state = kalman.correct(kalman.predict(state, 0.1), box(*p))
    last = way[-1]
    for k in range(1, hidden + 2):
        share = k / (hidden + 1)
        x = last[0] + share * (found[0] - last[0])
        y = last[1] + share * (found[1] - last[1])
        state = kalman.correct(kalman.predict(state, 0.1), box(x, y))
    np.testing.assert_allclose(tracker._table.states.values, state.values, rtol=1e-6, atol=1e-6)


def test_a_gap_of_many_frames_is_gone_in_a_few_steps(people: People) -> None:
    tracker = OCSort(lost_s=60.0, min_overlap=0.0, confirm_frames=1)
    feed(tracker, *[people((100, 200))] * 5, interval_s=0.01)
    feed(tracker, *[people()] * 3000, interval_s=0.01)
    (after,) = feed(tracker, people((110, 200)), interval_s=0.01)
    assert ids(after) == [1]
    velocity = tracker._table.states.velocity[0, :2]
    assert np.abs(velocity).max() < 2  # 10 pixels in 30 s


def test_a_person_who_stopped_is_recovered_where_they_were_last_seen(people: People) -> None:
    walk = [people((100 + 20 * i, 200)) for i in range(12)]
    hidden = [people()] * 4
    stopped = people((320, 200))
    for recovery_s, expected in ((0.5, [1]), (0.4, [])):
        tracker = OCSort(box_margin=0.0, min_recovery_overlap=0.3, recovery_s=recovery_s)
        assert ids(feed(tracker, *walk, *hidden, stopped)[-1]) == expected
    without = OCSort(box_margin=0.0, recovery_s=0.5, min_recovery_overlap=1.0)
    assert ids(feed(without, *walk, *hidden, stopped)[-1]) == []


def lost_encounters(people: People, direction_weight: float) -> int:
    """Return in how many of 60 encounters, badly boxed and seen half the time, ids were lost."""
    lost = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        tracker = OCSort(
            direction_weight=direction_weight,
            confirm_frames=1,
            box_margin=0.2,
            min_recovery_overlap=0.3,
            box_noise=0.2,
        )
        whose = set()
        for i in range(30):
            places = np.array([[100 + 4 * i, 200], [216 - 4 * i, 206]]) + rng.normal(0, 8, (2, 2))
            is_seen = rng.random(2) > (0.5 if 8 < i < 20 else 0.0)
            (tracks,) = feed(tracker, people(*places[is_seen].tolist()))
            persons = np.flatnonzero(is_seen)[tracks.detection_indices].tolist()
            if i in (7, 29):
                whose |= set(zip(persons, ids(tracks), strict=True))
        lost += len(whose) != 2
    return lost


def test_momentum_loses_fewer_people_who_walk_past_each_other(people: People) -> None:
    # Measured: 19 and 22.
    assert lost_encounters(people, 1.0) < lost_encounters(people, 0.0)


def test_the_direction_of_a_walk_is_the_angle_of_the_naive_loop(people: People) -> None:
    rng = np.random.default_rng(0)
    tracker = OCSort(confirm_frames=1, direction_weight=0.3, min_overlap=0.05)
    for i in range(6):
        feed(tracker, people(*[(100 + 30 * k + 3 * i, 200 + 4 * i * (k - 2)) for k in range(5)]))
    known = tracker._table
    scene = tracker._scene(people(*rng.uniform(100, 260, (6, 2)).tolist()), 0.1)
    pairs = overlapping(known.last, scene.wide)
    agreeing = tracker._with_momentum(pairs, known, scene)
    assert len(pairs.rows) > 5
    for row, column, overlap, found in zip(*pairs, agreeing, strict=True):
        expected = 0.0
        if overlap > 0.05:
            track = (known.last[row, :2] + known.last[row, 2:]) / 2 - known.anchor[row]
            centre = (scene.xyxy[column, :2] + scene.xyxy[column, 2:]) / 2
            other = centre - known.anchor[row]
            cosine = track @ other / (np.linalg.norm(track) * np.linalg.norm(other))
            angle = np.arccos(np.clip(cosine, -1, 1))
            expected = overlap + 0.3 * (1 - angle / np.pi)
        assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("fps", [5, 10, 25, 60])
def test_directions_are_taken_over_the_same_time_at_every_frame_rate(
    people: People, fps: int
) -> None:
    tracker = OCSort(confirm_frames=1, direction_s=0.3)
    for i in range(2 * fps):
        feed(tracker, people((100 + 50 * i / fps, 200)), interval_s=1 / fps)
        if i >= fps:
            known = tracker._table
            way = known.last[0, [0, 2]].mean() - known.anchor[0, 0]
            assert 0.3 - 1e-3 <= way / 50 <= 2 * 0.3 + 1 / fps + 1e-3


def test_people_are_reported_where_they_were_seen(people: People) -> None:
    rng = np.random.default_rng(0)
    tracker = OCSort(confirm_frames=1)
    for _ in range(10):
        found = people(*rng.normal((100, 200), 4, (1, 2)).tolist())
        (tracks,) = feed(tracker, found)
        np.testing.assert_array_equal(tracks.xyxy, found.xyxy[tracks.detection_indices])
