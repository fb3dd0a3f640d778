"""A receipt says what was removed, and whoever holds the public key can check it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PrivacyError
from pipeline.privacy.audit import AuditLog
from pipeline.privacy.receipt import (
    Receipt,
    Removed,
    Signer,
    digest_of,
    removal_details,
    verify_receipt,
)

SITE, OTHER = Signer(b"s" * 32), Signer(b"o" * 32)
REMOVED = [
    Removed(
        kind="embeddings",
        where="people.gallery",
        count=3,
        digest=digest_of([b"1", b"2", b"3"]),
        oldest_unix_s=1.0e9,
        newest_unix_s=1.1e9,
    ),
    Removed(kind="video", where="live", count=1, digest=digest_of([b"clip"])),
]


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path / "audit.jsonl", clock=lambda: 1.5e9)


@pytest.fixture
def receipt(log: AuditLog) -> Receipt:
    details = removal_details(REMOVED)
    entry = log.record("forget", who="anna", subject="person-7K3Q", details=details)
    return SITE.sign(entry, REMOVED)


def test_a_receipt_is_believed_after_it_went_through_a_file(
    receipt: Receipt, log: AuditLog
) -> None:
    again = Receipt.parse(receipt.as_text())
    verify_receipt(again, public_keys=[OTHER.public_key, SITE.public_key], log=log)
    assert again == receipt
    assert (again.subject, again.action, again.at_unix_s) == ("person-7K3Q", "forget", 1.5e9)
    assert again.removed == tuple(REMOVED)


@settings(deadline=None)
@given(data=st.data())
def test_no_field_can_be_changed(data: st.DataObject) -> None:
    fields = {
        "action": "forget",
        "subject": "p",
        "removed": tuple(REMOVED),
        "at_unix_s": 1.5e9,
        "audit_number": 7,
        "audit_hash": "a" * 64,
        "public_key": SITE.public_key,
        "signature": "0" * 128,
    }
    unsigned = Receipt(**fields)  # type: ignore[arg-type]
    signature = SITE._private.sign(unsigned.signed).hex()
    signed = unsigned.model_copy(update={"signature": signature})
    verify_receipt(signed)
    name = data.draw(st.sampled_from([*fields, "count"]))
    other: object = {
        "removed": tuple(REMOVED[:1]),
        "at_unix_s": 1.6e9,
        "audit_number": 8,
        "audit_hash": "b" * 64,
        "public_key": OTHER.public_key,
        "signature": ("1" if signature[0] == "0" else "0") + signature[1:],
        "count": (REMOVED[0].model_copy(update={"count": 4}), REMOVED[1]),
    }.get(name, "other")
    changed = signed.model_copy(update={"removed" if name == "count" else name: other})
    with pytest.raises(PrivacyError, match="changed after it was signed"):
        verify_receipt(changed)


def test_another_sites_receipt_is_told_apart(receipt: Receipt) -> None:
    with pytest.raises(PrivacyError, match="another key than the site's"):
        verify_receipt(receipt, public_keys=[OTHER.public_key])


def test_a_receipt_that_the_log_does_not_know_is_not_believed(
    receipt: Receipt, log: AuditLog, tmp_path: Path
) -> None:
    other = AuditLog(tmp_path / "other.jsonl")
    entry = other.record("forget", who="anna", subject="person-7K3Q")
    with pytest.raises(PrivacyError, match="does not record what the receipt says"):
        verify_receipt(receipt, log=other)
    with pytest.raises(PrivacyError, match="another removal"):
        verify_receipt(SITE.sign(entry, REMOVED), log=other)


def test_a_log_that_was_changed_proves_nothing(receipt: Receipt, log: AuditLog) -> None:
    log.path.write_bytes(log.path.read_bytes().replace(b"anna", b"bert"))
    with pytest.raises(PrivacyError, match="line 1: it was changed"):
        verify_receipt(receipt, log=log)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "dear diary", json.dumps({"schema_version": 2}), "[" * 100_000]
)
def test_what_is_no_receipt_is_refused(text: str) -> None:
    with pytest.raises(PrivacyError, match="expected a receipt"):
        Receipt.parse(text)


def test_the_log_counts_what_went_and_names_no_more_places_than_fit(log: AuditLog) -> None:
    many = [REMOVED[0].model_copy(update={"where": f"{at}/" + "x" * 600}) for at in range(300)]
    entry = log.record("purge", who="a", subject="expired data", details=removal_details(many))
    assert entry.details["count"] == 900
    assert entry.details["removed"][-1] == "and 200 more"  # type: ignore[index]
    verify_receipt(SITE.sign(entry, many), log=log)
    assert removal_details(REMOVED)["removed"] == [
        "embeddings: 3 from people.gallery, 2001-09-09 01:46 UTC to 2004-11-09 11:33 UTC",
        "video: 1 from live",
    ]
