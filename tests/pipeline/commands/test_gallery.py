"""`trackletgait gallery`, with the bundled models on the rendered walkers."""

from __future__ import annotations

import json
import sqlite3
import sys
from dataclasses import replace

import numpy as np
import pytest

from pipeline import cli
from pipeline.config import PipelineConfig
from pipeline.gallery.enrolment import WalkRun
from pipeline.privacy.audit import AuditLog, audit_path
from pipeline.sinks.folder import ResultsFolder
from pipeline.sinks.tracklets import TrackletStore
from pipeline.sources.inputs import walker_samples
from pipeline.sources.source import ReadConfig

NAMED = ("--set", "gallery.mode=named")
BASIS = (*NAMED, "--basis", "consent, folder 12", "--who", "Kim")


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a command of `gallery` in this process; return its exit code and what it printed."""

    def run(*args):
        gallery = ("--gallery", tmp_path / "people.gallery")
        if "--gallery" in args:
            gallery = ()
        argv = ["trackletgait", "gallery", *map(str, args), *map(str, gallery)]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        printed = capsys.readouterr()
        return int(exit_.value.code or 0), " ".join((printed.out + printed.err).split())

    return run


@pytest.fixture(scope="module")
def walks():
    """Who walks in the first seconds of a rendered clip."""
    config = PipelineConfig(read=ReadConfig(end_s=4.5))
    [video, _], _ = walker_samples()
    with_walks = WalkRun([str(video)], config).walks()
    return [walk for walk in with_walks.walks if walk.tracklets]


@pytest.fixture(scope="module")
def tracklets(walks, tmp_path_factory):
    """Files of the tracklets of the two first people, as a run leaves them."""
    store = TrackletStore(ResultsFolder.create(tmp_path_factory.mktemp("run") / "results"))
    return [[store.write(each) for each in walk.tracklets] for walk in walks[:2]]


@pytest.fixture
def anna(run, tracklets):
    code, printed = run("enrol", "Anna", *tracklets[0], *BASIS, "--purpose", "the door")
    assert code == 0, printed
    return tracklets[0]


def audit(tmp_path):
    return [
        (entry.action, entry.who, entry.subject)
        for entry in AuditLog(audit_path(tmp_path / "people.gallery")).entries()
    ]


def test_a_person_is_enrolled_from_a_video_and_found_again(run, walks, tmp_path):
    video = str(walker_samples()[0][0])
    part = (video, "--set", "read.end_s=4.5")
    assert len(walks) >= 2
    code, printed = run("enrol", "Anna", *part, *BASIS)
    assert code == 1
    assert f"expected one person, got {len(walks)} tracks" in printed
    for walk in walks:
        assert f"--track {walk.stream}/{walk.track_id}" in printed
    code, printed = run("enrol", "Anna", *part, *BASIS, "--track", walks[0].track_id)
    assert code == 0, printed
    code, printed = run("search", *part, "--json")
    assert code == 0
    found = {answer["track_id"]: answer for answer in json.loads(printed)}
    assert found[walks[0].track_id]["nearest"][0]["name"] == "Anna"
    assert found[walks[0].track_id]["nearest"][0]["distance"] < 0.01
    assert found[walks[1].track_id]["nearest"][0]["distance"] > 0.5
    assert [entry[0] for entry in audit(tmp_path)] == ["enrol-begun", "enrol", "search"]


def test_what_was_recorded_is_shown(run, anna, tmp_path):
    code, printed = run("list")
    assert code == 0
    assert "Anna person-001" in printed
    code, printed = run("show", "anna")
    for text in ("consent, folder 12", "the door", "Kim", "person-001", "walkers-a/"):
        assert text in printed
    code, printed = run("show", "anna", "--json")
    shown = json.loads(printed)
    assert (shown["name"], shown["enrolment"]["by"]) == ("Anna", "Kim")
    assert len(shown["exemplars"]) == shown["num_exemplars"] == len(anna)
    assert audit(tmp_path) == [("enrol-begun", "Kim", "gallery"), ("enrol", "Kim", "person-001")]


def test_names_are_not_for_anonymous_galleries(run, tracklets, tmp_path):
    code, printed = run("enrol", "Anna", *tracklets[0], "--basis", "consent")
    assert code == 2
    assert "gallery.mode: expected named" in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (NAMED, 2, "--basis: expected what allows this enrolment"),
        ((*BASIS, "--expires", "soon"), 2, "--expires: expected a day such as"),
        ((*BASIS, "--expires", "2001-01-01"), 1, "expires: expected a moment in the future"),
        ((*BASIS, "--expires", "infd"), 1, "before the year 10000"),
        ((*BASIS, "--purpose", "x" * 3000), 1, "purpose: expected one line of at most 2000"),
        ((*BASIS, "--track", "99"), 1, "--track 99: expected one of walkers-a/"),
        (
            (*BASIS, "--set", "assembler.min_length=25", "--set", "assembler.window=999"),
            2,
            "window",
        ),
        ((*NAMED, "--add"), 1, "expected a gallery, there is nothing"),
        ((*BASIS, "--add"), 2, "--basis: nothing is recorded of somebody who is enrolled already"),
    ],
)
def test_what_cannot_be_enrolled_is_said_and_leaves_nothing(
    run, tracklets, tmp_path, options, code, said
):
    came, printed = run("enrol", "Anna", *tracklets[0], *options)
    assert (came, said in printed) == (code, True), printed
    gallery = tmp_path / "people.gallery"
    assert not gallery.exists() or run("list")[1] == "The gallery is empty."


def test_a_name_is_given_once_and_walks_are_added_to_it(run, anna, tracklets):
    code, printed = run("enrol", "anna", *tracklets[1], *BASIS)
    assert code == 1
    assert "Anna is enrolled already" in printed
    code, printed = run("enrol", "Anna", *tracklets[1], *NAMED, "--add")
    assert code == 0
    assert f"is known by {len(anna) + len(tracklets[1])} tracklets now" in printed


def test_too_short_a_walk_is_refused_with_what_is_needed(run, walks, tmp_path):
    store = TrackletStore(ResultsFolder.create(tmp_path / "short"))
    whole = walks[0].tracklets[0]
    short = replace(
        whole,
        silhouettes=whole.silhouettes[:9],
        frame_indices=whole.frame_indices[:9],
        times_s=whole.times_s[:9],
    )
    code, printed = run("enrol", "Anna", store.write(short), *BASIS)
    assert code == 1
    assert "at least 15 silhouettes without a break, got 9" in printed


def test_what_cannot_be_recorded_is_not_done(run, anna, tmp_path):
    log = audit_path(tmp_path / "people.gallery")
    log.write_bytes(log.read_bytes().replace(b"Kim", b"Tim"))
    code, printed = run("rename", "Anna", "Bea", *NAMED)
    assert (code, "its last line was changed" in printed) == (1, True)
    assert [person["name"] for person in json.loads(run("list", "--json")[1])] == ["Anna"]


def test_people_are_renamed_merged_split_and_forgotten(run, anna, tracklets, tmp_path):
    run("enrol", "Berta", *tracklets[1], *BASIS)
    assert run("rename", "Berta", "Bea", *NAMED)[0] == 0
    assert run("merge", "Anna", "Bea") == (0, "Bea is Anna now.")
    shown = json.loads(run("show", "Anna", "--json")[1])
    keys = [each["id"] for each in shown["exemplars"]]
    assert len(keys) == len(anna) + len(tracklets[1])
    code, printed = run("split", "Anna", keys[-1], "--name", "Carl", *BASIS)
    assert (code, printed) == (0, f"Of Anna, {keys[-1]} went to Carl.")
    assert run("split", "Anna", "999")[0] == 1
    code, printed = run("forget", "Anna")
    assert code == 0
    assert "Anna is forgotten (enrolments: 1" in printed
    assert [person["name"] for person in json.loads(run("list", "--json")[1])] == ["Carl"]
    assert run("forget", "Anna")[0] == 1
    actions = [entry[0] for entry in audit(tmp_path)]
    done = ("enrol", "enrol", "rename", "merge", "split")
    assert actions == [
        *(entry for action in done for entry in (f"{action}-begun", action)),
        *("split-begun", "split-failed", "forget-begun", "forget"),
    ]
    assert AuditLog(audit_path(tmp_path / "people.gallery")).verify().is_sound
    assert b"Anna" not in (tmp_path / "people.gallery").read_bytes()


def test_people_move_to_another_gallery(run, anna, tmp_path):
    out, other = tmp_path / "people.tgg", ("--gallery", tmp_path / "other.gallery")
    assert run("export", out, "Anna")[0] == 0
    assert run("import", out, *other)[0] == 1  # names are not switched on
    assert not (tmp_path / "other.gallery").exists()
    (tmp_path / "other.gallery").touch()  # as is left where there was no room to make it
    code, printed = run("import", out, *other, *NAMED)
    assert (code, printed) == (0, "1 person is new: Anna")
    code, printed = run("import", out, *other, *NAMED)
    assert (code, "Anna is enrolled already" in printed) == (1, True)
    out.write_bytes(b"nonsense")
    code, printed = run("import", out, *other, *NAMED)
    assert (code, "none or damaged" in printed) == (1, True)


def test_another_model_needs_the_silhouettes(run, tracklets, walks):
    random = ("--set", "encoder.weights=random", "--set", "encoder.variant=nano")
    keep = ("--set", "gallery.keep_silhouettes=true")
    assert run("enrol", "Anna", *tracklets[0], *BASIS, *keep)[0] == 0
    code, printed = run("search", *tracklets[0], *random)
    assert (code, "gallery re-embed" in printed) == (1, True)
    code, printed = run("re-embed", *random)
    assert (code, f"{len(tracklets[0])} exemplars are of model" in printed) == (0, True)
    code, printed = run("search", *tracklets[0], *random, "--json")
    assert json.loads(printed)[0]["nearest"][0]["distance"] < 0.01


def test_a_gallery_that_cannot_be_used_is_said(run, anna, tmp_path):
    path = tmp_path / "people.gallery"
    whole = path.read_bytes()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE gallery SET schema_version = 99")
    connection.close()
    code, printed = run("list")
    assert (code, "version 2 or older, got version 99" in printed) == (1, True)
    for damaged in (whole[: len(whole) // 2], np.random.default_rng(0).bytes(20_000)):
        path.write_bytes(damaged)
        assert run("list")[0] == 1
        assert path.read_bytes() == damaged
    assert run("list", "--gallery", tmp_path / "nowhere")[0] == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["list"], "--gallery: expected a gallery"),
        (["-g", "x"], "expected a command before it: trackletgait gallery list -g x"),
    ],
)
def test_a_command_and_a_gallery_must_be_meant(monkeypatch, capsys, args, said):
    monkeypatch.setattr(sys, "argv", ["trackletgait", "gallery", *args])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_search_asks_as_a_run_would(run, anna, tracklets, tmp_path):
    code, printed = run("search", *tracklets[0], "--set", "gallery.false_positive_rate=0.01")
    assert (code, "(FPIR 1% of" in printed) == (0, True)
    with sqlite3.connect(tmp_path / "people.gallery") as connection:
        connection.execute("UPDATE identity SET expires_s = 1000.0, revision = 99")
    connection.close()
    code, printed = run("search", *tracklets[0], "--json")
    assert (code, json.loads(printed)[0]["nearest"]) == (0, [])


@pytest.mark.parametrize("command", ["enrol", "search", "forget", "merge"])
def test_a_server_has_no_audit_log_beside_it(run, command):
    server = ("--gallery", "postgresql+psycopg://u@localhost/people")
    code, printed = run(command, "Anna", *(("x",) if command != "forget" else ()), *server, *NAMED)
    assert (code, "--audit: expected the audit log" in printed) == (2, True)


def test_a_password_in_the_address_of_a_server_is_refused_unseen(run):
    code, printed = run("list", "--gallery", "postgresql+psycopg://u:hunter2@localhost/people")
    assert code == 2
    assert "without a password" in printed
    assert "hunter2" not in printed
