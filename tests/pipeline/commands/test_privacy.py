"""Purging, forgetting, giving account: as somebody types it."""

from __future__ import annotations

import base64
import json
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import ConfigError, PrivacyError
from pipeline.gallery.exemplar import Enrolment
from pipeline.gallery.store import GalleryStore
from pipeline.privacy.audit import AuditLog
from pipeline.sinks.folder import ResultsFolder
from pipeline.sinks.jsonl import JsonlSink
from pipeline.sinks.sightings import SightingLog
from pipeline.sinks.sqlite_sink import SqliteSink
from pipeline.values import Sighting
from tests.pipeline.privacy.conftest import event, make_exemplar


def run(*words: object) -> str:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    path = tmp_path / "people.gallery"
    with GalleryStore(path, model_hash="0" * 64, clock=lambda: 1.0e9) as store:
        store.enrol("Anna", [make_exemplar(1)], Enrolment(basis="consent"))
        store.found(make_exemplar(2))
    return path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = ResultsFolder.create(tmp_path / "results", room_bytes=0)
    with SightingLog(folder) as log:
        for name in ("Anna", "person-002"):
            log.write(Sighting(name, "door", 1, 0.0, 3.0, None, True, 1.0, 30, ("a",), ()))
    return folder.path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    run("privacy", "key", tmp_path / "site.key")
    return tmp_path / "site.key"


def test_somebody_is_forgotten_and_the_receipt_can_be_checked(
    gallery: Path, results: Path, key: Path, tmp_path: Path
) -> None:
    receipt = tmp_path / "receipt.json"
    words = ("privacy", "forget", "anna", gallery, results, "--key", key, "--receipt", receipt)
    assert "would go" in run(*words, "--dry-run")
    assert not receipt.exists()
    run(*words)
    assert "Anna" not in (results / "sightings.jsonl").read_text()
    assert "Anna" not in receipt.read_text() + Path(f"{gallery}.audit.jsonl").read_text()
    public = run("privacy", "public-key", "--key", key).strip()
    log = ("--audit", f"{gallery}.audit.jsonl")
    said = run("privacy", "verify-receipt", receipt, "--public-key", public, *log)
    assert "As it was signed with the site's key: forget of person-001" in said
    assert "Anybody may have made that key" in run("privacy", "verify-receipt", receipt)
    receipt.write_text(receipt.read_text().replace('"count": 1', '"count": 2'))
    with pytest.raises(PrivacyError, match="changed after it was signed"):
        run("privacy", "verify-receipt", receipt)
    assert "Nothing about anna was found" in run(*words)


def test_what_went_is_told_and_receipted_also_where_not_everything_went(
    gallery: Path, results: Path, key: Path, tmp_path: Path
) -> None:
    receipt = tmp_path / "receipt.json"
    (results / "sightings.jsonl").write_bytes(b"x" * (2 << 20))
    with pytest.raises(PrivacyError, match="one that does not end"):
        run("privacy", "forget", "Anna", gallery, results, "--key", key, "--receipt", receipt)
    assert "forget of person-001" in run("privacy", "verify-receipt", receipt)


def test_a_purge_gives_a_receipt_too(gallery: Path, key: Path, tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.json"
    run("purge", gallery, "--key", key, "--receipt", receipt)
    assert "purge of expired data" in run("privacy", "verify-receipt", receipt)


def test_without_the_key_for_the_receipt_nothing_is_forgotten(gallery: Path) -> None:
    with pytest.raises(ConfigError, match="TRACKLETGAIT_KEY"):
        run("privacy", "forget", "Anna", gallery, "--receipt", "receipt.json")
    with GalleryStore(gallery, model_hash=None) as store:
        assert store.find("Anna")


def test_a_name_no_gallery_knows_does_not_get_into_the_log(results: Path) -> None:
    run("privacy", "forget", "Anna", results)
    log = AuditLog(results / "audit.jsonl")
    assert [entry.action for entry in log.entries()] == ["forget-begun", "forget"]
    assert "Anna" not in log.path.read_text()


@pytest.fixture
def other_gallery(tmp_path: Path) -> Path:
    """Another site's, where Anna is person-002 and somebody else person-001."""
    path = tmp_path / "other" / "people.gallery"
    path.parent.mkdir()
    with GalleryStore(path, model_hash="0" * 64, clock=lambda: 1.5e9) as store:
        store.found(make_exemplar(1))
        store.enrol("Anna", [make_exemplar(2)], Enrolment(basis="consent"))
    return path


def labels_in(gallery: Path) -> list[str]:
    with GalleryStore(gallery, model_hash=None) as store:
        return [person.identity.label for person in store.people()]


def test_forgetting_over_two_galleries_does_not_take_one_sites_pseudonym_for_the_others(
    gallery: Path, other_gallery: Path, tmp_path: Path
) -> None:
    with GalleryStore(other_gallery, model_hash=None) as store:
        uid = store.uid
    with JsonlSink(tmp_path / "door.jsonl") as sink:
        sink.write([event(1, f"person-00{number}", gallery=uid) for number in (1, 2)])
    run("privacy", "forget", "Anna", gallery, other_gallery, tmp_path / "door.jsonl")
    assert labels_in(gallery) == ["person-002"]
    assert labels_in(other_gallery) == ["person-001"]
    left = [json.loads(line) for line in (tmp_path / "door.jsonl").read_text().splitlines()]
    assert [line.get("content", {}).get("identity") for line in left] == ["person-001", None]
    with pytest.raises(ConfigError, match="give one, with what its runs wrote"):
        run("privacy", "forget", "person-001", gallery, other_gallery)


def test_a_pseudonym_of_runs_that_each_had_a_gallery_in_memory_is_asked_which(
    tmp_path: Path,
) -> None:
    path = tmp_path / "door.jsonl"
    with JsonlSink(path) as sink:
        sink.write([event(1, gallery="a" * 16), event(2, gallery="b" * 16)])
    with pytest.raises(ConfigError, match=f"--of: {'a' * 16} .*, {'b' * 16} .*door"):
        run("privacy", "forget", "person-001", path)
    run("privacy", "forget", "person-001", path, "--of", "b" * 16)
    assert "b" * 16 not in path.read_text()
    assert "a" * 16 in path.read_text()


def test_a_former_name_is_followed_where_somebody_tells_it(gallery: Path, results: Path) -> None:
    run("gallery", "rename", "Anna", "Berta", "--gallery", gallery, "--set", "gallery.mode=named")
    run("privacy", "forget", "Berta", gallery, results, "--also", "Anna")
    assert "Anna" not in (results / "sightings.jsonl").read_text()


def test_everything_about_somebody_is_gathered_and_that_is_recorded(
    gallery: Path, results: Path, tmp_path: Path
) -> None:
    out = tmp_path / "anna.zip"
    assert "1 sightings" in run("privacy", "export", "anna", gallery, results, "--out", out)
    with zipfile.ZipFile(out) as archive:
        assert "alias person-001" in archive.read("README.txt").decode()
        assert json.loads(archive.read("sightings.jsonl"))["identity"] == "Anna"
    (entry,) = AuditLog(Path(f"{gallery}.audit.jsonl")).entries()
    assert (entry.action, entry.subject) == ("export", "person-001")


def test_a_sealed_gallery_is_exported_with_the_key_and_another_is_not_sealed_by_it(
    gallery: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = key.read_text().splitlines()
    monkeypatch.setenv("TRACKLETGAIT_KEY", lines[-1])
    assert len(base64.b64decode(lines[-1])) == 32
    run("privacy", "export", "Anna", gallery, "--out", tmp_path / "plain")
    with GalleryStore(gallery, model_hash=None) as store:
        assert not store.is_sealed()
    config = f"gallery.key.file={key}"
    run("gallery", "seal", "--gallery", gallery, "--set", config)
    run("privacy", "export", "Anna", gallery, "--out", tmp_path / "sealed")
    names = [
        {path.name for path in (tmp_path / folder).rglob("*.npz")} for folder in ("plain", "sealed")
    ]
    assert names[0] == names[1] == {"exemplar-1.npz"}


def test_purging_by_options_tells_what_went_and_a_second_time_finds_nothing(
    gallery: Path, results: Path
) -> None:
    words = ("purge", gallery, results, "--keep", "pseudonyms=30")
    said = run(*words, "--dry-run")
    assert "would go" in said
    assert "pseudonyms" in said
    assert "embeddings" in said
    said = run(*words)
    assert "Recorded as entry 2" in said
    assert "Nothing is too old" in run(*words)
    with GalleryStore(gallery, model_hash=None) as store:
        assert [person.identity.label for person in store.people()] == ["Anna"]


def test_purging_by_the_configuration_looks_where_its_run_writes(
    gallery: Path, tmp_path: Path
) -> None:
    out = tmp_path / "live"
    out.mkdir()
    (out / ".trackletgait").touch()
    for path in (out / "sightings.jsonl", tmp_path / "door.jsonl"):
        with JsonlSink(path) as sink:
            sink.write([event(9000)])
    with SqliteSink(tmp_path / "door.sqlite") as database:
        database.write([event(9000)])
    config = tmp_path / "cameras.yaml"
    config.write_text(
        f"""
        cameras: {{gate: "rtsp://gate/1"}}
        pipeline: {{gallery: {{path: {gallery}}}}}
        sinks:
          - {{kind: jsonl, name: a, path: {tmp_path}/door.jsonl}}
          - {{kind: sqlite, name: b, path: {tmp_path}/door.sqlite}}
          - {{kind: jsonl, name: c, path: {tmp_path}/not-there-yet.jsonl}}
        retention: {{sightings_days: 7, pseudonyms_days: null}}
        """
    )
    said = run("purge", config, "--out", out)
    for name in ("door.jsonl", "door.sqlite", "live/sightings.jsonl"):
        assert str(tmp_path / name) in said
    assert "pseudonyms" not in said
    assert "people.gallery" in run("purge", config, "--out", out, "--keep", "pseudonyms=0")


def test_purging_wants_no_password_of_cameras_or_of_where_events_go(tmp_path: Path) -> None:
    config = tmp_path / "cameras.yaml"
    config.write_text(
        f"""
        cameras: {{gate: {{url: "rtsp://guard@${{GATE_HOST}}/1", password_file: nowhere}}}}
        publish: "rtsp://gait:${{MEDIA_PASSWORD}}@127.0.0.1:8554/{{camera}}"
        metrics: {{port: 9464}}
        control_http: {{token: "${{CONTROL_TOKEN}}"}}
        sinks:
          - {{kind: webhook, url: "https://hook", secret: "${{HOOK_SECRET}}"}}
          - {{kind: jsonl, path: {tmp_path}/door.jsonl}}
        retention: {{sightings_days: 7}}
        """
    )
    with JsonlSink(tmp_path / "door.jsonl") as sink:
        sink.write([event(9000)])
    assert "door.jsonl" in run("purge", config, "--out", tmp_path / "nothing")
    config.write_text(config.read_text().replace("retention", "retentoin"))
    with pytest.raises(ConfigError, match="retentoin: unknown key"):
        run("purge", config)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nothing.gallery"], "no such thing"),
        (["{gallery}s"], r"did you mean .*people\.gallery"),
        (["{video}"], "expected a folder of results or clips.* got another file"),
        (["a.yaml", "b.yaml"], "expected one configuration"),
        (["{gallery}", "--keep", "vidoe=3"], "expected one of video, .* got 'vidoe=3'"),
        (["{gallery}", "--keep", "video"], "such as video=7, got 'video'"),
        (["{gallery}", "--keep", "video=-1"], "video_days"),
        (["postgresql://host/people"], "--audit: expected"),
    ],
)
def test_a_slip_of_the_keyboard_is_named(words: list[str], problem: str, gallery: Path) -> None:
    video = gallery.with_name("walk.mp4")
    video.write_bytes(b"not about anybody")
    with pytest.raises(ConfigError, match=problem):
        run("purge", *(word.format(gallery=gallery, video=video) for word in words))


def test_the_audit_log_is_verified_shown_and_noted(gallery: Path, results: Path) -> None:
    with pytest.raises(ConfigError, match="found no"):
        run("audit", "verify", gallery)
    log = AuditLog(Path(f"{gallery}.audit.jsonl"))
    log.record("search", who="bert", subject="person-001", details={"videos": ["a.mp4", "b.mp4"]})
    log.record("enrol", who="anna", subject="person-002")
    head = run("audit", "head", gallery).strip()
    assert "2 entries, none changed or missing" in run("audit", "verify", log.path)
    assert "kept" not in run("audit", "verify", gallery, "--kept", head)
    shown = run("audit", "show", gallery, "--about", "person-001")
    assert "bert" in shown
    assert "b.mp4" in shown
    assert "anna" not in shown
    assert json.loads(run("audit", "show", gallery, "--json", "--last", "1"))["who"] == "anna"
    log.path.write_bytes(log.path.read_bytes().replace(b"bert", b"carl"))
    with pytest.raises(PrivacyError, match="line 1: it was changed"):
        run("audit", "verify", gallery)


def test_a_receipt_that_is_none_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "walk.mp4").write_bytes(b"\xff\xfe")
    (tmp_path / "my.yaml").write_text("detector: {}")
    for name, words in (
        ("nothing.json", "No such file"),
        ("walk.mp4", "what is no text"),
        ("my.yaml", "expected a receipt"),
    ):
        with pytest.raises(PrivacyError, match=f"{name}: .*{words}"):
            run("privacy", "verify-receipt", tmp_path / name)
    with pytest.raises(ConfigError, match="the name of a file, got a folder"):
        run("privacy", "key", tmp_path)


def test_a_key_is_made_rotated_and_never_printed(key: Path) -> None:
    secret = key.read_text().splitlines()[-1]
    said = run("privacy", "key", key, "--rotate") + run("privacy", "public-key", "--key", key)
    assert "the older ones in it still open" in said
    assert secret not in said
    assert secret in key.read_text()
