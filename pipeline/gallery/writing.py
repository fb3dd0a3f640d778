"""What one transaction that writes can do to the rows of a gallery."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.orm import Session

from pipeline.errors import GalleryError
from pipeline.gallery.blobs import Blobs
from pipeline.gallery.exemplar import Enrolment, Exemplar, Identity, within_budget
from pipeline.gallery.records import UnknownPerson
from pipeline.gallery.tables import ExemplarRow, GalleryRow, IdentityRow, RemovalRow
from pipeline.values import Embedding

REMEMBERED_REVISIONS = 10_000
"""For how many revisions it is remembered what was removed."""

MOST_TEXT = 2000
"""Characters of what is recorded of somebody."""

LAST_S = 253_402_300_800.0
"""The end of the year 9999 in Unix time: later days cannot be shown."""

_MOST_NAME = 200


class Writing:
    """One transaction; raises the gallery's revision, which every row it writes gets.

    Args:
        session: In a transaction that the caller ends.
        blobs: Packs what exemplars hold.
        name: The gallery's, for errors.
        now_s: Unix time.
        keep_silhouettes: Whether silhouettes are written.
    """

    def __init__(
        self, session: Session, blobs: Blobs, *, name: str, now_s: float, keep_silhouettes: bool
    ) -> None:
        self.session = session
        self._blobs = blobs
        self._name = name
        self._now_s = now_s
        self._keep_silhouettes = keep_silhouettes
        raised = update(GalleryRow).values(revision=GalleryRow.revision + 1)
        # On a server this also makes writers wait for each other: revisions rise as they commit.
        session.execute(raised.execution_options(synchronize_session=False))
        self.gallery = session.scalars(select(GalleryRow)).one()
        self.revision = self.gallery.revision

    def found(self, pseudonym: str) -> IdentityRow:
        """Return a new identity."""
        row = IdentityRow(pseudonym=pseudonym, created_s=self._now_s, revision=self.revision)
        self.session.add(row)
        self.session.flush()
        return row

    def identity(self, identity: Identity) -> IdentityRow:
        """Return the row of somebody.

        Raises:
            UnknownPerson: There is none, or no more.
        """
        row = self.session.get(IdentityRow, identity.id)
        if row is None or row.pseudonym != identity.pseudonym:
            raise UnknownPerson(
                f"{self._name}: {identity.label} is not in the gallery (any more): somebody may "
                f"have removed or merged them meanwhile"
            )
        return row

    def named(self, row: IdentityRow, name: str) -> None:
        """Give an identity a name that nobody else has.

        Raises:
            GalleryError: Somebody has it, or it is no name.
        """
        name = checked_name(name)
        others = select(IdentityRow.name).where(
            IdentityRow.name.is_not(None), IdentityRow.id != row.id
        )
        taken = {other.casefold(): other for other in self.session.scalars(others) if other}
        if name.casefold() in taken:
            raise GalleryError(
                f"{self._name}: {taken[name.casefold()]} is enrolled already; choose another "
                f"name, or add walks to that person (--add)"
            )
        if row.name is None:  # news also to those who look for people with names only
            theirs = update(ExemplarRow).where(ExemplarRow.identity_id == row.id)
            self.session.execute(theirs.values(revision=self.revision))
        row.name, row.revision = name, self.revision

    def record(self, row: IdentityRow, enrolment: Enrolment, *, at_s: float | None = None) -> None:
        """Write down what allows an enrolment, made at `at_s` (None: now).

        Raises:
            GalleryError: There is no basis, or the person would be expired at once.
        """
        checked = checked_enrolment(enrolment, now_s=self._now_s)
        row.basis, row.purpose = checked.basis, checked.purpose
        row.enrolled_by, row.expires_s = checked.by, checked.expires_s
        row.enrolled_s = self._now_s if at_s is None else at_s
        row.revision = self.revision

    def insert(self, identity_id: int, exemplar: Exemplar) -> int:
        """Write an exemplar and return its key.

        Raises:
            GalleryError: The gallery is sealed, and the key is missing.
        """
        if self.gallery.is_sealed:
            self._blobs.need_cipher()
        row = ExemplarRow(
            identity_id=identity_id,
            tracklet_uid=exemplar.tracklet_uid,
            stream=exemplar.stream,
            track_id=exemplar.track_id,
            start_s=exemplar.times_s[0],
            end_s=exemplar.times_s[1],
            quality=exemplar.quality,
            num_silhouettes=exemplar.num_silhouettes,
            created_s=self._now_s,
            embedding=b"",  # sealed to its key, which the database gives
            revision=self.revision,
        )
        self.session.add(row)
        self.session.flush()
        row.embedding = self._blobs.pack_embedding(row.id, exemplar.embedding)
        if (
            self._keep_silhouettes
            and exemplar.silhouettes is not None
            and len(exemplar.silhouettes)
        ):
            row.silhouettes = self._blobs.pack_silhouettes(row.id, exemplar.silhouettes)
        self.session.flush()
        return row.id

    def silhouettes_before(self, exemplar: Exemplar, key: int) -> NDArray[np.uint8] | None:
        """Return those of the walk that `exemplar` continues, kept with exemplar `key`."""
        row = self.session.get(ExemplarRow, key)
        is_same_walk = row is not None and row.tracklet_uid == exemplar.tracklet_uid
        if row is None or not is_same_walk or row.silhouettes is None:
            return None
        return self._blobs.unpack_silhouettes(key, row.silhouettes)

    def move(self, keys: Sequence[int], to: int) -> None:
        """Give exemplars to identity `to`, under another uid where it has the same one."""
        moving = select(ExemplarRow).where(ExemplarRow.id.in_(keys)).order_by(ExemplarRow.id)
        for row in self.session.scalars(moving).all():
            if self.key_of(to, row.tracklet_uid) is not None:
                row.tracklet_uid = self.free_uid(to, row.tracklet_uid)
            row.identity_id, row.revision = to, self.revision
        self.session.flush()

    def remove_exemplars(self, keys: Sequence[int]) -> None:
        """Remove exemplars; those that are gone already are no mistake."""
        if keys:  # one by one: a statement takes some ten thousand values only
            gone = delete(ExemplarRow).where(ExemplarRow.id == bindparam("key"))
            self.session.connection().execute(gone, [{"key": key} for key in keys])
        self.session.add_all(RemovalRow(revision=self.revision, exemplar_id=key) for key in keys)
        self._forget_old_removals()

    def remove_identity(self, row: IdentityRow) -> None:
        """Remove an identity that has no exemplars."""
        self.session.add(RemovalRow(revision=self.revision, identity_id=row.id))
        self.session.delete(row)
        self.session.flush()
        self._forget_old_removals()

    def trim(self, identity_id: int, budget: int) -> None:
        """Keep an identity's `budget` most telling exemplars; see `within_budget`."""
        query = select(ExemplarRow.id, ExemplarRow.quality, ExemplarRow.embedding)
        query = query.where(ExemplarRow.identity_id == identity_id).order_by(ExemplarRow.id)
        rows = self.session.execute(query).all()
        if len(rows) <= budget:
            return
        embeddings = np.stack([self._blobs.unpack_embedding(row[0], row[2]) for row in rows])
        kept = within_budget(embeddings, [row[1] for row in rows], budget)
        self.remove_exemplars([row[0] for i, row in enumerate(rows) if i not in set(kept)])

    def drop_silhouettes(self, before_s: float) -> int:
        """Remove the silhouettes of exemplars older than a Unix time; return how many."""
        old = update(ExemplarRow).where(
            ExemplarRow.created_s < before_s, ExemplarRow.silhouettes.is_not(None)
        )
        dropped = self.session.connection().execute(old.values(silhouettes=None))
        return dropped.rowcount

    def embed_again(self, embeddings: Mapping[int, Embedding]) -> None:
        """Replace the embeddings of these exemplars and remove all others.

        Raises:
            GalleryError: Somebody would be left without an exemplar.
        """
        if self.gallery.is_sealed:
            self._blobs.need_cipher()
        for key, embedding in embeddings.items():
            packed = self._blobs.pack_embedding(key, embedding)
            change = update(ExemplarRow).where(ExemplarRow.id == key)
            self.session.execute(change.values(embedding=packed, revision=self.revision))
        keys = self.session.scalars(select(ExemplarRow.id)).all()
        self.remove_exemplars([key for key in keys if key not in embeddings])
        owners = select(ExemplarRow.identity_id)
        if lost := self.session.scalars(
            select(IdentityRow.pseudonym).where(IdentityRow.id.not_in(owners))
        ).all():
            raise GalleryError(
                f"{self._name}: expected an exemplar of everybody, got none of {', '.join(lost)}"
            )

    def keys_of(self, identity_id: int) -> list[int]:
        """Return the keys of an identity's exemplars, oldest first."""
        query = select(ExemplarRow.id).where(ExemplarRow.identity_id == identity_id)
        return list(self.session.scalars(query.order_by(ExemplarRow.id)))

    def key_of(self, identity_id: int, uid: str) -> int | None:
        """Return the key of an identity's exemplar of one tracklet, None without one."""
        query = select(ExemplarRow.id).where(
            ExemplarRow.identity_id == identity_id, ExemplarRow.tracklet_uid == uid
        )
        return self.session.scalars(query).one_or_none()

    def free_uid(self, identity_id: int, uid: str) -> str:
        """Return a uid that none of an identity's exemplars has."""
        query = select(ExemplarRow.tracklet_uid).where(ExemplarRow.identity_id == identity_id)
        taken = set(self.session.scalars(query))
        return next(name for n in count(2) if (name := f"{uid}#{n}") not in taken)

    def is_alike(self, key: int, exemplar: Exemplar) -> bool:
        """Return whether an exemplar has the embedding of the one that is stored as `key`."""
        row = self.session.get_one(ExemplarRow, key)
        return np.array_equal(self._blobs.unpack_embedding(key, row.embedding), exemplar.embedding)

    def is_taken(self, pseudonym: str) -> bool:
        """Return whether somebody has a pseudonym."""
        query = select(func.count()).where(IdentityRow.pseudonym == pseudonym)
        return bool(self.session.scalars(query).one())

    def _forget_old_removals(self) -> None:
        oldest = self.revision - REMEMBERED_REVISIONS
        self.session.execute(delete(RemovalRow).where(RemovalRow.revision < oldest))


def checked_enrolment(enrolment: Enrolment, *, now_s: float) -> Enrolment:
    """Return what is recorded of an enrolment that begins at a Unix time.

    Raises:
        GalleryError: There is no basis, a text is too long, or the person would be expired at once.
    """
    basis = checked_text(enrolment.basis, "basis")
    if basis is None:
        raise GalleryError(
            "basis: expected what allows this enrolment, such as "
            "'consent of 2026-03-01, folder 12', got nothing"
        )
    expires_s = enrolment.expires_s
    if expires_s is not None and not now_s < expires_s < LAST_S:
        raise GalleryError("expires: expected a moment in the future, before the year 10000")
    purpose = checked_text(enrolment.purpose, "purpose")
    return Enrolment(basis, purpose, checked_text(enrolment.by, "who", _MOST_NAME), expires_s)


def checked_name(name: str) -> str:
    """Return a person's name.

    Raises:
        GalleryError: It is empty, too long, holds what cannot be printed, or looks like a
            pseudonym.
    """
    # What looks the same is the same, however its accents are written.
    checked = checked_text(unicodedata.normalize("NFC", name), "name", _MOST_NAME)
    if checked is None or re.match(r"person-", checked, re.IGNORECASE):
        raise GalleryError(
            f"name: expected a person's name that is no pseudonym ('person-...'), got {name!r}"
        )
    return checked


def checked_text(text: str | None, what: str, most: int = MOST_TEXT) -> str | None:
    """Return a line of text without blanks around it; None if nothing is left.

    Raises:
        GalleryError: It is too long, or holds what cannot be printed.
    """
    text = (text or "").strip()
    if len(text) > most or not text.isprintable():
        raise GalleryError(
            f"{what}: expected one line of at most {most} printable characters, got {len(text)}: "
            f"{text[:60]!a}"
        )
    return text or None
