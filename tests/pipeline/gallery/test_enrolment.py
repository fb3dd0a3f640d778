"""Which walks of a video somebody is enrolled by; the videos themselves are in test_gallery.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gait.tracklet import Tracklet
from pipeline.errors import GalleryError
from pipeline.gallery.enrolment import Walk, Walks, choose

MakeTracklet = Callable[..., Tracklet]
EMBEDDING = np.zeros((256, 16), np.float32)


def found(*tracklets: Tracklet) -> Walks:
    walks: dict[int, Walk] = {}
    for each in tracklets:
        walk = walks.setdefault(each.track_id, Walk(each.stream, each.track_id, each.seen_s))
        walk.hear(each, EMBEDDING if len(each) else None, 15)
    return Walks(tuple(walks.values()), "a" * 64)


def test_one_person_needs_no_choice_and_passers_by_do_not_count(tracklet: MakeTracklet) -> None:
    [walk] = choose(
        found(tracklet(1), tracklet(1, 3.0), tracklet(2, num=4), tracklet(3, num=0)),
        [],
        min_length=15,
    )
    assert (walk.track_id, len(walk.exemplars()), walk.seen_s) == (1, 2, (0.0, 6.0))


def test_of_two_people_it_is_asked_who(tracklet: MakeTracklet) -> None:
    two = found(tracklet(1), tracklet(2, 5.0))
    with pytest.raises(GalleryError, match="got 2 tracks") as caught:
        choose(two, [], min_length=15)
    assert "--track door/1: 0:00.0 to 0:03.0" in str(caught.value)
    assert "--track door/2: 0:05.0 to 0:08.0" in str(caught.value)
    assert [walk.track_id for walk in choose(two, ["2"], min_length=15)] == [2]
    assert [walk.track_id for walk in choose(two, ["door/1", "2"], min_length=15)] == [1, 2]
    with pytest.raises(GalleryError, match=r"--track 7: expected one of door/1, door/2"):
        choose(two, ["7"], min_length=15)


def test_two_people_seen_at_once_are_not_one(tracklet: MakeTracklet) -> None:
    two = found(tracklet(1, companions=(2,)), tracklet(2))
    for wanted in (["1", "2"], ["2", "1"]):
        with pytest.raises(GalleryError, match="two people who are seen at the same time"):
            choose(two, wanted, min_length=15)


def test_too_short_a_walk_says_what_is_needed_and_what_came(tracklet: MakeTracklet) -> None:
    short = found(tracklet(1, num=9, seconds=1.4, reasons=(("occluded", 5),)), tracklet(2, num=2))
    with pytest.raises(GalleryError) as caught:
        choose(short, [], min_length=15)
    said = str(caught.value)
    assert "at least 15 silhouettes without a break, got 9 in 1.4 s of track door/1" in said
    assert "takes 1.5 s" in said  # 14 frames in 1.4 s
    assert "occluded 5" in said
    with pytest.raises(GalleryError, match="got 2 in"):
        choose(short, ["2"], min_length=15)


def test_an_empty_video_says_that_nobody_was_found() -> None:
    with pytest.raises(GalleryError, match="no person was found"):
        choose(found(), [], min_length=15)
