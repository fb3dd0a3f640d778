"""What a gallery keeps of the tracklets it was asked about."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gait.tracklet import Tracklet
from pipeline.errors import GalleryError
from pipeline.gallery.config import GalleryConfig
from pipeline.gallery.decision import FixedLimit
from pipeline.gallery.exemplar import UnusableEmbedding
from pipeline.gallery.gallery import Gallery
from pipeline.gallery.store import GalleryStore
from pipeline.values import Embedding, Match
from tests.pipeline.gallery.matching import UNSPLIT, at, match, no_room, open_gallery

MakeTracklet = Callable[..., Tracklet]
MakeEmbedding = Callable[..., Embedding]


def test_the_exemplars_that_stand_for_all_are_kept(path_of: Path, tracklet: MakeTracklet) -> None:
    with open_gallery(path_of, max_exemplars=3, decision=UNSPLIT) as gallery:
        for n, distance in enumerate([0.0, 0.1, 5.0, 5.2, 9.0, 0.2]):
            match(gallery, tracklet(1, 3.0 * n), at(distance))
    assert kept(path_of) == pytest.approx([0.1, 5.0, 9.0], abs=1e-2)


def test_of_two_alike_exemplars_the_better_one_is_kept(
    path_of: Path, tracklet: MakeTracklet
) -> None:
    with open_gallery(path_of, max_exemplars=2) as gallery:
        match(gallery, tracklet(1, 0.0, quality=0.5), at(0))
        match(gallery, tracklet(1, 3.0, quality=0.5), at(5))
        match(gallery, tracklet(1, 6.0, quality=0.9), at(0.2))
        match(gallery, tracklet(1, 9.0, quality=0.4), at(0.3))
    assert kept(path_of) == pytest.approx([0.2, 5.0], abs=1e-2)


def test_a_replaced_exemplar_is_no_longer_searched(tracklet: MakeTracklet) -> None:
    with open_gallery(max_exemplars=1, threshold=0.3) as gallery:
        match(gallery, tracklet(1, 0.0, quality=0.1), at(0))
        match(gallery, tracklet(1, 3.0, quality=0.9), at(5))
        assert match(gallery, tracklet(1, stream="yard"), at(0)).is_new
        assert match(gallery, tracklet(2, stream="hall"), at(5)).identity == "person-001"


def kept(path: Path) -> list[float]:
    """Return where the stored exemplars lie, sorted."""
    with GalleryStore(path, model_hash="a" * 64) as store:
        return sorted(16 * float(row.embedding[0, 0]) for row in store.exemplars())


def test_people_are_known_again_when_the_gallery_is_opened_again(
    path_of: Path, tracklet: MakeTracklet, embedding: MakeEmbedding
) -> None:
    looks = [embedding(n, noise=0.1, seed=n) for n in range(5)]
    with open_gallery(path_of) as gallery:
        first = gallery.match([tracklet(n, 10.0 * n) for n in range(5)], looks)
    with open_gallery(path_of) as gallery:
        again = gallery.match([tracklet(n, 10.0 * n, stream="yard") for n in range(5)], looks)
    assert [match.identity for match in again] == [match.identity for match in first]
    assert not any(match.is_new for match in again)


def test_the_same_recording_processed_twice_changes_nothing(
    path_of: Path, tracklet: MakeTracklet, embedding: MakeEmbedding
) -> None:
    tracklets = [tracklet(n % 4, 3.0 * (n // 4)) for n in range(40)]
    looks = [embedding(n % 4, noise=0.02, seed=n) for n in range(40)]
    with open_gallery(path_of) as gallery:
        first = gallery.match(tracklets, looks)
    before = kept(path_of)
    with open_gallery(path_of) as gallery:
        again = gallery.match(tracklets, looks)
    assert kept(path_of) == before
    assert [match.identity for match in again] == [match.identity for match in first]


def test_another_recording_under_the_same_name_loses_nobody(
    path_of: Path, tracklet: MakeTracklet
) -> None:
    for distance in (0, 50):
        with open_gallery(path_of) as gallery:
            match(gallery, tracklet(1, 0.0), at(distance))
    assert kept(path_of) == pytest.approx([0, 50])


def test_a_tracklet_delivered_twice_counts_once(path_of: Path, tracklet: MakeTracklet) -> None:
    with open_gallery(path_of) as gallery:
        for _ in range(3):
            assert match(gallery, tracklet(1, 0.0), at(0)).identity == "person-001"
    assert len(kept(path_of)) == 1


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e6])
def test_a_number_that_cannot_be_stored_changes_nothing(
    path_of: Path, tracklet: MakeTracklet, wrong: float
) -> None:
    bad = at(1)
    bad[17, 3] = wrong
    with open_gallery(path_of) as gallery:
        said = r"door/2/0: expected an embedding of finite numbers"
        with pytest.raises(UnusableEmbedding, match=said):
            gallery.match([tracklet(1), tracklet(2)], [at(0), bad])
        assert len(gallery) == 0
    assert kept(path_of) == []


def test_a_failed_write_leaves_the_memory_as_it_was(
    tracklet: MakeTracklet, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = GalleryStore(None, model_hash="a" * 64)
    with Gallery(store, GalleryConfig(), limits=FixedLimit(1.0, "config")) as gallery:
        match(gallery, tracklet(1), at(0))
        with monkeypatch.context() as patch:
            patch.setattr("pipeline.gallery.writing.Writing.insert", no_room)
            for n, distance in enumerate((50, 0.5)):
                with pytest.raises(GalleryError):
                    match(gallery, tracklet(2, 10.0 * (n + 1)), at(distance))
        assert len(gallery) == 1
        assert match(gallery, tracklet(2, 30.0), at(50)).identity == "person-002"


def test_a_gallery_made_in_one_thread_works_in_another(
    path_of: Path, tracklet: MakeTracklet
) -> None:
    matches: list[Match] = []
    with open_gallery(path_of) as gallery:
        thread = threading.Thread(target=lambda: matches.append(match(gallery, tracklet(), at(0))))
        thread.start()
        thread.join(timeout=60)
    assert matches[0].identity == "person-001"
    assert len(kept(path_of)) == 1


def rows(gallery: Gallery) -> list[tuple[str, float, float, int]]:
    """Uid, start, end and silhouettes of each exemplar on disk, oldest first."""
    return [(e.tracklet_uid, *e.times_s, e.num_silhouettes) for e in gallery._store.kept()]


def test_a_tracklet_that_continues_a_walk_takes_the_place_of_the_one_before(
    gallery: Gallery, tracklet: MakeTracklet
) -> None:
    match(gallery, tracklet(1, 0.0), at(0))
    match(gallery, tracklet(1, 3.0, num=8, offset=30), at(2))
    match(gallery, tracklet(1, 3.8, num=8, offset=38), at(3))
    assert rows(gallery) == [("door/1/0", 0.0, 4.5, 46)]
    match(gallery, tracklet(1, 9.0), at(4))  # the same track, a new walk
    assert [uid for uid, *_ in rows(gallery)] == ["door/1/0", "door/1/90"]
    assert match(gallery, tracklet(2, 20.0), at(3)).distance == pytest.approx(0, abs=1e-3)


def test_a_walk_whose_beginning_was_not_kept_is_judged_like_a_new_tracklet(
    tracklet: MakeTracklet,
) -> None:
    with open_gallery(max_exemplars=2, threshold=20) as gallery:
        for track, distance in enumerate([0, 10]):
            match(gallery, tracklet(track, 0.0, stream=f"camera {track}"), at(distance))
        match(gallery, tracklet(7, 0.0), at(10.1))  # hardly another than the second
        match(gallery, tracklet(7, 3.0, num=8, offset=30), at(5))
        assert len(rows(gallery)) == 2
        match(gallery, tracklet(7, 3.8, num=8, offset=38), at(30))
        assert ("door/7/0", 0.0, 4.5, 46) in rows(gallery)


def test_giving_a_walk_again_changes_nothing(tracklet: MakeTracklet, tmp_path: Path) -> None:
    walk = [tracklet(1, 0.0), tracklet(1, 3.0, num=8, offset=30, is_last=True)]
    shown = []
    for _ in range(2):
        with open_gallery(tmp_path / "people.gallery") as gallery:
            gallery.match(walk, [at(0), at(0.5)])
            shown.append(rows(gallery))
    assert shown[0] == shown[1] == [("door/1/0", 0.0, 3.7, 38)]
