"""A results folder tells whose it is, under every name they ever had there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.privacy.folders import ClipsFolder, DataFolder
from pipeline.privacy.labels import Labels
from pipeline.recording.clip import ClipRecord
from pipeline.sinks.folder import ResultsFolder
from pipeline.sinks.sightings import SightingLog
from pipeline.sinks.tracklets import TrackletStore
from pipeline.values import Sighting
from tests.pipeline.privacy.conftest import make_tracklet

HERE, ELSEWHERE = "a" * 16, "b" * 16


def labels(*pseudonyms: str, gallery: str = HERE) -> Labels:
    return Labels(pseudonyms={gallery: frozenset(pseudonyms)})


def of_gallery(folder: Path, uid: object) -> DataFolder:
    (folder / "run.json").write_text(json.dumps({"gallery": uid}))
    return DataFolder.at(folder)


def names(paths: object) -> list[str]:
    return [path.name for path in paths]  # type: ignore[attr-defined]


def test_a_folder_of_another_gallery_holds_nothing_of_them_though_the_name_is_the_same(
    results: Path,
) -> None:
    theirs = labels("person-001")
    other = of_gallery(results, ELSEWHERE)
    assert not list(other.sightings_of(theirs))
    assert not list(other.tracklets_of(theirs))
    assert not other.showing_everybody(theirs)
    assert not list(other.forget(theirs))
    own = of_gallery(results, HERE)
    assert names(own.tracklets_of(theirs)) == [
        "track-000001-f000000.png",
        "track-000001-f000000.npz",
    ]
    assert {each.kind for each in own.forget(theirs)} == {"silhouettes", "sightings"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"gallery": 3}'])
def test_a_folder_that_does_not_say_is_taken_for_the_gallerys_that_is_asked_for(
    results: Path, text: str
) -> None:
    (results / "run.json").write_text(text)
    folder = DataFolder.at(results)
    assert folder.gallery is None
    assert len(list(folder.sightings_of(labels("person-001")))) == 1


def test_lines_say_themselves_of_which_gallery_they_are(live: Path) -> None:
    folder = of_gallery(live, HERE)
    path = live / "sightings.jsonl"
    first, *rest = path.read_text().splitlines(keepends=True)
    event = json.loads(first)
    who = event["content"]["identity"]
    event["content"]["gallery"] = ELSEWHERE  # a former run had another one
    path.write_text(json.dumps(event) + "\n" + "".join(rest))
    assert len(list(folder.sightings_of(labels(who)))) == 4
    assert len(list(folder.sightings_of(labels(who, gallery=ELSEWHERE)))) == 1


def test_clips_say_of_each_track_whose_pseudonym_it_is(live: Path) -> None:
    clips = ClipsFolder(live / "clips")
    record = next(path for path in clips.clips_of(labels("person-001")) if path.suffix == ".json")
    clip = ClipRecord.model_validate_json(record.read_bytes())
    (track,) = clip.tracks
    moved = clip.model_copy(update={"tracks": (track.model_copy(update={"gallery": ELSEWHERE}),)})
    record.write_text(moved.model_dump_json())
    assert not list(clips.clips_of(labels("person-001")))
    assert len(list(clips.clips_of(labels("person-001", gallery=ELSEWHERE)))) == 2


def test_tracklets_follow_who_their_track_turned_out_to_be(tmp_path: Path) -> None:
    folder = ResultsFolder.create(tmp_path / "results", room_bytes=0)
    tracklets = TrackletStore(folder)
    tracklets.write(make_tracklet(1), identity="person-003")  # as it was taken at first
    tracklets.write(make_tracklet(2))  # recognised only later
    tracklets.write(make_tracklet(3), identity="person-003")
    sighting = Sighting("person-003", "door", 1, 0.0, 3.0, None, True, 1.0, 30, (), ())
    with SightingLog(folder) as log:
        log.write(sighting)
        log.write(replace(sighting, track_id=2, identity="person-001"))
        log.write(replace(sighting, track_id=3))
        log.write(replace(sighting, identity="person-001", is_revision=True, was="person-003"))
    own = of_gallery(folder.path, HERE)
    numbers = {name[6:12] for name in names(own.tracklets_of(labels("person-001")))}
    assert numbers == {"000001", "000002"}
    list(own.forget(labels("person-001")))
    left = sorted(each.name for each in (folder.path / "streams/door/tracklets").iterdir())
    assert left == ["track-000003-f000000.npz", "track-000003-f000000.png"]


def test_of_a_track_that_is_two_peoples_each_has_what_was_seen_of_them(tmp_path: Path) -> None:
    folder = ResultsFolder.create(tmp_path / "results", room_bytes=0)
    tracklets = TrackletStore(folder)
    early = make_tracklet(1)
    late = replace(early, frame_indices=early.frame_indices + 60, times_s=early.times_s + 6.0)
    for each in (early, late):
        tracklets.write(each)
    sighting = Sighting("person-001", "door", 1, 0.0, 3.0, None, True, 1.0, 30, (), ())
    with SightingLog(folder) as log:
        log.write(sighting)
        log.write(replace(sighting, identity="person-002", start_s=6.0, end_s=9.0))
    own = of_gallery(folder.path, HERE)
    assert names(own.tracklets_of(labels("person-001")))[-1] == "track-000001-f000000.npz"
    assert names(own.tracklets_of(labels("person-002")))[-1] == "track-000001-f000060.npz"
