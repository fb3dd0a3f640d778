from __future__ import annotations

from collections.abc import Callable

import pytest

from gait.tracklet import Tracklet
from pipeline.gallery.sightings import SightingBook
from pipeline.values import Match, Sighting

MakeTracklet = Callable[..., Tracklet]


def known(distance: float | None = 0.5) -> Match:
    return Match("person-001", distance, 1.0)


NEW = Match("person-001", 3.0, 1.0, is_new=True)


def test_a_track_gives_one_sighting_when_it_ends(tracklet: MakeTracklet) -> None:
    book = SightingBook()
    first = tracklet(4, 0.0, quality=0.9, reasons=(("edge", 2), ("small", 1)))
    second = tracklet(4, 1.5, quality=0.5, num=15, seen_s=(0.0, 3.5), reasons=(("edge", 3),))
    end = tracklet(4, num=0, seen_s=(0.0, 5.0), reasons=(("occluded", 7),), is_last=True)
    assert book.collect([first, second], [known(0.6), known(0.4)]) == []
    assert book.collect([end], [None]) == [
        Sighting(
            identity="person-001",
            stream="door",
            track_id=4,
            start_s=0.0,
            end_s=5.0,
            distance=0.4,
            is_new=False,
            quality=pytest.approx((0.9 * 30 + 0.5 * 15) / 45),
            num_silhouettes=30,  # frames 0..29; the second window, 15..29, lies within
            tracklets=("door/4/0", "door/4/15"),
            reasons=(("edge", 5), ("occluded", 7), ("small", 1)),
        )
    ]
    assert book.close() == []


def test_silhouettes_in_two_windows_count_once(tracklet: MakeTracklet) -> None:
    book = SightingBook()
    windows = [tracklet(1, start) for start in (0.0, 1.5, 3.0)]
    book.collect(windows, [known()] * 3)
    assert book.close()[0].num_silhouettes == 60


def test_a_track_that_founded_an_identity_has_no_distance(tracklet: MakeTracklet) -> None:
    book = SightingBook()
    (sighting,) = book.collect(
        [tracklet(1, 0.0), tracklet(1, 3.0, is_last=True)], [NEW, known(0.2)]
    )
    assert sighting.is_new
    assert sighting.distance is None


def test_a_sighting_says_what_the_last_match_said_of_all_windows(tracklet: MakeTracklet) -> None:
    book = SightingBook()
    last = Match("person-002", 0.0, 1.0, probability=0.8)
    book.collect([tracklet(1, 3.0 * n) for n in range(3)], [NEW, known(0.3), last])
    (sighting,) = book.close()
    assert (sighting.identity, sighting.distance, sighting.probability) == ("person-002", 0.0, 0.8)
    assert not sighting.is_new  # it founded another identity, and left it


def test_a_track_that_became_unknown_again_is_nobody(tracklet: MakeTracklet) -> None:
    book = SightingBook()
    book.collect([tracklet(1), tracklet(1, 3.0)], [known(0.3), Match(None, 1.4, 1.0)])
    (sighting,) = book.close()
    assert sighting.identity is None
    assert sighting.distance is None


def test_a_track_without_silhouettes_is_sighted_as_nobody_with_reasons(
    tracklet: MakeTracklet,
) -> None:
    (sighting,) = SightingBook().collect(
        [tracklet(9, num=0, reasons=(("small", 40),), is_last=True)], [None]
    )
    assert sighting.identity is None
    assert sighting.distance is None
    assert sighting.quality == 0.0
    assert sighting.num_silhouettes == 0
    assert sighting.tracklets == ()
    assert sighting.reasons == (("small", 40),)


def test_tracks_still_open_are_sighted_at_the_end(tracklet: MakeTracklet) -> None:
    book = SightingBook()
    book.collect(
        [tracklet(1), tracklet(2), tracklet(1, stream="yard")],
        [NEW, Match("person-002", None, 1.0, is_new=True), known()],
    )
    book.collect([tracklet(1, 3.0, is_last=True)], [known()])
    rest = book.close()
    assert [(sighting.stream, sighting.track_id) for sighting in rest] == [("door", 2), ("yard", 1)]
    assert book.close() == []


def test_matches_must_fit_the_tracklets(tracklet: MakeTracklet) -> None:
    with pytest.raises(ValueError, match="shorter"):
        SightingBook().collect([tracklet(), tracklet(2)], [known()])
