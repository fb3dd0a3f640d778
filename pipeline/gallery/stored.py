"""A gallery that is open: which one it is, and what it holds."""

from __future__ import annotations

import difflib
import hashlib
import logging
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session, defer

from gait.closing import Closing
from pipeline.errors import GalleryError
from pipeline.gallery.blobs import Blobs
from pipeline.gallery.database import DAMAGED, Database, is_url
from pipeline.gallery.exemplar import Enrolment, Identity
from pipeline.gallery.records import Changes, Kept, Person, StoredExemplar, UnknownPerson
from pipeline.gallery.tables import (
    SCHEMA_VERSION,
    Base,
    ExemplarRow,
    GalleryRow,
    IdentityRow,
    RemovalRow,
)
from pipeline.gallery.writing import REMEMBERED_REVISIONS, Writing
from pipeline.privacy.cipher import Cipher
from pipeline.privacy.pseudonyms import PseudonymKey

logger = logging.getLogger(__name__)

_OURS = {"gallery", "identity", "exemplar"}  # of every schema there was


class StoredGallery(Closing):
    """What a gallery holds; `pipeline.gallery.store.GalleryStore` also changes it.

    Args:
        where: The file, made if missing; the address of a PostgreSQL server; None keeps
            everything in memory. See `Database`.
        model_hash: Hash of the weights that make the embeddings: distances between embeddings of
            two models mean nothing, so a gallery made by another is refused. None opens one that
            is there, whatever made it, to look after it.
        password: The server's, instead of one in the address.
        keep_silhouettes: Whether the silhouettes of exemplars are kept, so that another model can
            embed them again (`pipeline.gallery.reembed`), at the price of some 370 bytes each.
        cipher: Seals embeddings and silhouettes; a gallery that was not sealed becomes it now.
        pseudonyms: Gives pseudonyms that only the site's key can tell; None counts.
        clock: Unix time in seconds.

    Attributes:
        name: Where it is, for people.
        uid: Tells it from all other galleries, also where its file was renamed: a pseudonym names
            nobody without it.

    Raises:
        GalleryError: The file is no gallery, damaged, newer than this program, made by another
            model, sealed with another key or cannot be written. Nothing in it was changed.
    """

    def __init__(
        self,
        where: Path | str | None,
        *,
        model_hash: str | None,
        password: str | None = None,
        keep_silhouettes: bool = False,
        cipher: Cipher | None = None,
        pseudonyms: PseudonymKey | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if model_hash is None and not (where and (is_url(where) or Path(where).exists())):
            raise GalleryError(f"{where}: expected a gallery, there is nothing; check the path")
        self._database = Database(where, password=password)
        self.name = self._database.name
        self._model_hash = model_hash
        self._keep_silhouettes = keep_silhouettes
        self._has_key = cipher is not None
        self._blobs = Blobs(self.name, cipher)
        self._pseudonyms = pseudonyms
        self._clock = clock
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def revision(self) -> int:
        """Return a number that rises with every transaction that writes, whoever writes."""
        with self._database.reading() as session:
            return session.scalars(select(GalleryRow.revision)).one()

    def changes_since(self, revision: int = -1) -> Changes:
        """Return what became of the gallery since one of its revisions; since -1, everything.

        Raises:
            GalleryError: It cannot be read, holds a damaged embedding, or was embedded again by
                another model.
        """
        with self._database.reading() as session:
            now = self._gallery(session).revision
            is_everything = not max(0, now - REMEMBERED_REVISIONS) <= revision <= now
            since = -1 if is_everything else revision
            removed = select(RemovalRow.exemplar_id, RemovalRow.identity_id)
            gone = session.execute(removed.where(RemovalRow.revision > since)).all()
            named = select(IdentityRow).where(IdentityRow.revision > since)
            return Changes(
                revision=now,
                is_everything=is_everything,
                removed_exemplars=tuple(row[0] for row in gone if row[0] is not None),
                removed_identities=tuple(row[1] for row in gone if row[1] is not None),
                identities=tuple(map(identity_of, session.scalars(named.order_by(IdentityRow.id)))),
                exemplars=tuple(self._stored(session, ExemplarRow.revision > since)),
            )

    def exemplars(self) -> Iterator[StoredExemplar]:
        """Yield all exemplars in the order in which they were written.

        Raises:
            GalleryError: The file cannot be read or holds a damaged embedding.
        """
        with self._database.reading() as session:
            self._gallery(session)
            yield from self._stored(session)

    def has_expired(self, identity: Identity) -> bool:
        """Return whether somebody's enrolment has ended, though no purge has removed them yet."""
        return identity.expires_s is not None and identity.expires_s <= self._clock()

    def model_hash(self) -> str:
        """Return the hash of the weights that made the embeddings."""
        with self._database.reading() as session:
            return session.scalars(select(GalleryRow.model_hash)).one()

    def is_sealed(self) -> bool:
        """Return whether what it holds can be read with the site's key only."""
        with self._database.reading() as session:
            return session.scalars(select(GalleryRow.is_sealed)).one()

    def people(self) -> list[Person]:
        """Return everybody with what is recorded of them, in the order in which they came."""
        with self._database.reading() as session:
            return _people(session)

    def find(self, who: str) -> Identity:
        """Return somebody by name or pseudonym, upper and lower case being the same.

        Raises:
            UnknownPerson: There is nobody like that; names are proposed.
        """
        everybody: dict[str, Identity] = {}
        for identity in (person.identity for person in self.people()):
            everybody[identity.pseudonym.casefold()] = identity
            everybody[identity.label.casefold()] = identity
        wanted = unicodedata.normalize("NFC", who).strip().casefold()
        if wanted in everybody:
            return everybody[wanted]
        near = [everybody[key].label for key in difflib.get_close_matches(wanted, everybody)]
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise UnknownPerson(f"{self.name}: there is nobody called {who!r}{hint}")

    def person(self, identity: Identity) -> Person:
        """Return somebody with what is recorded of them.

        Raises:
            UnknownPerson: They are not there (any more).
        """
        for person in self.people():
            if person.identity == identity:
                return person
        raise UnknownPerson(f"{self.name}: {identity.label} is not in the gallery any more")

    def kept(self, identity: Identity | None = None, *, whole: bool = False) -> Iterator[Kept]:
        """Yield all exemplars, or somebody's, with what is recorded of each.

        Args:
            identity: Whose; None for everybody's.
            whole: Whether embeddings and silhouettes are read, too.

        Raises:
            GalleryError: The file cannot be read or holds a damaged embedding or silhouettes.
        """
        with self._database.reading() as session:
            yield from self._kept_of(session, None if identity is None else identity.id, whole)

    def whole(self) -> tuple[str, list[tuple[Person, list[Kept]]]]:
        """Return the model's hash, and everybody with all that is kept, as it is at one moment.

        Raises:
            GalleryError: As for `kept`.
        """
        with self._database.reading() as session:
            people = _people(session)
            kept = [list(self._kept_of(session, each.identity.id, True)) for each in people]
            return self._gallery(session).model_hash, list(zip(people, kept, strict=True))

    def scrub(self) -> None:
        """Free the file of what was removed from it, if that is still to be done.

        Raises:
            GalleryError: Somebody is using it, or there is no room for that.
        """
        with self._database.reading() as session:
            if session.scalars(select(GalleryRow.is_scrubbed)).one():
                return
            revision = session.scalars(select(GalleryRow.revision)).one()
        self._database.scrub()
        with self._writing() as writing:
            # What somebody removed meanwhile is theirs to scrub.
            writing.gallery.is_scrubbed = writing.revision == revision + 1

    def close(self) -> None:
        """Close the gallery. A second time does nothing."""
        self._database.close()

    @contextmanager
    def _writing(self) -> Iterator[Writing]:
        """Give a transaction that is committed at the end of the block, or undone."""
        with self._database.writing() as session:
            writing = Writing(
                session,
                self._blobs,
                name=self.name,
                now_s=self._clock(),
                keep_silhouettes=self._keep_silhouettes,
            )
            self._check_owner(writing.gallery)
            yield writing

    def _gallery(self, session: Session) -> GalleryRow:
        gallery = session.scalars(select(GalleryRow)).one()
        self._check_owner(gallery)
        return gallery

    def _stored(
        self, session: Session, which: ColumnElement[bool] | None = None
    ) -> Iterator[StoredExemplar]:
        query = select(
            ExemplarRow.id,
            IdentityRow.id,
            IdentityRow.pseudonym,
            IdentityRow.name,
            IdentityRow.expires_s,
            ExemplarRow.quality,
            ExemplarRow.embedding,
        ).join(IdentityRow, IdentityRow.id == ExemplarRow.identity_id)
        if which is not None:
            query = query.where(which)
        query = query.order_by(ExemplarRow.id).execution_options(yield_per=256)
        for row in session.execute(query):
            embedding = self._blobs.unpack_embedding(row[0], row[6])
            yield StoredExemplar(row[0], Identity(*row[1:5]), row[5], embedding)

    def _kept_of(self, session: Session, person: int | None, whole: bool) -> Iterator[Kept]:
        query = select(ExemplarRow, ExemplarRow.silhouettes.is_not(None)).order_by(ExemplarRow.id)
        if person is not None:
            query = query.where(ExemplarRow.identity_id == person)
        if not whole:
            query = query.options(defer(ExemplarRow.embedding), defer(ExemplarRow.silhouettes))
        for row, has_silhouettes in session.execute(query.execution_options(yield_per=64)):
            yield self._kept(row, whole, has_silhouettes)
            session.expunge(row)

    def _kept(self, row: ExemplarRow, whole: bool, has_silhouettes: bool) -> Kept:
        packed = row.silhouettes if whole else None
        return Kept(
            id=row.id,
            identity_id=row.identity_id,
            tracklet_uid=row.tracklet_uid,
            stream=row.stream,
            track_id=row.track_id,
            times_s=(row.start_s, row.end_s),
            quality=row.quality,
            num_silhouettes=row.num_silhouettes,
            created_s=row.created_s,
            embedding=self._blobs.unpack_embedding(row.id, row.embedding) if whole else None,
            silhouettes=None if packed is None else self._blobs.unpack_silhouettes(row.id, packed),
            has_silhouettes=has_silhouettes,
        )

    def _open(self) -> None:
        with self._database.opening() as session:
            tables = self._database.tables(session)
            # A server's database may hold other tables beside ours, a file may not.
            if not (tables & _OURS if self._database.is_server else tables):
                self._create(session)
            self._upgrade(session)
            gallery = session.scalars(select(GalleryRow)).one()
            self._check_owner(gallery)
            # Nobody makes two in one microsecond.
            self.uid = hashlib.sha256(repr(gallery.created_s).encode()).hexdigest()[:16]
            if self._has_key and not session.scalars(select(GalleryRow.is_sealed)).one():
                self._seal(session)
        self._database.write_ahead()
        try:
            self.scrub()  # for whoever could not
        except GalleryError as error:
            logger.info("%s: still holds bytes of what was removed: %s", self.name, error)

    def _create(self, session: Session) -> None:
        if self._model_hash is None:
            raise GalleryError(f"{self.name}: expected a gallery, got an empty database")
        Base.metadata.create_all(session.connection())
        session.add(
            GalleryRow(
                schema_version=SCHEMA_VERSION,
                model_hash=self._model_hash,
                created_s=self._clock(),
            )
        )
        session.flush()

    def _upgrade(self, session: Session) -> None:
        """Refuse what is no whole gallery, and bring an old one up to date."""
        if not self._database.tables(session) >= _OURS:
            raise GalleryError(
                f"{self.name}: expected a gallery, got a database of something else; "
                f"give another one"
            )
        self._database.check(session)
        # Read alone first: another schema may have other columns.
        version = session.scalars(select(GalleryRow.schema_version)).one()
        if not 0 < version <= SCHEMA_VERSION:
            raise GalleryError(
                f"{self.name}: expected a gallery of version {SCHEMA_VERSION} or older, got "
                f"version {version}; update trackletgait or give another path"
            )
        if version < SCHEMA_VERSION:
            from pipeline.gallery.migrations import upgrade

            upgrade(session.connection(), from_version=version)
        if not self._database.tables(session) >= set(Base.metadata.tables):
            raise GalleryError(f"{self.name}: {DAMAGED} (a table is missing)")

    def _check_owner(self, gallery: GalleryRow) -> None:
        """Refuse what another model made, or what only another key opens."""
        if self._model_hash not in (None, gallery.model_hash):
            raise GalleryError(
                f"{self.name}: made with model {gallery.model_hash[:12]}, this run uses "
                f"{self._model_hash[:12]}, and distances between the two mean nothing; embed its "
                f"silhouettes again with `trackletgait gallery re-embed`, give the weights it was "
                f"made with, or another path"
            )
        if gallery.is_sealed and self._model_hash is not None:
            self._blobs.need_cipher()

    def _seal(self, session: Session) -> int:
        """Seal every blob with the site's first key that is not; return how many were not."""
        gallery = session.scalars(select(GalleryRow)).one()
        num_sealed = 0
        for row in session.scalars(select(ExemplarRow).execution_options(yield_per=64)):
            num_sealed += self._blobs.reseal(row, was_sealed=gallery.is_sealed)
        gallery.is_sealed = True
        if num_sealed:
            gallery.is_scrubbed = False
        return num_sealed


def identity_of(row: IdentityRow) -> Identity:
    """Return who a row is of."""
    return Identity(row.id, row.pseudonym, row.name, row.expires_s)


def _people(session: Session) -> list[Person]:
    counted = (
        select(
            ExemplarRow.identity_id,
            func.count().label("all"),
            func.count(ExemplarRow.silhouettes).label("with"),
        )
        .group_by(ExemplarRow.identity_id)
        .subquery()
    )
    query = select(IdentityRow, counted.c["all"], counted.c["with"]).join(
        counted, counted.c.identity_id == IdentityRow.id
    )
    return [_person(*row) for row in session.execute(query.order_by(IdentityRow.id))]


def _person(row: IdentityRow, num_exemplars: int, num_with_silhouettes: int) -> Person:
    enrolment = (
        None
        if row.basis is None
        else Enrolment(row.basis, row.purpose, row.enrolled_by, row.expires_s)
    )
    return Person(
        identity=identity_of(row),
        created_s=row.created_s,
        enrolment=enrolment,
        enrolled_s=row.enrolled_s,
        num_exemplars=num_exemplars,
        num_with_silhouettes=num_with_silhouettes,
    )
