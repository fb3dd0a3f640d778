"""People in a gallery: on a file, and (marked) on a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import GalleryError
from pipeline.gallery.exemplar import Enrolment, Exemplar, within_budget
from pipeline.gallery.records import UnknownPerson
from pipeline.gallery.store import GalleryStore

MakeExemplar = Callable[..., Exemplar]
Where = Path | str

CONSENT = Enrolment(basis="consent, folder 12", purpose="door", by="Kim", expires_s=9000.0)


def open_store(where: Where | None, model_hash: str | None = "a" * 64, **more) -> GalleryStore:
    return GalleryStore(where, model_hash=model_hash, clock=lambda: 1000.0, **more)


@pytest.fixture
def store(where: Where):
    with open_store(where, keep_silhouettes=True) as store:
        yield store


def labels(store: GalleryStore) -> dict[str, int]:
    """How many exemplars everybody has."""
    return {person.identity.label: person.num_exemplars for person in store.people()}


def test_who_was_enrolled_is_there_with_all_that_was_recorded(
    where: Where, exemplar: MakeExemplar
) -> None:
    with open_store(where) as store:
        store.found(exemplar(1))
        store.enrol("Anna Müller", [exemplar(2, at=0.5), exemplar(2, at=0.7, start_s=9)], CONSENT)
    with open_store(where) as store:
        unknown, anna = store.people()
        assert unknown.identity.label == "person-001"
        assert unknown.enrolment is None
        assert (anna.identity.name, anna.identity.pseudonym) == ("Anna Müller", "person-002")
        assert anna.enrolment == CONSENT
        assert (anna.enrolled_s, anna.num_exemplars) == (1000.0, 2)
        assert store.find("anna müller") == store.find("PERSON-002") == anna.identity
        assert {e.identity.label for e in store.exemplars()} == {"person-001", "Anna Müller"}


def test_walks_are_kept_that_stand_for_all(store: GalleryStore, exemplar: MakeExemplar) -> None:
    walks = [exemplar(1, at=at, start_s=10 * n) for n, at in enumerate([0.0, 0.9, 0.1, 0.5])]
    anna = store.enrol("Anna", walks, CONSENT, budget=3)
    kept = [round(float(e.embedding[0, 0]), 1) for e in store.exemplars()]
    assert kept == [0.9, 0.1, 0.5]
    more = [exemplar(1, at=at, start_s=99 + at) for at in (0.3, 0.32)]
    store.extend(anna, more, budget=2)
    assert labels(store) == {"Anna": 2}
    assert [round(float(e.embedding[0, 0]), 1) for e in store.exemplars()] == [0.9, 0.3]


def test_what_is_kept_stands_for_all_and_the_better_and_the_older_come_first() -> None:
    at = np.zeros((4, 256, 16), np.float32)
    at[:, 0] = np.array([0, 5, 5, 30])[:, None]
    at[1:3, 1] = np.array([1, -1])[:, None]  # two alike, equally far from the others
    assert within_budget(at, [1.0] * 4, 1) == [1]
    assert within_budget(at, [1.0, 0.2, 0.9, 1.0], 1) == [2]
    assert within_budget(at, [1.0] * 4, 3) == [0, 1, 3]
    assert within_budget(at, [1.0, 0.2, 0.9, 1.0], 3) == [0, 2, 3]
    assert within_budget(at, [1.0, 1.0, 1.0, 0.01], 2) == [0, 1]  # the odd one is a poor one
    assert within_budget(at, [1.0] * 4, 5) == [0, 1, 2, 3]


def test_the_same_walk_added_again_changes_nothing(
    store: GalleryStore, exemplar: MakeExemplar
) -> None:
    anna = store.enrol("Anna", [exemplar(1, at=0.25)], CONSENT)
    store.extend(anna, [exemplar(1, at=0.25)])
    assert labels(store) == {"Anna": 1}
    # other recordings', of the same name
    store.extend(anna, [exemplar(1, at=0.5), exemplar(1, at=0.75)])
    assert labels(store) == {"Anna": 3}


@pytest.mark.parametrize(
    ("name", "enrolment", "said"),
    [
        ("ANNA", CONSENT, "Anna is enrolled already; choose another name"),
        ("", CONSENT, "expected a person's name"),
        ("person-007", CONSENT, "no pseudonym"),
        ("a\x00b", CONSENT, "printable"),
        ("x" * 300, CONSENT, "at most 200"),
        ("Berta", Enrolment(basis=" "), "basis: expected what allows this"),
        ("Berta", replace(CONSENT, expires_s=999.0), "a moment in the future"),
        ("Berta", replace(CONSENT, expires_s=float("nan")), "a moment in the future"),
        ("Berta", replace(CONSENT, expires_s=float("inf")), "before the year 10000"),
        ("Berta", replace(CONSENT, expires_s=1e12), "before the year 10000"),
        ("Berta", replace(CONSENT, purpose="x" * 3000), "purpose: expected one line"),
    ],
)
def test_what_cannot_be_enrolled_is_said_and_changes_nothing(
    store: GalleryStore, exemplar: MakeExemplar, name: str, enrolment: Enrolment, said: str
) -> None:
    store.enrol("Anna", [exemplar(1)], CONSENT)
    before = store.revision(), labels(store)
    with pytest.raises(GalleryError, match=said):
        store.enrol(name, [exemplar(2)], enrolment)
    assert (store.revision(), labels(store)) == before


def test_nobody_is_enrolled_by_nothing(store: GalleryStore) -> None:
    with pytest.raises(GalleryError, match="at least one exemplar"):
        store.enrol("Anna", [], CONSENT)


def test_a_pseudonym_gets_a_name_only_with_a_basis(
    store: GalleryStore, exemplar: MakeExemplar
) -> None:
    identity, _ = store.found(exemplar(1))
    with pytest.raises(GalleryError, match="basis"):
        store.rename(identity, "Anna")
    revision = store.revision()
    named = store.rename(identity, "Anna", CONSENT)
    changes = store.changes_since(revision)
    assert [e.identity for e in changes.exemplars] == list(changes.identities) == [named]
    assert store.rename(named, "Anne").label == "Anne"
    assert store.people()[0].enrolment == CONSENT


def test_merging_moves_everything_and_keeps_the_earlier_expiry(
    store: GalleryStore, exemplar: MakeExemplar
) -> None:
    anna = store.enrol("Anna", [exemplar(1, at=0.1)], CONSENT)
    other = store.enrol("A. M.", [exemplar(1, at=0.9)], replace(CONSENT, expires_s=5000.0))
    merged = store.merge(anna, other)  # both walks are called door/1/0
    [person] = store.people()
    assert merged == person.identity == anna
    assert person.num_exemplars == 2
    assert person.enrolment == replace(CONSENT, expires_s=5000.0)
    with pytest.raises(UnknownPerson, match="not in the gallery"):
        store.merge(anna, other)


def test_a_name_is_not_lost_by_merging(store: GalleryStore, exemplar: MakeExemplar) -> None:
    unknown, _ = store.found(exemplar(1))
    anna = store.enrol("Anna", [exemplar(2)], CONSENT)
    with pytest.raises(GalleryError, match="merge the other way"):
        store.merge(unknown, anna)
    with pytest.raises(GalleryError, match="two people"):
        store.merge(anna, anna)
    assert labels(store) == {"person-001": 1, "Anna": 1}


def test_splitting_gives_some_exemplars_to_somebody_new(
    store: GalleryStore, exemplar: MakeExemplar
) -> None:
    walks = [exemplar(1, at=0.3 * n, start_s=10 * n) for n in range(3)]
    anna = store.enrol("Anna", walks, CONSENT)
    keys = [kept.id for kept in store.kept(anna)]
    for wrong in ([], keys, [99]):
        with pytest.raises(GalleryError, match="some, not all"):
            store.split(anna, wrong)
    with pytest.raises(GalleryError, match="basis"):
        store.split(anna, keys[:1], "Berta")
    berta = store.split(anna, keys[:1], "Berta", CONSENT)
    nobody = store.split(anna, keys[1:2])
    assert labels(store) == {"Anna": 1, "Berta": 1, nobody.pseudonym: 1}
    assert [kept.id for kept in store.kept(berta)] == keys[:1]
    assert store.person(berta).num_exemplars == 1


def test_a_name_is_the_same_however_its_accents_are_written(
    store: GalleryStore, exemplar: MakeExemplar
) -> None:
    anna = store.enrol("Zoë", [exemplar(1)], CONSENT)
    assert store.find("zoe\u0308") == anna
    with pytest.raises(GalleryError, match="Zoë is enrolled already"):
        store.enrol("Zoe\u0308", [exemplar(2)], CONSENT)


def test_exemplars_are_handed_over_with_whoever_they_alone_tell_of(
    store: GalleryStore, exemplar: MakeExemplar
) -> None:
    one, first = store.found(exemplar(1, at=0.1))
    second = store.add(one, exemplar(2, at=0.2))
    other, _ = store.found(exemplar(3, at=0.9))
    assert not store.hand_over({first, 99}, one, other)
    assert labels(store) == {"person-001": 1, "person-002": 2}
    assert store.hand_over({first, second}, one, other, budget=2)
    assert labels(store) == {"person-002": 2}
    with pytest.raises(UnknownPerson):
        store.hand_over({first}, one, other)


def test_any_number_of_exemplars_is_removed_at_once(
    store: GalleryStore, exemplar: MakeExemplar
) -> None:
    _, key = store.found(exemplar(1))
    with store._writing() as writing:  # more than a statement of PostgreSQL takes
        writing.remove_exemplars([key, *range(1000, 71_000)])
    assert store.changes_since().exemplars == ()


def test_whoever_is_unknown_is_said_with_who_may_be_meant(
    store: GalleryStore, exemplar: MakeExemplar
) -> None:
    store.enrol("Anna", [exemplar(1)], CONSENT)
    with pytest.raises(UnknownPerson, match=r"nobody called 'ana' \(did you mean Anna\?\)"):
        store.find("ana")


def test_other_processes_see_what_changed(where: Where, exemplar: MakeExemplar) -> None:
    with open_store(where) as one, open_store(where) as other:
        start = other.revision()
        anna = one.enrol("Anna", [exemplar(1, at=0.1), exemplar(2, at=0.9)], CONSENT)
        found, key = one.found(exemplar(3, at=0.5))
        seen = other.changes_since(start)
        assert seen.identities == (anna, found)
        assert [e.identity for e in seen.exemplars] == [anna, anna, found]
        assert other.changes_since(seen.revision).exemplars == ()
        one.merge(anna, found)
        merged = other.changes_since(seen.revision)
        assert merged.removed_identities == (found.id,)
        assert [(e.id, e.identity) for e in merged.exemplars] == [(key, anna)]
        one.forget(anna)
        gone = other.changes_since(merged.revision)
        assert gone.removed_identities == (anna.id,)
        assert len(gone.removed_exemplars) == 3
        everything = other.changes_since()
        assert everything.is_everything
        assert everything.exemplars == everything.identities == ()


def test_whoever_was_away_too_long_gets_everything(
    store: GalleryStore, exemplar: MakeExemplar, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("writing", "stored"):
        monkeypatch.setattr(f"pipeline.gallery.{module}.REMEMBERED_REVISIONS", 3)
    identity, key = store.found(exemplar(1))
    start = store.revision()
    for n in range(2, 7):
        key = store.add(identity, exemplar(n), replacing=key)
    changes = store.changes_since(start)
    assert changes.is_everything
    assert [e.id for e in changes.exemplars] == [key]
    assert not store.changes_since(store.revision() - 1).is_everything


def test_an_identity_somebody_else_removed_is_said_to_be_gone(
    where: Where, exemplar: MakeExemplar
) -> None:
    with open_store(where) as one, open_store(where) as other:
        identity, key = one.found(exemplar(1))
        other.forget(identity)
        with pytest.raises(UnknownPerson, match="removed or merged"):
            one.add(identity, exemplar(2), replacing=key)
        assert labels(one) == {}


def test_several_processes_and_threads_write_at_once(where: Where, exemplar: MakeExemplar) -> None:
    with open_store(where) as one, open_store(where) as other:

        def enrol(store: GalleryStore, first: int) -> None:
            for track_id in range(first, first + 10):
                identity, _ = store.found(exemplar(track_id))
                store.add(identity, exemplar(track_id, start_s=5.0))

        jobs = [(store, 100 * n) for n, store in enumerate((one, one, other, other))]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda job: enrol(*job), jobs))
        assert labels(one) == labels(other) == {f"person-{n:03d}": 2 for n in range(1, 41)}
        assert len({e.id for e in other.changes_since(0).exemplars}) == 80


def test_silhouettes_are_kept_only_where_wanted_and_can_be_dropped(
    where: Where, exemplar: MakeExemplar
) -> None:
    with open_store(where) as store:
        identity, _ = store.found(exemplar(1))
        assert store.people()[0].num_with_silhouettes == 0
    with open_store(where, keep_silhouettes=True) as store:
        store.add(identity, exemplar(2))
        assert store.people()[0].num_with_silhouettes == 1
        assert store.drop_silhouettes(before_s=1000.0) == 0
        assert store.drop_silhouettes(before_s=1001.0) == 1
        assert store.people()[0].num_with_silhouettes == 0


def test_a_walk_that_goes_on_keeps_the_silhouettes_of_its_beginning(
    store: GalleryStore, tracklet, embedding
) -> None:
    identity, first = store.found(Exemplar.of(tracklet(1), embedding(0.0)))
    more = Exemplar.of(tracklet(1, 3.0, num=8, offset=30), embedding(0.1))
    store.add(identity, replace(more, tracklet_uid="door/1/0"), replacing=first)
    [kept] = store.kept(whole=True)
    assert kept.silhouettes is not None
    assert (len(kept.silhouettes), kept.num_silhouettes) == (38, 38)


def test_a_gallery_to_be_looked_after_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "poeple.gallery"
    with pytest.raises(GalleryError, match="there is nothing; check the path"):
        open_store(path, model_hash=None)
    assert not path.exists()
