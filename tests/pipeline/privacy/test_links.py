"""Silhouettes that wait on a link for too long go, and the others arrive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from gait.tracklet import Tracklet
from pipeline.privacy.audit import AuditLog
from pipeline.privacy.limits import RetentionConfig
from pipeline.privacy.links import LinkPlace
from pipeline.privacy.retention import Removal, Remover
from pipeline.transport.spool import Spool
from pipeline.transport.zmq_link import ReceivingLink, SendingLink
from tests.pipeline.privacy.conftest import DAY_S, NOW_S, make_tracklet

DAYS_OLD = (9.0, 8.0, 1.0, 7.0)


def seen(days_ago: float) -> Tracklet:
    tracklet = make_tracklet(round(10 - days_ago))
    return replace(tracklet, origin_unix_s=NOW_S - days_ago * DAY_S)


def purge(link: SendingLink | ReceivingLink, log: AuditLog, *, is_dry_run: bool = False) -> Removal:
    remover = Remover([LinkPlace(link)], log, "anna", is_dry_run=is_dry_run, clock=lambda: NOW_S)
    return remover.purge(RetentionConfig(silhouettes_days=5.0))


@pytest.fixture
def sender(tmp_path: Path) -> Iterator[SendingLink]:
    endpoint, spool = f"ipc://{tmp_path}/link", Spool(tmp_path / "gate.spool")
    with ExitStack() as stack:
        link = SendingLink(endpoint, spool, sender="gate")
        stack.callback(link.close, 0.0)
        yield link


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[ReceivingLink]:
    with ReceivingLink(f"ipc://{tmp_path}/link", tmp_path / "hub.marks") as link:
        yield link


def test_what_could_not_be_sent_for_too_long_goes(sender: SendingLink, tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    sender.send([seen(days) for days in DAYS_OLD])
    told = purge(sender, log, is_dry_run=True)
    assert [(each.kind, each.count) for each in told.removed] == [("silhouettes", 2)]
    assert sender.num_waiting == 4
    removal = purge(sender, log)
    assert [(each.kind, each.count) for each in removal.removed] == [("silhouettes", 2)]
    oldest = sender.oldest()
    assert oldest is not None
    assert oldest.origin_unix_s == NOW_S - DAY_S, "up to the first that is young"
    assert (sender.num_waiting, sender.counts["dropped"]) == (2, 2)
    assert purge(sender, log) == Removal(())


def test_what_is_kept_of_open_tracks_for_too_long_goes(
    sender: SendingLink, receiver: ReceivingLink, tmp_path: Path
) -> None:
    sender.send([seen(days) for days in DAYS_OLD])
    received: list[Tracklet] = []
    while len(received) < len(DAYS_OLD):
        came = receiver.receive(1.0)
        receiver.acknowledge(keep=came)
        received += came
    removal = purge(receiver, AuditLog(tmp_path / "audit.jsonl"))
    assert [(each.kind, each.count) for each in removal.removed] == [("silhouettes", 3)]
    (kept,) = [each for batch in receiver.kept() for each in batch]
    assert kept.origin_unix_s == NOW_S - DAY_S


def test_a_tracklet_of_unknown_age_stays(sender: SendingLink, tmp_path: Path) -> None:
    sender.send([make_tracklet()])
    assert purge(sender, AuditLog(tmp_path / "audit.jsonl")) == Removal(())
    assert sender.num_waiting == 1
