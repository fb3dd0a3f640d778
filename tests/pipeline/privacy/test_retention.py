"""What is too old goes, what is about somebody goes, nothing else does, and the log tells."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.errors import PrivacyError
from pipeline.gallery.exemplar import Enrolment
from pipeline.gallery.store import GalleryStore
from pipeline.live.config import LiveConfig
from pipeline.privacy import finding
from pipeline.privacy.audit import AuditLog
from pipeline.privacy.folders import DataFolder
from pipeline.privacy.galleries import GalleryPlace
from pipeline.privacy.labels import Labels
from pipeline.privacy.limits import RetentionConfig
from pipeline.privacy.places import LinesPlace, Place, RowsPlace, is_old
from pipeline.privacy.retention import PartlyRemoved, Removal, Remover
from pipeline.recording.shelf import LOCK
from pipeline.sinks.sightings import read_sightings
from pipeline.sinks.sqlite_sink import SqliteSink
from tests.pipeline.privacy.conftest import DAY_S, NOW_S, event, kill_while, make_exemplar, make_old

KINDS = ("video", "silhouettes", "embeddings", "sightings")
KEEP = RetentionConfig(pseudonyms_days=None)


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path / "audit.jsonl")


def purge(places: Sequence[Place], config: RetentionConfig, log: AuditLog) -> Removal:
    return Remover(places, log, "anna", clock=lambda: NOW_S).purge(config)


def purged(log: AuditLog, place: Place, **days: float) -> Removal:
    config = RetentionConfig.model_validate({"pseudonyms_days": None, **days})
    return purge([place], config, log)


def names(folder: Path) -> set[str]:
    return {str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()}


def aged(folder: Path, days: float) -> DataFolder:
    for name in names(folder):
        make_old(folder / name, days)
    return DataFolder.at(folder)


def test_without_limits_nothing_goes_and_nothing_is_recorded(
    log: AuditLog, results: Path, live: Path
) -> None:
    before = {folder: names(folder) for folder in (results, live)}
    for folder in before:
        assert purged(log, aged(folder, 9999.0)) == Removal(())
    assert {folder: names(folder) for folder in before} == before
    assert not log.path.exists()


@pytest.mark.parametrize(
    ("kind", "going"),
    [
        ("video_days", {"streams/door/annotated.mp4", "streams/yard/annotated.mp4"}),
        (
            "silhouettes_days",
            {
                *("report.html", "streams/door/masks.jsonl", "streams/yard/masks.jsonl"),
                "streams/door/tracklets/track-000001-f000000.npz",
                "streams/door/tracklets/track-000001-f000000.png",
                "streams/yard/tracklets/track-000002-f000000.npz",
                "streams/yard/tracklets/track-000002-f000000.png",
            },
        ),
        (
            "embeddings_days",
            {
                "streams/door/tracklets/track-000001-f000000.npz",
                "streams/yard/tracklets/track-000002-f000000.npz",
            },
        ),
        (
            "sightings_days",
            {"report.html", "streams/door/tracks.mot.txt", "streams/yard/tracks.mot.txt"},
        ),
    ],
)
def test_each_kind_of_data_has_its_own_limit(
    log: AuditLog, results: Path, kind: str, going: set[str]
) -> None:
    before = names(results)
    purged(log, aged(results, 7.1), **{kind: 7.2})
    assert names(results) == before
    purged(log, DataFolder.at(results), **{kind: 7.0})
    assert names(results) == before - going
    sightings = read_sightings(results / "sightings.jsonl")
    assert len(sightings) == (0 if kind == "sightings_days" else 2)


def test_a_live_folder_loses_old_lines_and_old_clips_and_keeps_the_others(
    log: AuditLog, live: Path
) -> None:
    clips = sorted((live / "clips" / "gate").iterdir())
    for clip in clips:
        make_old(clip, 1.0)
    for clip in clips[:2]:
        make_old(clip, 9.0)
    place = DataFolder.at(live)
    removal = purged(log, place, video_days=7.0, sightings_days=5.5)
    assert sorted((live / "clips" / "gate").iterdir()) == clips[2:]
    assert {each.kind: each.count for each in removal.removed} == {"video": 2, "sightings": 5}
    assert purged(log, place, video_days=7.0, sightings_days=5.5) == Removal(())


def test_clips_that_are_kept_elsewhere_go_too(log: AuditLog, live: Path, tmp_path: Path) -> None:
    elsewhere = (live / "clips").rename(tmp_path / "video")
    (elsewhere / LOCK).touch()
    config = LiveConfig.model_validate({"recording": {"folder": str(elsewhere)}})
    clips = sorted((elsewhere / "gate").iterdir())
    for clip in clips[:2]:
        make_old(clip, 9.0)
    for clip in clips[2:]:
        make_old(clip, 1.0)
    with ExitStack() as stack:
        places = list(finding.configured_places(config, live, stack))
        assert finding.place(str(elsewhere), stack) in places
    purge(places, RetentionConfig(video_days=7.0), log)
    assert sorted((elsewhere / "gate").iterdir()) == clips[2:]
    Remover(places, log, "bert").forget(Labels(frozenset({"person-002"})), subject="person-002")
    assert not list((elsewhere / "gate").iterdir())


def test_the_files_of_sinks_lose_old_sightings(log: AuditLog, live: Path, tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    with SqliteSink(path) as sink:
        sink.write([event(day) for day in range(10)])
    for place in (RowsPlace(path), LinesPlace(live / "sightings.jsonl")):
        (removed,) = purged(log, place, sightings_days=5.5).removed
        assert (removed.kind, removed.where) == ("sightings", place.name)


def test_a_gallery_loses_who_has_expired_and_pseudonyms_not_seen_for_a_day(
    log: AuditLog, gallery: GalleryStore
) -> None:
    config = RetentionConfig()
    removal = purge([GalleryPlace(gallery)], config, log)
    people = [person.identity.label for person in gallery.people()]
    assert people == ["Anna", "person-004"]
    counts = {each.kind: each.count for each in removal.removed}
    assert counts == {"enrolments": 1, "pseudonyms": 1, "embeddings": 2, "silhouettes": 2}


def test_old_silhouettes_of_a_gallery_go_and_people_are_recognised_all_the_same(
    log: AuditLog, gallery: GalleryStore
) -> None:
    purged(log, GalleryPlace(gallery), silhouettes_days=5.0)
    having = {person.identity.label: person.num_with_silhouettes for person in gallery.people()}
    assert having == {"Anna": 0, "person-003": 1, "person-004": 1}
    assert len(list(gallery.exemplars())) == 3


def test_people_of_whom_every_embedding_is_too_old_go(log: AuditLog, gallery: GalleryStore) -> None:
    purged(log, GalleryPlace(gallery), embeddings_days=9.5)
    assert "Anna" in [person.identity.label for person in gallery.people()]
    purged(log, GalleryPlace(gallery), embeddings_days=8.5)
    assert "Anna" not in [person.identity.label for person in gallery.people()]


def test_old_embeddings_go_and_who_has_newer_ones_stays(
    log: AuditLog, open_gallery: Callable[..., GalleryStore]
) -> None:
    with open_gallery(9.0) as store:
        enrolment = Enrolment(basis="consent")
        anna = store.enrol("Anna", [make_exemplar(1), make_exemplar(2)], enrolment)
    store = open_gallery(0.5)
    store.add(anna, make_exemplar(3))
    removal = purged(log, GalleryPlace(store), embeddings_days=5.0)
    assert [(each.kind, each.count) for each in removal.removed] == [
        ("embeddings", 2),
        ("silhouettes", 2),
    ]
    assert [kept.track_id for kept in store.kept(anna)] == [3]


def test_who_was_seen_again_is_not_forgotten(
    log: AuditLog, open_gallery: Callable[..., GalleryStore]
) -> None:
    with open_gallery(9.0) as store:
        identity, _ = store.found(make_exemplar(1))
    store = open_gallery(0.5)
    store.add(identity, make_exemplar(2))
    purged(log, GalleryPlace(store), pseudonyms_days=1.0)
    assert len(store.people()) == 1


def test_a_dry_run_tells_the_same_counts_changes_nothing_and_is_not_recorded(
    log: AuditLog, live: Path, gallery: GalleryStore, results: Path
) -> None:
    places = [aged(results, 9.0), DataFolder.at(live), GalleryPlace(gallery)]
    config = RetentionConfig(
        video_days=1.0, silhouettes_days=1.0, embeddings_days=1.0, sightings_days=1.0
    )
    remover = Remover(places, log, "anna", is_dry_run=True, clock=lambda: NOW_S)
    before = [*names(live), *names(results)], len(gallery.people())
    told = remover.purge(config).removed
    assert ([*names(live), *names(results)], len(gallery.people())) == before
    assert not log.path.exists()
    done = purge(places, config, log).removed
    assert [(each.kind, each.where, each.count) for each in told] == [
        (each.kind, each.where, each.count) for each in done
    ]


def test_the_log_says_what_was_to_go_and_what_went(log: AuditLog, live: Path) -> None:
    removal = purged(log, DataFolder.at(live), sightings_days=5.5)
    begun, entry = log.entries()
    assert removal.entry == entry
    assert (begun.action, entry.action, entry.subject) == ("purge-begun", "purge", "expired data")
    assert (entry.who, begun.details["count"], entry.details["count"]) == ("anna", 5, 5)


def test_a_place_that_fails_is_named_and_keeps_no_other_from_being_purged(
    log: AuditLog, live: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(b"dear diary" * 100)
    places = [RowsPlace(broken), DataFolder.at(live)]
    config = RetentionConfig(sightings_days=5.5)
    with pytest.raises(PartlyRemoved, match=r"broken\.sqlite") as caught:
        purge(places, config, log)
    assert [each.count for each in caught.value.removal.removed] == [5]
    entry = list(log.entries())[-1]
    assert "broken.sqlite" in str(entry.details["problems"])


def test_a_file_that_goes_while_a_folder_is_looked_through_is_no_mistake(tmp_path: Path) -> None:
    assert not is_old(tmp_path / "clip that the recording has just removed.mp4", since_s=NOW_S)


def test_a_folder_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match="nothing was touched"):
        DataFolder.at(tmp_path)


def test_links_and_files_of_others_stay(log: AuditLog, results: Path, tmp_path: Path) -> None:
    diary = tmp_path / "diary.mp4"
    diary.write_text("dear diary")
    (results / "streams" / "door" / "notes.mp4").write_text("mine")
    (results / "streams" / "door" / "annotated.mp4").unlink()
    (results / "streams" / "door" / "annotated.mp4").symlink_to(diary)
    make_old(diary, 99.0)
    purged(log, aged(results, 99.0), video_days=1.0)
    assert diary.read_text() == "dear diary"
    assert "streams/door/notes.mp4" in names(results)
    assert "streams/yard/annotated.mp4" not in names(results)


def test_forgetting_somebody_takes_what_is_theirs_and_leaves_the_others(
    log: AuditLog, results: Path, live: Path, gallery: GalleryStore
) -> None:
    folders = [DataFolder.at(results), DataFolder.at(live)]
    places = [*folders, GalleryPlace(gallery)]
    labels = Labels(frozenset({"Anna", "person-001"}))
    shown = folders[0].showing_everybody(labels)
    removal = Remover(places, log, "bert").forget(labels, subject="person-001")
    assert [person.identity.label for person in gallery.people()] == [
        *("Bert", "person-003", "person-004")
    ]
    for folder in (results, live):
        for name in names(folder):
            assert b"person-001" not in (folder / name).read_bytes()
    assert [each.identity for each in read_sightings(results / "sightings.jsonl")] == ["person-002"]
    assert not list((results / "streams/door/tracklets").iterdir())
    assert len(list((results / "streams/yard/tracklets").iterdir())) == 2
    assert len(list((live / "clips/gate").iterdir())) == 2
    assert [path.name for path in shown] == ["annotated.mp4", "masks.jsonl", "tracks.mot.txt"]
    assert all(path.exists() for path in shown)
    assert removal.entry is not None
    assert (removal.entry.action, removal.entry.subject) == ("forget", "person-001")
    assert "Anna" not in log.path.read_text()
    assert Remover(places, log, "bert").forget(labels, subject="person-001") == Removal(())


def test_on_request_videos_that_show_others_too_go_with_them(log: AuditLog, results: Path) -> None:
    remover = Remover([DataFolder.at(results)], log, "bert")
    remover.forget(Labels(frozenset({"person-001"})), subject="person-001", with_everybody=True)
    assert not {name for name in names(results) if name.startswith("streams/door")}
    assert "streams/yard/annotated.mp4" in names(results)


def test_kill_9_while_purging_leaves_nothing_broken_and_the_next_purge_ends_it(
    log: AuditLog, results: Path, open_gallery: Callable[..., GalleryStore], tmp_path: Path
) -> None:
    with open_gallery(5.0) as store:
        for number in range(1, 9):
            store.found(make_exemplar(number))
    with open_gallery() as store:
        store.found(make_exemplar(9))
    folder = aged(results, 5.0)
    config = RetentionConfig.model_validate({f"{kind}_days": 1.0 for kind in KINDS})

    def purge_all() -> None:
        with open_gallery() as store:
            places = [folder, GalleryPlace(store)]
            purge(places, config, log)

    rng = random.Random(1)
    for _ in range(8):
        kill_while(purge_all, after_s=rng.uniform(0.01, 0.3))
        assert not log.path.exists() or log.verify().is_sound
    purge_all()
    with open_gallery() as store:
        assert [person.identity.pseudonym for person in store.people()] == ["person-009"]
    assert names(results) == {".trackletgait", "run.json", "sightings.jsonl"}
    assert read_sightings(results / "sightings.jsonl") == []
    assert log.verify().is_sound
    assert list(log.entries())[-1].action == "purge", "what was begun is said to have ended"


def test_limits_are_counted_back_from_now() -> None:
    limits = RetentionConfig(video_days=2.0).limits(NOW_S)
    assert limits.video_s == NOW_S - 2 * DAY_S
    assert limits.pseudonyms_s == NOW_S - DAY_S, "a day unless told otherwise"
    assert limits.silhouettes_s is limits.embeddings_s is limits.sightings_s is None
    assert KEEP.limits(NOW_S).pseudonyms_s is None


def test_reading_sightings_passes_over_those_that_went_in_silence(
    log: AuditLog, results: Path, caplog: pytest.LogCaptureFixture
) -> None:
    remover = Remover([DataFolder.at(results)], log, "bert")
    remover.forget(Labels(frozenset({"person-001"})), subject="person-001")
    assert len(read_sightings(results / "sightings.jsonl")) == 1
    assert not caplog.records
