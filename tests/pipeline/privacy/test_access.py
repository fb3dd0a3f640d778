"""What one person is given is all of theirs, and nothing of anybody else."""

from __future__ import annotations

import json
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import PrivacyError
from pipeline.gallery.store import GalleryStore
from pipeline.privacy.access import Sources, also_called, gather, gather_zip
from pipeline.privacy.audit import AuditLog
from pipeline.privacy.folders import ClipsFolder, DataFolder
from pipeline.privacy.galleries import write_person
from pipeline.privacy.labels import Labels
from pipeline.privacy.places import RowsPlace
from pipeline.sinks.sqlite_sink import SqliteSink
from tests.pipeline.privacy.conftest import event

THEM = Labels(frozenset({"Anna", "person-001"}))


@pytest.fixture
def sources(results: Path, live: Path, gallery: GalleryStore, tmp_path: Path) -> Sources:
    database = tmp_path / "events.sqlite"
    with SqliteSink(database) as sink:
        sink.write([event(1, "Anna"), event(2, "person-002")])
    log = AuditLog(tmp_path / "audit.jsonl")
    log.record("search", who="bert", subject="person-001")
    log.record("merge", who="bert", subject="person-009", details={"other": "person-001"})
    log.record("enrol", who="bert", subject="person-002")
    return Sources(
        places=[DataFolder.at(results), DataFolder.at(live), RowsPlace(database)],
        logs=[(log, None), (AuditLog(tmp_path / "nothing.jsonl"), None)],
        galleries=[partial(write_person, gallery, gallery.find("Anna"))],
    )


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_it_is_gathered_from_everywhere(sources: Sources, tmp_path: Path) -> None:
    out = tmp_path / "theirs"
    found = gather(THEM, sources, out)
    assert out.stat().st_mode & 0o777 == 0o700
    assert (found.num_sightings, found.num_entries, found.num_galleries) == (1 + 5 + 1, 2, 1)
    assert {str(each["identity"]) for each in lines(out / "sightings.jsonl")} == THEM.all
    assert [each["action"] for each in lines(out / "audit.jsonl")] == ["search", "merge"]
    (walk,) = json.loads((out / "gallery/1/person.json").read_text())["exemplars"]
    with np.load(out / "gallery/1" / walk["embedding"]) as arrays:
        assert arrays["embedding"].shape == (256, 16)
        assert arrays["silhouettes"].shape == (30, 64, 44)
    for path in out.rglob("*"):
        assert not path.is_file() or b"person-002" not in path.read_bytes()


def test_what_shows_others_is_left_out_and_named(sources: Sources, tmp_path: Path) -> None:
    out = tmp_path / "theirs"
    found = gather(THEM, sources, out)
    assert len(found.files) == 2, "a tracklet and its contact sheet"
    assert len(found.left_out) == 3 + 2, "video, outlines and tracks; a clip and its record"
    index = (out / "README.txt").read_text()
    assert all(str(path) in index for path in found.left_out)
    found = gather(THEM, sources, tmp_path / "with clips", with_clips=True)
    assert len(found.files) == 4
    assert len(found.left_out) == 3


def test_clips_that_are_kept_elsewhere_are_gathered_too(live: Path, tmp_path: Path) -> None:
    elsewhere = (live / "clips").rename(tmp_path / "video")
    sources = Sources(places=[ClipsFolder(elsewhere)])
    assert len(gather(THEM, sources, tmp_path / "theirs").left_out) == 2
    found = gather(THEM, sources, tmp_path / "with clips", with_clips=True)
    assert found.files == [
        f"files/1/video/gate/20261121T081803.123Z.{end}" for end in ("mp4", "json")
    ]


def test_it_may_be_one_zip_that_its_owner_alone_may_read(sources: Sources, tmp_path: Path) -> None:
    out = tmp_path / "out" / "theirs.zip"
    out.parent.mkdir()
    gather_zip(THEM, sources, out)
    assert out.stat().st_mode & 0o777 == 0o600
    assert list(out.parent.iterdir()) == [out]
    with zipfile.ZipFile(out) as archive:
        assert {"README.txt", "sightings.jsonl", "gallery/1/person.json"} <= {*archive.namelist()}
    with pytest.raises(PrivacyError, match="there is a file of that name"):
        gather_zip(THEM, sources, out)


def test_who_was_merged_into_somebody_is_found_under_their_former_names(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    for subject, other in (("person-3", "person-4"), ("person-1", "person-3"), ("x", "y")):
        log.record("merge", who="bert", subject=subject, details={"other": other})
    log.record("split", who="bert", subject="person-1", details={"other": "person-9"})
    assert also_called({"person-1"}, log) == {"person-1", "person-3", "person-4"}


def test_a_merger_that_was_cut_short_has_happened_when_the_other_one_is_gone(
    tmp_path: Path,
) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")

    def note(action: str, other: str) -> None:
        log.record(action, who="bert", subject="person-1", details={"other": other})

    for other in ("person-2", "person-3"):
        note("merge-begun", other)  # and is killed
    note("merge-begun", "person-4")
    note("merge-failed", "person-4")
    assert also_called({"person-1"}, log, {"person-1", "person-3"}) == {"person-1", "person-2"}
    note("merge-begun", "person-4")
    assert also_called({"person-1"}, log) == {f"person-{number}" for number in (1, 2, 3, 4)}


def test_half_an_answer_does_not_stay(sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "events.sqlite").write_bytes(b"dear diary" * 100)
    out = tmp_path / "theirs"
    with pytest.raises(PrivacyError, match=r"events\.sqlite"):
        gather(THEM, sources, out)
    assert not out.exists()


def test_a_folder_that_is_there_is_not_touched(sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(PrivacyError, match="made anew"):
        gather(THEM, sources, tmp_path / "mine")
    assert not list((tmp_path / "mine").iterdir())
