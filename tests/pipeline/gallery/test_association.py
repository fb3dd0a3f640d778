"""People over cameras: the gallery with clocks, places and second thoughts."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gait.tracklet import Box, Tracklet
from pipeline.gallery.association import Association
from pipeline.gallery.config import GalleryConfig
from pipeline.gallery.exemplar import Enrolment, Exemplar
from pipeline.gallery.gallery import Gallery
from pipeline.gallery.sightings import SightingBook
from pipeline.gallery.store import GalleryStore
from pipeline.gallery.whereabouts import Way
from pipeline.values import Embedding, Match, Sighting

MakeTracklet = Callable[..., Tracklet]


def open_gallery(**more: object) -> Gallery:
    config = {"threshold": 1.0, "whereabouts": {"shared_clock": True}, **more}
    return GalleryConfig.model_validate(config).build(model_hash="a" * 64, threshold=None)


def at(distance: float) -> Embedding:
    """Return the embedding whose distance to `at(0)` is `distance`."""
    return np.full((256, 16), distance / 16, np.float32)


def match(gallery: Gallery, tracklet: Tracklet, distance: float) -> Match:
    return gallery.match([tracklet], [at(distance)])[0]


def test_who_is_on_another_camera_meanwhile_is_somebody_else(tracklet: MakeTracklet) -> None:
    with open_gallery() as gallery:
        match(gallery, tracklet(1, 0.0, seconds=9, stream="door"), 0)
        assert match(gallery, tracklet(1, 3.0, stream="yard"), 0.1).is_new


def test_cameras_that_look_at_one_place_are_found_out_and_their_people_put_together(
    tracklet: MakeTracklet,
) -> None:
    with open_gallery(whereabouts={"shared_clock": True, "most_odds": 0}) as gallery:
        for person in range(12):  # each is on both at once, and comes nearer than all others
            for place, stream in enumerate(("door", "yard")):
                walk = tracklet(person, 20.0 * person, seconds=9, stream=stream, is_last=True)
                # 0.8 apart: within the threshold, though not by as much as second thoughts ask for
                match(gallery, walk, 3.0 * person + 0.8 * place)
            if person == 0:
                assert len(gallery) == 2, "at first, nobody is in two places at once"
        gallery.settle()
        assert len(gallery) == 12


@pytest.mark.parametrize(("step", "chosen"), [(0, 1), (4, 2)], ids=["at once", "later"])
def test_second_thoughts_ask_for_no_lead_of_who_is_on_an_overlapping_camera_at_once(
    step: int, chosen: int
) -> None:
    ways = {1: Way("door", "yard", step)}
    assert Association.better(2, [(1, 0.85), (2, 0.9)], ways, limit=1.0) == chosen
    assert Association.better(2, [(2, 0.85), (1, 0.9)], ways, limit=1.0) == 2


def test_who_left_one_camera_is_found_on_another(tracklet: MakeTracklet) -> None:
    with open_gallery() as gallery:
        match(gallery, tracklet(1, 0.0, stream="door", is_last=True), 0)
        assert match(gallery, tracklet(1, 13.0, stream="yard"), 0.1).identity == "person-001"


def test_recordings_without_a_common_clock_rule_nobody_out(tracklet: MakeTracklet) -> None:
    with open_gallery(whereabouts={}) as gallery:
        match(gallery, tracklet(1, 0.0, seconds=9, stream="door"), 0)
        assert match(gallery, tracklet(1, 3.0, stream="yard"), 0.1).identity == "person-001"


def test_somebody_hidden_for_a_moment_is_the_same_on_one_camera(tracklet: MakeTracklet) -> None:
    with open_gallery() as gallery:
        match(gallery, tracklet(1, 0.0, is_last=True), 0)
        assert match(gallery, tracklet(2, 4.0), 0.4).identity == "person-001"


def box(x: float) -> Box:
    return x, 0.0, x + 40, 100.0


def test_who_comes_out_where_somebody_went_in_may_look_less_like_him(
    tracklet: MakeTracklet,
) -> None:
    went_in, came_out, elsewhere = (
        (box(0.0), box(145.0)), (box(300.0), box(445.0)), (box(900.0), box(755.0))
    )  # fmt: skip
    for boxes, most, identity in (
        (came_out, 4.0, "person-001"),
        (came_out, 0.0, "person-002"),
        (elsewhere, 4.0, "person-002"),
        (None, 4.0, "person-002"),
    ):
        with open_gallery(whereabouts={"most_place_odds": most}) as gallery:
            match(gallery, tracklet(1, 0.0, boxes=went_in, is_last=True), 0)
            # 1.1 apart: a little beyond the threshold
            assert match(gallery, tracklet(2, 6.0, boxes=boxes), 1.1).identity == identity


def test_who_comes_out_elsewhere_at_once_must_look_more_like_him(tracklet: MakeTracklet) -> None:
    for most, is_new in ((4.0, True), (0.0, False)):
        with open_gallery(whereabouts={"most_place_odds": most}) as gallery:
            match(gallery, tracklet(1, 0.0, boxes=(box(0.0), box(0.0)), is_last=True), 0)
            far = tracklet(2, 4.0, boxes=(box(900.0), box(900.0)))
            assert match(gallery, far, 0.95).is_new == is_new


def test_of_two_who_claim_to_be_somebody_the_nearer_one_is(tracklet: MakeTracklet) -> None:
    with open_gallery() as gallery:
        match(gallery, tracklet(1, 0.0, stream="door", is_last=True), 0)
        match(gallery, tracklet(1, 20.0, stream="hall"), 0.9)
        assert match(gallery, tracklet(1, 21.0, stream="yard"), 0.1).identity == "person-001"
        later = match(gallery, tracklet(1, 23.0, stream="hall"), 0.9)
        assert later.identity != "person-001"
        assert later.is_new, "nobody was that before"


def test_a_track_that_ended_is_revised_when_more_is_known(tracklet: MakeTracklet) -> None:
    with open_gallery() as gallery:
        match(gallery, tracklet(1, 0.0, is_last=True), 0)
        match(gallery, tracklet(2, 10.0), 0.7)
        match(gallery, tracklet(3, 11.0, companions=(2,), is_last=True), 1.4)
        assert gallery.revisions() == []
        # The second person comes back, and looks as the track that was taken for the first one.
        gallery.note([tracklet(2, 13.0, num=0, is_last=True)])
        match(gallery, tracklet(4, 30.0, is_last=True), 0.75)
        gallery.settle()
        assert all(each.was != each.identity for each in gallery.revisions())
        assert gallery.revisions() == []  # told once


def test_a_companion_who_becomes_known_late_takes_a_track_its_identity(
    tracklet: MakeTracklet,
) -> None:
    with open_gallery() as gallery:
        match(gallery, tracklet(1, 0.0), 0)
        match(gallery, tracklet(2, 1.0), 0.5)  # nobody said yet that both were in one frame
        gallery.note([tracklet(2, 5.0, num=0, companions=(1,), is_last=True)])
        [revision] = gallery.revisions()
        assert (revision.track_id, revision.was) == (2, "person-001")
        assert revision.identity == "person-002"


def sightings_of(gallery: Gallery, tracklets: list[tuple[Tracklet, float]]) -> list[Sighting]:
    book, sightings = SightingBook(), []
    for each, distance in tracklets:
        sightings += book.collect([each], [match(gallery, each, distance)])
        sightings += book.revise(gallery.revisions())
    return sightings


def test_a_track_that_goes_over_to_somebody_else_gives_two_sightings(
    tracklet: MakeTracklet,
) -> None:
    walk = [0.0, 0.1, 5.0, 5.1]
    tracklets = [
        (tracklet(1, 3.0 * n, seen_s=(0.0, 3.0 * n + 3), is_last=n == 3), d)
        for n, d in enumerate(walk)
    ]
    with open_gallery() as gallery:
        first, second = sightings_of(gallery, tracklets)
        assert len(gallery) == 2
    assert (first.identity, second.identity) == ("person-001", "person-002")
    assert first.start_s == 0.0
    assert first.end_s <= second.start_s == 6.0
    assert first.tracklets == ("door/1/0", "door/1/30")
    assert second.tracklets == ("door/1/60", "door/1/90")
    assert dict(first.reasons)["switched"] == dict(second.reasons)["switched"] == 1


def test_whom_a_track_went_over_to_is_recognised(tracklet: MakeTracklet) -> None:
    with open_gallery() as gallery:
        match(gallery, tracklet(9, -60.0, stream="yard", is_last=True), 5.0)
        for n, distance in enumerate([0.0, 0.1, 5.0]):
            match(gallery, tracklet(1, 3.0 * n), distance)
        switched = match(gallery, tracklet(1, 9.0), 5.1)
        assert switched.identity == "person-001"
        assert switched.switched_at_s == 6.0


def test_whom_a_track_went_over_to_by_name_is_not_new(
    tmp_path: Path, tracklet: MakeTracklet
) -> None:
    path = tmp_path / "people.gallery"
    with GalleryStore(path, model_hash="a" * 64) as store:
        for name, distance in (("Anna", 0.0), ("Berta", 5.0)):
            walk = tracklet(stream=name)
            store.enrol(name, [Exemplar.of(walk, at(distance))], Enrolment("consent"))
    with open_gallery(path=str(path), mode="named") as gallery:
        for n, distance in enumerate([0.0, 0.1, 5.0]):
            match(gallery, tracklet(1, 3.0 * n), distance)
        switched = match(gallery, tracklet(1, 9.0), 5.1)
    assert (switched.identity, switched.is_new) == ("Berta", False)
    assert switched.switched_at_s == 6.0


def test_an_ended_sighting_is_given_anew_with_who_it_was_said_to_be(
    tracklet: MakeTracklet,
) -> None:
    first = tracklet(1, 0.0)
    second = tracklet(2, 1.0, is_last=True)
    late = tracklet(1, 15.0, companions=(2,))
    with open_gallery() as gallery:
        told, revised = sightings_of(gallery, [(first, 0.0), (second, 0.5), (late, 0.0)])[:2]
    assert told.identity == revised.was == "person-001"
    assert revised.is_revision
    assert revised.is_new
    assert revised.identity == "person-002"
    assert (revised.track_id, revised.start_s) == (told.track_id, told.start_s)


def test_memory_does_not_grow_with_time(tracklet: MakeTracklet) -> None:
    with open_gallery(remember_s=60.0) as gallery:
        for n in range(60):
            match(gallery, tracklet(n, 20.0 * n, stream="ab"[n % 2], is_last=True), 0)
        assert len(gallery._tracks) < 12


@pytest.mark.parametrize(("left_s", "identity"), [(3600.0, "Anna"), (-1.0, None)])
def test_nobody_is_recognised_once_their_enrolment_has_expired(
    tmp_path: Path, tracklet: MakeTracklet, left_s: float, identity: str | None
) -> None:
    path = tmp_path / "people.gallery"
    clock = time.time() - 7200
    with GalleryStore(path, model_hash="a" * 64, clock=lambda: clock) as store:
        walk = Exemplar.of(tracklet(), at(0))
        until_s = time.time() + left_s
        store.enrol("Anna", [walk], Enrolment("consent", expires_s=until_s))
    with open_gallery(path=str(path), mode="named") as gallery:
        assert match(gallery, tracklet(7), 0.1).identity == identity
