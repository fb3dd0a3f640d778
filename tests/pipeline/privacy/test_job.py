"""A live run keeps to its retention by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.gallery.store import GalleryStore
from pipeline.live.config import LiveConfig
from pipeline.privacy.audit import AuditLog
from pipeline.privacy.finding import live_purge
from pipeline.privacy.galleries import GalleryPlace
from pipeline.privacy.job import PurgeJob
from pipeline.privacy.limits import RetentionConfig
from pipeline.privacy.lines import read_lines
from pipeline.privacy.places import LinesPlace
from pipeline.privacy.retention import Remover
from pipeline.sinks.jsonl import JsonlSink
from tests.pipeline.privacy.conftest import event, make_exemplar

PATIENCE_S = 30.0


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_what_became_too_old_goes_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    remover = Remover([LinesPlace(path)], AuditLog(tmp_path / "audit.jsonl"), "live run")
    config = RetentionConfig(sightings_days=1.0)
    with JsonlSink(path) as sink, PurgeJob(remover, config, every_s=0.05):
        for _ in range(3):
            sink.write([event(9999)])
            wait_until(lambda: not list(read_lines(path)))


def test_trouble_is_no_end_of_it(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"x" * (2 << 20))
    remover = Remover([LinesPlace(path)], AuditLog(tmp_path / "audit.jsonl"), "live run")
    with PurgeJob(remover, RetentionConfig(sightings_days=1.0), every_s=0.05):
        time.sleep(0.2)
        path.unlink()
        with JsonlSink(path) as sink:
            sink.write([event(9999)])
        wait_until(lambda: not list(read_lines(path)))


def test_a_bug_is_told_and_no_end_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "events.jsonl"
    with JsonlSink(path) as sink:
        sink.write([event(9999)])
    remover = Remover([LinesPlace(path)], AuditLog(tmp_path / "audit.jsonl"), "live run")
    monkeypatch.setattr(LinesPlace, "purge", lambda self, limits, is_dry_run: [][0])
    with PurgeJob(remover, RetentionConfig(sightings_days=1.0), every_s=0.05):
        wait_until(lambda: "IndexError" in caplog.text)
        monkeypatch.undo()
        wait_until(lambda: not list(read_lines(path)))


def test_pseudonyms_expire_in_a_gallery_in_memory_too(live: Path) -> None:
    with GalleryStore(None, model_hash="0" * 64, clock=lambda: 1.0e9) as store:
        store.found(make_exemplar())
        with live_purge(LiveConfig(), live, [GalleryPlace(store)]):
            log = AuditLog(live / "audit.jsonl")
            wait_until(lambda: log.path.exists() and len(list(log.entries())) == 2)
        assert len(store.people()) == 0
        assert [(each.action, each.who) for each in log.entries()] == [
            ("purge-begun", "live run"),
            ("purge", "live run"),
        ]
