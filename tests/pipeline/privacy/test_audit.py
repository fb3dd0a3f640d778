"""What was recorded stays, and whatever is done to it later is seen."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import PrivacyError
from pipeline.privacy.audit import AuditLog, audit_path, current_user
from pipeline.privacy.audit_entry import AuditHead, Detail

MANY = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)

WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from pipeline.privacy.audit import AuditLog
    log, who, count = AuditLog(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
    for number in range(count):
        entry = log.record("search", who=who, subject=f"person-{number}")
        print(entry.number, flush=True)
    """
)


def writer(path: Path, who: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), who, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def head_path(log: AuditLog) -> Path:
    return log.path.with_name(log.path.name + ".head")


def record(log: AuditLog, count: int = 1) -> None:
    for number in range(count):
        log.record("search", who="anna", subject=f"person-{number}", details={"found": number})


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path / "new" / "audit.jsonl", clock=lambda: 1.0e9)


def test_what_is_recorded_is_read_again(log: AuditLog) -> None:
    details: dict[str, Detail] = {
        "basis": "größe\n\udcff",
        "found": 3,
        "near": 0.5,
        "streams": ["a", "b"],
    }
    entry = log.record("enrol", who="anna", subject="person-7K3Q", details=details)
    record(log)
    first, second = log.entries()
    assert first == entry
    assert (first.number, first.action, first.who, first.subject) == (
        *(1, "enrol", "anna"),
        "person-7K3Q",
    )
    assert first.at_unix_s == 1.0e9
    assert first.details == {**details, "basis": "größe\n\\udcff"}
    assert second.before == first.hash
    assert log.verify().head == log.head() == AuditHead(2, second.hash)
    assert log.path.stat().st_mode & 0o777 == 0o600


def test_a_log_without_entries_is_sound_and_a_missing_one_is_said(log: AuditLog) -> None:
    with pytest.raises(PrivacyError, match="cannot be read"):
        log.verify()
    log.path.parent.mkdir()
    log.path.touch()
    assert log.verify().is_sound
    assert log.head() == AuditHead()


@MANY
@given(data=st.data())
def test_whatever_is_changed_the_first_broken_line_is_found(
    data: st.DataObject, tmp_path: Path
) -> None:
    log = AuditLog(tmp_path / "audit.jsonl", clock=lambda: 1.0e9)
    untouched = tmp_path / "untouched"
    if not untouched.exists():
        record(log, 5)
        log.path.rename(untouched)
    lines = untouched.read_bytes().splitlines(keepends=True)
    at = data.draw(st.integers(0, 4), label="line")
    change = data.draw(st.sampled_from(["byte", "out", "twice", "swap", "field"]))
    changed = list(lines)
    if change == "byte":
        place = data.draw(st.integers(0, len(lines[at]) - 1), label="byte")
        other = data.draw(st.integers(1, 255), label="by")
        line = bytearray(lines[at])
        line[place] ^= other
        changed[at] = bytes(line)
    elif change == "out":
        del changed[at]
    elif change == "twice":
        changed.insert(at, lines[at])
    elif change == "swap":
        changed[at], changed[at - 1] = changed[at - 1], changed[at]
    else:
        entry = {**json.loads(lines[at]), "who": "eve"}
        changed[at] = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
    log.path.write_bytes(b"".join(changed))
    verdict = log.verify()
    assert not verdict.is_sound
    assert verdict.head.number <= at + (change == "twice")
    if change in {"twice", "field"}:
        assert verdict.first_broken == at + 1 + (change == "twice")


@MANY
@given(st.binary(max_size=300))
def test_anything_else_than_a_log_is_no_sound_log(tmp_path: Path, content: bytes) -> None:
    log = AuditLog(tmp_path / "audit.jsonl", clock=lambda: 1.0e9)
    log.path.write_bytes(content)
    verdict = log.verify()
    assert verdict.is_sound == (b"\n" not in content)
    assert verdict.head == AuditHead()
    assert list(log.entries()) == []


def test_a_line_that_never_ends_is_refused_and_not_read_into_memory(log: AuditLog) -> None:
    record(log)
    with log.path.open("r+b") as file:
        file.truncate(1 << 32)  # a hole: no room is taken
    assert log.verify().first_broken == 2
    assert len(list(log.entries())) == 1


def test_entries_that_are_missing_at_the_end_are_told_from_a_torn_one(log: AuditLog) -> None:
    record(log, 3)
    whole = log.path.read_bytes()
    lines = whole.splitlines(keepends=True)
    log.path.write_bytes(lines[0])
    verdict = log.verify()
    assert (verdict.num_missing, verdict.first_broken, verdict.torn_bytes) == (2, None, 0)
    assert "the last 2 of 3 entries are missing" in str(verdict.problem)
    log.path.write_bytes(whole + b'{"number":4')
    verdict = log.verify()
    assert (verdict.is_sound, verdict.torn_bytes, verdict.num_missing) == (True, 11, 0)


def test_a_head_that_is_kept_elsewhere_shows_what_the_file_beside_it_cannot(log: AuditLog) -> None:
    record(log, 3)
    kept = AuditHead.parse(f" {log.head()}\n")
    record(log, 1)
    assert log.verify(kept=kept).is_sound
    for path in (log.path, head_path(log)):
        path.unlink()
    record(log, 2)
    assert log.verify().is_sound, "both files were written anew"
    assert log.verify(kept=kept).num_missing == 1
    log.record("search", who="eve", subject="person-0")
    assert "written anew" in str(log.verify(kept=kept).problem)


def test_without_its_head_a_log_does_not_claim_that_nothing_is_missing(log: AuditLog) -> None:
    record(log, 3)
    assert log.verify().is_end_known
    head_path(log).unlink()
    assert log.verify().is_sound
    assert not log.verify().is_end_known


@pytest.mark.parametrize("text", ["", "12", "12:ab", "x:" + "0" * 64, "1:" + "g" * 64])
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(PrivacyError, match="expected the head of an audit log"):
        AuditHead.parse(text)


def test_a_torn_last_line_is_repaired_and_that_is_recorded(
    log: AuditLog, caplog: pytest.LogCaptureFixture
) -> None:
    record(log, 2)
    with log.path.open("ab") as file:
        file.write(b'{"number":3,"at_un')
    with caplog.at_level(logging.WARNING):
        record(log)
    assert "a torn last line of 18 bytes is removed" in caplog.text
    assert [entry.action for entry in log.entries()] == ["search", "search", "repair", "search"]
    assert list(log.entries())[2].details == {"torn_bytes": 18}
    assert log.verify().is_sound


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: data.rfind(b"\n", 0, -1) + 1],  # an entry less
        lambda data: data.replace(b"person-2", b"person-9"),
        lambda data: b"",
    ],
)
def test_nothing_is_added_to_a_log_that_was_cut_or_changed(
    log: AuditLog, damage: Callable[[bytes], bytes]
) -> None:
    record(log, 3)
    damaged = damage(log.path.read_bytes())
    log.path.write_bytes(damaged)
    with pytest.raises(PrivacyError, match="trackletgait audit verify"):
        record(log)
    assert log.path.read_bytes() == damaged
    assert not log.verify().is_sound


@pytest.mark.parametrize(
    "details",
    [
        {"embedding": "AAAA"},
        {"password": "hunter2"},
        {"x": b"bytes"},
        {"x": np.zeros(4)},
        {"x": [1.0, 2.0]},
        {"x": float("nan")},
        {"x": [b"bytes"]},
        {str(number): "x" * 2000 for number in range(200)},
        {"x": {"y": 1}},
    ],
)
def test_embeddings_secrets_and_floods_do_not_get_into_the_log(
    log: AuditLog, details: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match="details"):
        log.record("search", who="anna", subject="person-1", details=details)  # type: ignore[arg-type]
    assert not log.path.exists()


def test_long_texts_and_lists_are_cut_and_say_so(log: AuditLog) -> None:
    entry = log.record("enrol", who="a", subject="b", details={"x": "x" * 3000, "y": ["y"] * 130})
    assert entry.details == {"x": "x" * 1997 + "...", "y": ["y"] * 100 + ["and 30 more"]}
    assert log.verify().is_sound


def test_passwords_in_addresses_are_hidden(log: AuditLog) -> None:
    address = "from rtsp://guard:hunt@er2/3@gate/1?token=hunter3&x=1 and http://a/?apikey=hunter4"
    log.record("run", who="anna", subject=address, details={"camera": address, "all": [address]})
    content = log.path.read_text()
    assert "hunt" not in content
    assert "rtsp://***@gate/1?token=***&x=1 and http://a/?apikey=***" in content


@pytest.mark.parametrize("action", ["", "Search", "se arch", "x" * 41, "search\n"])
def test_an_action_is_a_word(log: AuditLog, action: str) -> None:
    with pytest.raises(ValueError, match="expected a word"):
        log.record(action, who="anna", subject="person-1")


def test_several_processes_record_into_one_chain(log: AuditLog) -> None:
    writers = [writer(log.path, f"writer {number}", 15) for number in range(3)]
    numbers = [int(line) for each in writers for line in each.communicate(timeout=60)[0].split()]
    assert sorted(numbers) == list(range(1, 46))
    assert log.verify().head.number == 45
    assert len({entry.who for entry in log.entries()}) == 3


def test_kill_9_at_any_moment_leaves_a_sound_log_with_all_that_was_acknowledged(
    log: AuditLog,
) -> None:
    rng = random.Random(5)
    said = 0
    for _ in range(6):
        process = writer(log.path, "anna", 10_000)
        assert process.stdout is not None
        for _ in range(rng.randrange(1, 12)):
            said = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.communicate(timeout=60)[0].split("\n")[:-1]
        said = int(rest[-1]) if rest else said
        verdict = log.verify()
        assert verdict.is_sound, verdict.problem
        assert verdict.head.number >= said
    record(log)
    assert log.verify().is_sound


def test_a_full_disk_is_said_and_leaves_the_log_as_it_was(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(log, 2)
    before = log.path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PrivacyError, match="No space left"):
        record(log)
    monkeypatch.undo()
    assert log.path.read_bytes() == before
    record(log)
    assert log.verify().head.number == 3


def test_a_galleries_and_a_folders_log_have_their_places(tmp_path: Path) -> None:
    assert audit_path(tmp_path) == tmp_path / "audit.jsonl"
    assert audit_path(tmp_path / "p.gallery") == tmp_path / "p.gallery.audit.jsonl"


def test_who_stands_behind_sudo_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "root")
    monkeypatch.setenv("SUDO_USER", "anna")
    assert current_user() == "anna as root"
    monkeypatch.delenv("SUDO_USER")
    assert current_user() == "root"
