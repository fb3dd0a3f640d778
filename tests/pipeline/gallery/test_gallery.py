from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gait.tracklet import Tracklet
from pipeline.errors import GalleryError
from pipeline.gallery.config import GalleryConfig
from pipeline.gallery.exemplar import Enrolment, Exemplar
from pipeline.gallery.gallery import Gallery
from pipeline.gallery.store import GalleryStore
from pipeline.values import Embedding, Match
from tests.pipeline.gallery.matching import UNSPLIT, at, match, no_room, open_gallery

MakeTracklet = Callable[..., Tracklet]
MakeEmbedding = Callable[..., Embedding]


def test_the_first_person_is_new_and_has_no_distance(
    gallery: Gallery, tracklet: MakeTracklet
) -> None:
    assert match(gallery, tracklet(), at(0)) == Match(
        "person-001", None, 1.0, is_new=True, threshold_name="config"
    )


def test_a_person_within_the_threshold_is_recognised(
    gallery: Gallery, tracklet: MakeTracklet
) -> None:
    match(gallery, tracklet(1, stream="door"), at(0))
    again = match(gallery, tracklet(1, stream="yard"), at(1.0))
    assert again.identity == "person-001"
    assert not again.is_new
    assert again.distance == pytest.approx(1.0, abs=1e-3)


def test_a_person_beyond_the_threshold_is_somebody_new(
    gallery: Gallery, tracklet: MakeTracklet
) -> None:
    match(gallery, tracklet(1, stream="door"), at(0))
    other = match(gallery, tracklet(1, stream="yard"), at(1.01))
    assert other.identity == "person-002"
    assert other.is_new
    assert other.distance == pytest.approx(1.01, abs=1e-3)
    assert len(gallery) == 2


def test_answers_come_in_the_order_of_the_questions(
    gallery: Gallery, tracklet: MakeTracklet
) -> None:
    tracklets = [tracklet(n, stream=f"camera {n}") for n in range(6)]
    matches = gallery.match(tracklets, [at(d) for d in (0, 50, 0.5, 99, 50.5, 0.1)])
    names = [f"person-{n:03d}" for n in (1, 2, 1, 3, 2, 1)]
    assert [match.identity for match in matches] == names
    assert gallery.match([], []) == []


def test_a_track_is_one_person_whatever_its_later_tracklets_look_like(
    gallery: Gallery, tracklet: MakeTracklet
) -> None:
    match(gallery, tracklet(1, 0.0), at(0))
    later = match(gallery, tracklet(1, 3.0), at(500))
    assert later.identity == "person-001"
    assert not later.is_new


def test_the_distance_of_a_later_tracklet_is_not_to_its_own_track(
    gallery: Gallery, tracklet: MakeTracklet
) -> None:
    match(gallery, tracklet(1, 0.0, stream="door"), at(0))
    assert match(gallery, tracklet(1, 3.0, stream="door"), at(0)).distance is None
    match(gallery, tracklet(5, 0.0, stream="yard"), at(0.9))
    later = match(gallery, tracklet(5, 3.0, stream="yard"), at(0.8))
    assert 0.8 < (later.distance or 0) < 0.9  # of both windows together, and not 0.1


def test_two_people_visible_at_once_are_two_people(
    gallery: Gallery, tracklet: MakeTracklet
) -> None:
    match(gallery, tracklet(1, 0.0), at(0))
    twin = match(gallery, tracklet(2, 2.0, companions=(1,)), at(0))
    assert twin.identity == "person-002"
    assert twin.distance is None  # there was nobody it could have been


def test_the_next_best_is_taken_when_the_nearest_is_ruled_out(
    gallery: Gallery, tracklet: MakeTracklet
) -> None:
    match(gallery, tracklet(1, 0.0, stream="yard"), at(0))
    match(gallery, tracklet(1, 0.0, stream="door"), at(1.5))
    near = match(gallery, tracklet(2, 0.0, stream="door", companions=(1,)), at(1.0))
    assert near.identity == "person-001"
    assert near.distance == pytest.approx(1.0, abs=1e-3)


def test_one_after_another_or_on_two_streams_may_be_one_person(
    gallery: Gallery, tracklet: MakeTracklet
) -> None:
    match(gallery, tracklet(1, 0.0), at(0))
    assert match(gallery, tracklet(2, 3.1), at(0)).identity == "person-001"
    assert match(gallery, tracklet(1, 0.0, stream="yard"), at(0)).identity == "person-001"


def test_being_seen_together_without_silhouettes_counts_too(
    gallery: Gallery, tracklet: MakeTracklet
) -> None:
    match(gallery, tracklet(1, 0.0), at(0))
    gallery.note([tracklet(2, 2.0, num=0, companions=(1,))])
    assert match(gallery, tracklet(2, 5.0), at(0)).identity == "person-002"
    assert match(gallery, tracklet(3, 9.0), at(0)).identity == "person-001"


def test_tracks_told_of_in_one_batch_know_of_each_other(
    gallery: Gallery, tracklet: MakeTracklet
) -> None:
    tracklets = [tracklet(1, 0.0), tracklet(2, 5.0, companions=(1,)), tracklet(1, 4.0)]
    names = [match.identity for match in gallery.match(tracklets, [at(0)] * 3)]
    assert names == ["person-001", "person-002", "person-001"]


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the fixture has no state
)
@given(
    tracks=st.lists(
        st.tuples(
            st.sampled_from(["door", "yard"]),
            st.integers(0, 30),  # first seen, s
            st.integers(1, 8),  # tracklets
            st.integers(0, 2),  # what the person looks like
        ),
        max_size=10,
    ),
    batch=st.integers(1, 5),
)
def test_no_two_tracks_visible_at_once_share_an_identity(
    tracklet: MakeTracklet, tracks: list[tuple[str, int, int, int]], batch: int
) -> None:
    def span(n: int) -> tuple[float, float]:
        _, start, count, _ = tracks[n]
        return start, start + 1.5 * (count - 1) + 3.0

    def together(one: int, other: int) -> bool:
        (start, end), (start2, end2) = span(one), span(other)
        return tracks[one][0] == tracks[other][0] and max(start, start2) <= min(end, end2)

    def companions(n: int, until_s: float) -> tuple[int, ...]:
        others = (m for m in range(len(tracks)) if m != n and together(n, m))
        return tuple(m for m in others if span(m)[0] <= until_s)

    reports = sorted(
        (
            tracklet(n, s, stream=stream, companions=companions(n, s + 3.0))
            for n, (stream, start, count, _) in enumerate(tracks)
            for s in (start + 1.5 * k for k in range(count))
        ),
        key=lambda report: report.seen_s[1],
    )
    identities: dict[int, set[str | None]] = {}
    with open_gallery() as gallery:
        for i in range(0, len(reports), batch):
            some = reports[i : i + batch]
            looks = [at(50 * tracks[report.track_id][3]) for report in some]
            for report, answer in zip(some, gallery.match(some, looks), strict=True):
                identities.setdefault(report.track_id, set()).add(answer.identity)
    assert all(len(names) == 1 for names in identities.values())
    for one, other in combinations(range(len(tracks)), 2):
        if together(one, other):
            assert identities[one] != identities[other]


def test_a_track_is_forgotten_when_its_stream_has_moved_on(tracklet: MakeTracklet) -> None:
    with open_gallery() as gallery:
        for track_id in range(200):
            match(gallery, tracklet(track_id, 10.0 * track_id, is_last=True), at(0))
            gallery.note([tracklet(100_000 + track_id, 10.0 * track_id + 1, num=0, is_last=True)])
        assert len(gallery._tracks) < 100
        assert len(gallery) == 1


def test_a_clock_that_is_set_back_does_not_make_tracks_forgotten(
    gallery: Gallery, tracklet: MakeTracklet
) -> None:
    match(gallery, tracklet(1, 5000.0), at(0))
    match(gallery, tracklet(2, 0.0), at(50))
    assert match(gallery, tracklet(2, 3.0), at(99)).identity == "person-002"


def test_tracks_of_before_a_clock_was_set_back_rule_nobody_out(
    gallery: Gallery, tracklet: MakeTracklet
) -> None:
    match(gallery, tracklet(1, 5000.0), at(0))
    match(gallery, tracklet(2, 0.0), at(50))
    assert match(gallery, tracklet(3, 5000.0), at(0)).identity == "person-001"


@pytest.mark.parametrize(
    "wrong", [{"mode": "nobody"}, {"threshold": -1.0}, {"max_exemplars": 0}, {"paht": "x"}]
)
def test_a_wrong_configuration_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GalleryConfig.model_validate(wrong)


def test_a_wrong_question_is_refused(gallery: Gallery, tracklet: MakeTracklet) -> None:
    with pytest.raises(ValueError, match="expected a tracklet with silhouettes"):
        gallery.match([tracklet(num=0)], [at(0)])
    with pytest.raises(ValueError, match=r"expected an embedding of shape \(256, 16\)"):
        gallery.match([tracklet()], [np.zeros((16, 256), np.float32)])
    with pytest.raises(ValueError, match="shorter"):
        gallery.match([tracklet(), tracklet(2)], [at(0)])


def test_a_track_goes_over_to_somebody_who_stays_nearer_and_takes_along_what_it_gave(
    tracklet: MakeTracklet,
) -> None:
    with open_gallery() as gallery:
        match(gallery, tracklet(1, stream="yard"), at(0))
        answers = [
            match(gallery, tracklet(1, 3.0 * n), at(d)) for n, d in enumerate((1.5, 0, 0, 0))
        ]
        assert [a.identity for a in answers] == [*["person-002"] * 2, *["person-001"] * 2]
        assert len(gallery) == 1  # nobody else had been the second one
        assert match(gallery, tracklet(2, stream="hall"), at(1.5)).identity == "person-001"


def test_a_track_that_cannot_go_over_leaves_everything_as_it_was(
    tracklet: MakeTracklet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_gallery() as gallery:
        match(gallery, tracklet(1, stream="yard"), at(0))
        match(gallery, tracklet(2, stream="hall"), at(50))
        match(gallery, tracklet(1, 0.0), at(0.9))
        match(gallery, tracklet(1, 3.0), at(50))
        before = [(each.id, each.identity_id) for each in gallery.store.kept()]
        with monkeypatch.context() as patch:  # the last of what is done for it
            patch.setattr("pipeline.gallery.writing.Writing.trim", no_room)
            with pytest.raises(GalleryError, match="no room"):
                match(gallery, tracklet(1, 6.0), at(50))
        assert [(each.id, each.identity_id) for each in gallery.store.kept()] == before
        assert match(gallery, tracklet(1, 9.0), at(0)).identity == "person-001"


@pytest.mark.parametrize("method", ["add", "hand_over"])
def test_whoever_another_process_removes_in_the_middle_of_a_match_is_not_known_any_more(
    tracklet: MakeTracklet, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    with open_gallery() as gallery:
        match(gallery, tracklet(1, stream="yard"), at(50))
        match(gallery, tracklet(1, 0.0), at(0))
        if method == "hand_over":
            match(gallery, tracklet(1, 3.0), at(50))
        who = "person-001" if method == "hand_over" else "person-002"
        write = getattr(gallery.store, method)

        def late(*args: object, **more: object) -> object:
            monkeypatch.undo()
            gallery.store.forget(gallery.store.find(who))
            return write(*args, **more)

        monkeypatch.setattr(gallery.store, method, late)
        answer = match(gallery, tracklet(1, 6.0), at(50 if method == "hand_over" else 0))
        assert answer.identity == ("person-002" if method == "hand_over" else "person-003")


def test_somebody_who_was_enrolled_stays_though_only_one_track_tells_of_them(
    path_of: Path, tracklet: MakeTracklet
) -> None:
    with GalleryStore(path_of, model_hash="a" * 64) as store:
        anna = [Exemplar.of(tracklet(9, quality=0.1), at(0.5))]
        store.enrol("Anna", anna, Enrolment(basis="consent of 2026-01-01"))
        for distance in (50, 100):
            store.found(Exemplar.of(tracklet(8), at(distance)))
    with open_gallery(path_of, max_exemplars=1, decision=UNSPLIT) as gallery:
        for n, distance in enumerate((0, 50, 50, 50)):
            answer = match(gallery, tracklet(1, 3.0 * n), at(distance))
        assert answer.identity == "person-002"
        assert gallery.store.find("Anna").pseudonym == "person-001"


def test_what_others_gave_an_identity_stays_when_a_track_leaves_it(tracklet: MakeTracklet) -> None:
    with open_gallery() as gallery:
        match(gallery, tracklet(1, stream="yard"), at(0))
        match(gallery, tracklet(2, stream="hall"), at(50))
        answers = [match(gallery, tracklet(1, 3.0 * n), at(d)) for n, d in enumerate((0.9, 50, 50))]
        assert [a.identity for a in answers] == ["person-001", "person-001", "person-002"]
        assert match(gallery, tracklet(3, stream="roof"), at(0)).identity == "person-001"
        assert len(gallery) == 2


def test_a_named_gallery_knows_who_was_enrolled_and_keeps_nobody_else(
    path_of: Path, tracklet: MakeTracklet
) -> None:
    with GalleryStore(path_of, model_hash="a" * 64) as store:
        store.found(Exemplar.of(tracklet(1), at(50)))
        anna = [Exemplar.of(tracklet(2), at(0))]
        store.enrol("Anna", anna, Enrolment(basis="consent of 2026-01-01"))
    config = GalleryConfig(mode="named", path=str(path_of), threshold=1.0)
    with config.build(model_hash="a" * 64, threshold=None) as gallery:
        assert match(gallery, tracklet(1, stream="yard"), at(0.5)).identity == "Anna"
        stranger = match(gallery, tracklet(2, stream="yard"), at(50))
        assert (stranger.identity, stranger.is_new) == (None, False)
        assert stranger.runner_up == "Anna"
    assert stranger.distance == pytest.approx(50, abs=0.1)
    with GalleryStore(path_of, model_hash="a" * 64) as store:
        assert sum(1 for _ in store.exemplars()) == 2


def test_what_another_process_writes_is_known_at_the_next_match(
    path_of: Path, tracklet: MakeTracklet
) -> None:
    with open_gallery(path_of) as one, open_gallery(path_of) as other:
        assert match(one, tracklet(1, stream="door"), at(0)).is_new
        assert match(other, tracklet(1, stream="yard"), at(0)).identity == "person-001"
        with GalleryStore(path_of, model_hash="a" * 64) as store:
            store.forget(store.find("person-001"))
        assert match(one, tracklet(1, 3.0, stream="door"), at(0)).is_new
