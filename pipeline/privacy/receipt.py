"""What a person is given who was forgotten: what was removed, from where, when, and signed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field, ValidationError

from gait.strict import StrictModel
from pipeline.errors import PrivacyError
from pipeline.privacy.audit import AuditLog
from pipeline.privacy.audit_entry import AuditEntry
from pipeline.privacy.keys import KeyConfig, check_keys, derived, read_keys

DataKind = Literal["enrolments", "pseudonyms", "embeddings", "silhouettes", "sightings", "video"]

_LONGEST_RECEIPT = 10_000_000
_Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Removed(StrictModel):
    """Data of one kind that was removed from one place.

    Attributes:
        kind: What it was.
        where: The file or folder it was in.
        count: How many rows, lines or files.
        digest: SHA-256 over what was removed: who kept a copy can show that it is the same, and
            nobody can tell from it what it was.
        oldest_unix_s: Moment the oldest of it tells of, in seconds since 1970, where known.
        newest_unix_s: Likewise the newest.
    """

    kind: DataKind
    where: str
    count: int = Field(ge=0)
    digest: _Hex
    oldest_unix_s: float | None = None
    newest_unix_s: float | None = None


class Receipt(StrictModel):
    """Says that data were removed; whoever has the site's public key can check it.

    Attributes:
        schema_version: Rises when a field changes its meaning.
        action: "forget" or "purge".
        subject: Who was forgotten; "expired data" of a purge.
        removed: What went, by kind and place.
        at_unix_s: When, in seconds since 1970.
        audit_number: Of the entry in the site's audit log that records it.
        audit_hash: Its hash.
        public_key: Of the site that signed it, 32 bytes in hexadecimal.
        signature: Over all the rest, 64 bytes in hexadecimal.
    """

    schema_version: Literal[1] = 1
    action: str
    subject: str
    removed: Annotated[tuple[Removed, ...], Field(strict=False)]
    at_unix_s: float
    audit_number: int = Field(ge=1)
    audit_hash: _Hex
    public_key: _Hex
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")

    def as_text(self) -> str:
        """Return it as the JSON file that is given to the person."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the receipt of such a file; see `verify_receipt` for whether to believe it.

        Raises:
            PrivacyError: It is none.
        """
        if len(text) > _LONGEST_RECEIPT:
            raise PrivacyError("expected a receipt, got a file that is far too long")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(each) for each in first["loc"]) or "the file"
            raise PrivacyError(f"expected a receipt: {where}: {first['msg']}") from error

    @property
    def signed(self) -> bytes:
        """What the signature is over."""
        data = self.model_dump(mode="json", exclude={"signature"})
        return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()


class Signer:
    """Signs receipts with the site's key (Ed25519).

        signer = Signer.load(KeyConfig(file="/etc/trackletgait/site.key"))
        entry = log.record("forget", who=who, subject=pseudonym, details=removal_details(removed))
        receipt = signer.sign(entry, removed)

    Args:
        key: The site's, 32 bytes.

    Raises:
        ValueError: It has another length.
    """

    def __init__(self, key: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(derived(check_keys((key,))[0], "sign"))

    @classmethod
    def load(cls, config: KeyConfig) -> Self:
        """Return the signer of the site's first key.

        Raises:
            ConfigError: The keys are missing, readable by others, or none.
        """
        return cls(read_keys(config)[0])

    @property
    def public_key(self) -> str:
        """What everybody may know, in hexadecimal: with it receipts are checked."""
        return self._private.public_key().public_bytes_raw().hex()

    def sign(self, entry: AuditEntry, removed: Sequence[Removed]) -> Receipt:
        """Return the receipt of a removal.

        Args:
            entry: Of the audit log, recorded with `removal_details(removed)`.
            removed: What went.
        """
        receipt = Receipt(
            action=entry.action,
            subject=entry.subject,
            removed=tuple(removed),
            at_unix_s=entry.at_unix_s,
            audit_number=entry.number,
            audit_hash=entry.hash,
            public_key=self.public_key,
            signature="0" * 128,
        )
        signature = self._private.sign(receipt.signed).hex()
        return receipt.model_copy(update={"signature": signature})


class Tally:
    """Adds up what goes from one place, without holding it.

    Args:
        kind: What it is.
        where: The file or folder it is in.
    """

    def __init__(self, kind: DataKind, where: str) -> None:
        self._kind: DataKind = kind
        self._where = where
        self._count = 0
        self._digest = hashlib.sha256()
        self._moments: tuple[float, ...] = ()

    def add(self, piece: bytes, at_unix_s: float | None = None) -> None:
        """Add a row, a line or a file's digest, and the moment it tells of."""
        self._count += 1
        self._digest.update(hashlib.sha256(piece).digest())
        if at_unix_s is not None:
            moments = (*self._moments, at_unix_s)
            self._moments = min(moments), max(moments)

    @property
    def removed(self) -> Removed | None:
        """What went; None when nothing did."""
        if not self._count:
            return None
        return Removed(
            kind=self._kind,
            where=self._where,
            count=self._count,
            digest=self._digest.hexdigest(),
            **_spanning(self._moments),
        )


def merged(removed: Iterable[Removed]) -> list[Removed]:
    """Return what went with one entry a kind and place, in the order in which these came."""
    groups: dict[tuple[DataKind, str], list[Removed]] = {}
    for each in removed:
        groups.setdefault((each.kind, each.where), []).append(each)
    return [group[0] if len(group) == 1 else _together(group) for group in groups.values()]


def _together(group: Sequence[Removed]) -> Removed:
    moments = [moment for each in group for moment in (each.oldest_unix_s, each.newest_unix_s)]
    return Removed(
        kind=group[0].kind,
        where=group[0].where,
        count=sum(each.count for each in group),
        digest=digest_of(bytes.fromhex(each.digest) for each in group),
        **_spanning(moments),
    )


def removal_details(removed: Sequence[Removed]) -> dict[str, str | int | list[str]]:
    """Return what the audit log keeps of a removal: how much of what from where, no names."""
    lines = [f"{each.kind}: {each.count} from {each.where}{_span(each)}" for each in removed]
    return {
        "count": sum(each.count for each in removed),
        "removed": lines,
        "removed_sha256": _digest_of(removed),
    }


def verify_receipt(
    receipt: Receipt, *, public_keys: Sequence[str] = (), log: AuditLog | None = None
) -> None:
    """Return when the receipt can be believed.

    Args:
        receipt: The receipt.
        public_keys: The site's, as it published them (`trackletgait privacy public-key`). Without
            any, all that is known is that nobody changed the receipt after it was signed.
        log: The site's audit log, to see that it records the same.

    Raises:
        PrivacyError: Saying why it cannot be believed.
    """
    if public_keys and receipt.public_key not in public_keys:
        raise PrivacyError("the receipt is signed with another key than the site's")
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(receipt.public_key))
        public.verify(bytes.fromhex(receipt.signature), receipt.signed)
    except (InvalidSignature, ValueError) as error:
        raise PrivacyError("the receipt was changed after it was signed") from error
    if log is not None:
        _compare(receipt, log)


def _spanning(moments: Iterable[float | None]) -> dict[str, float | None]:
    """Return the fields of `Removed` that say how old what went was."""
    known = [moment for moment in moments if moment is not None]
    return {
        "oldest_unix_s": min(known, default=None),
        "newest_unix_s": max(known, default=None),
    }


def digest_of(pieces: Iterable[bytes]) -> str:
    """Return the SHA-256 of what was removed, in hexadecimal: over each piece's own."""
    whole = hashlib.sha256()
    for piece in pieces:
        whole.update(hashlib.sha256(piece).digest())
    return whole.hexdigest()


def _compare(receipt: Receipt, log: AuditLog) -> None:
    verdict = log.verify()
    if verdict.problem:
        raise PrivacyError(f"{log.path}: {verdict.problem}")
    entries = (entry for entry in log.entries() if entry.number == receipt.audit_number)
    entry = next(entries, None)
    if entry is None or entry.hash != receipt.audit_hash:
        raise PrivacyError(f"{log.path}: it does not record what the receipt says")
    if entry.details.get("removed_sha256") != _digest_of(receipt.removed):
        raise PrivacyError(f"{log.path}: it records another removal than the receipt says")


def _digest_of(removed: Sequence[Removed]) -> str:
    return digest_of([each.model_dump_json().encode() for each in removed])


def _span(removed: Removed) -> str:
    """Return from when to when, for people."""
    if removed.oldest_unix_s is None or removed.newest_unix_s is None:
        return ""
    moments = (removed.oldest_unix_s, removed.newest_unix_s)
    oldest, newest = (f"{datetime.fromtimestamp(each, UTC):%Y-%m-%d %H:%M} UTC" for each in moments)
    return f", {oldest} to {newest}"
