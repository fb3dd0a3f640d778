"""Where identities and exemplars are kept: one SQLite file, memory, or a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from pipeline.errors import GalleryError
from pipeline.gallery.exemplar import Enrolment, Exemplar, Identity
from pipeline.gallery.records import Arrivals, Outdated
from pipeline.gallery.stored import StoredGallery, identity_of
from pipeline.gallery.tables import IdentityRow
from pipeline.gallery.writing import Writing
from pipeline.privacy.pseudonyms import period_of
from pipeline.values import Embedding


class GalleryStore(StoredGallery):
    """Identities and exemplars on disk, safe against `kill -9` and a full disk.

        with GalleryStore(Path("people.gallery"), model_hash=encoder.model_hash) as store:
            identity, exemplar_id = store.found(exemplar)
            store.add(identity, another_exemplar)
            anna = store.enrol("Anna", exemplars, Enrolment(basis="consent, folder 12"))

    Each call is one transaction: when it returns, what it wrote is on the disk and stays there;
    when it raises, nothing was written. An identity never exists without an exemplar.

    Pseudonyms are counted from "person-001" and never given twice, not even after a person is
    removed. They say nothing of a person but the order of arrival, and are the same whenever the
    same recording goes into an empty gallery. With a site's key they say not even that.

    Any thread may use it, and several at once. Several processes may use one gallery: each asks
    `changes_since` for what the others did.

    `StoredGallery` tells the arguments, and has what reads.
    """

    def found(self, exemplar: Exemplar) -> tuple[Identity, int]:
        """Return a new identity and the key of its first exemplar, both written.

        Raises:
            GalleryError: They could not be written; nothing was.
        """
        with self._writing() as writing:
            row = writing.found(self._next_pseudonym(writing))
            return identity_of(row), writing.insert(row.id, exemplar)

    def add(self, identity: Identity, exemplar: Exemplar, *, replacing: int | None = None) -> int:
        """Return the key of `exemplar`, which `identity` now has; a second time changes nothing.

        Args:
            identity: Whose it is.
            exemplar: What to keep.
            replacing: Key of an exemplar of the same identity that is dropped for it.

        Raises:
            UnknownPerson: Somebody else removed the identity.
            GalleryError: It could not be written; nothing was.
        """
        with self._writing() as writing:
            writing.identity(identity)
            key = writing.key_of(identity.id, exemplar.tracklet_uid)
            if key is not None and key != replacing:
                return key
            if replacing is not None:
                exemplar = _continued(writing, exemplar, replacing)
                writing.remove_exemplars([replacing])
            return writing.insert(identity.id, exemplar)

    def enrol(
        self,
        name: str,
        exemplars: Sequence[Exemplar],
        enrolment: Enrolment,
        *,
        budget: int = 10,
    ) -> Identity:
        """Return a new person with a name, and with the most telling of these exemplars.

        Args:
            name: Nobody else's, upper and lower case being the same.
            exemplars: At least one.
            enrolment: What allows it.
            budget: Most exemplars to keep; see `pipeline.gallery.exemplar.within_budget`.

        Raises:
            GalleryError: The name is taken or none, there is no basis, or it cannot be written;
                nothing was.
        """
        if not exemplars:
            raise GalleryError(f"{name}: expected at least one exemplar to enrol by, got none")
        with self._writing() as writing:
            row = writing.found(self._next_pseudonym(writing))
            writing.named(row, name)
            writing.record(row, enrolment)
            self._extend(writing, row, exemplars, budget)
            return identity_of(row)

    def extend(
        self, identity: Identity, exemplars: Sequence[Exemplar], *, budget: int = 10
    ) -> None:
        """Add exemplars to somebody, of whom the most telling ones are kept then.

        Raises:
            UnknownPerson: There is nobody like that (any more).
            GalleryError: They could not be written; nothing was.
        """
        with self._writing() as writing:
            self._extend(writing, writing.identity(identity), exemplars, budget)

    def rename(self, identity: Identity, name: str, enrolment: Enrolment | None = None) -> Identity:
        """Return somebody with another name.

        Args:
            identity: Who.
            name: The new name.
            enrolment: What allows it, needed where there was no name before.

        Raises:
            GalleryError: As for `enrol`.
        """
        with self._writing() as writing:
            row = writing.identity(identity)
            writing.named(row, name)
            if enrolment is not None or row.basis is None:
                writing.record(row, enrolment or Enrolment(basis=""))
            return identity_of(row)

    def merge(self, into: Identity, other: Identity, *, budget: int = 10) -> Identity:
        """Return `into`, who now has the exemplars of `other`, who is no more.

        What is recorded of `into` stays, but for the earlier of two dates of expiry.

        Raises:
            UnknownPerson: One of them is not there (any more).
            GalleryError: They are one, only `other` has a name, or it cannot be written.
        """
        with self._writing() as writing:
            kept, gone = writing.identity(into), writing.identity(other)
            if kept.id == gone.id:
                raise GalleryError(f"{into.label}: expected two people to merge, got one twice")
            if gone.name is not None and kept.name is None:
                raise GalleryError(
                    f"{other.label} has a name and {into.label} has none: merge the other way "
                    f"round, into {other.label}"
                )
            ends = [row.expires_s for row in (kept, gone) if row.expires_s is not None]
            kept.expires_s, kept.revision = min(ends, default=None), writing.revision
            writing.move(writing.keys_of(gone.id), kept.id)
            writing.remove_identity(gone)
            writing.trim(kept.id, budget)
            return identity_of(kept)

    def hand_over(
        self, keys: Collection[int], was: Identity, to: Identity, *, budget: int = 10
    ) -> bool:
        """Give some of somebody's exemplars to somebody known; say whether `was` is no more.

        Args:
            keys: Which exemplars; those that are not theirs (any more) are left alone.
            was: Whose they are. A pseudonym that has no others is gone; somebody who was enrolled
                keeps what there is then.
            to: Whose they become.
            budget: Most exemplars to keep of `to`.

        Raises:
            UnknownPerson: One of them is not there (any more).
            GalleryError: It cannot be written; nothing was.
        """
        with self._writing() as writing:
            source, target = writing.identity(was), writing.identity(to)
            theirs = set(writing.keys_of(source.id))
            is_gone = theirs <= set(keys)
            if is_gone and source.name is not None:
                return False
            writing.move(sorted(theirs & set(keys)), target.id)
            if is_gone:
                writing.remove_identity(source)
            writing.trim(target.id, budget)
            return is_gone

    def split(
        self,
        identity: Identity,
        keys: Collection[int],
        name: str | None = None,
        enrolment: Enrolment | None = None,
    ) -> Identity:
        """Return a new identity that takes some of another's exemplars.

        Args:
            identity: Who has them now, and keeps at least one.
            keys: Which exemplars.
            name: Of the new one; None gives a pseudonym.
            enrolment: What allows a name.

        Raises:
            Outdated: The identity or some key is not there (any more), or none would be left.
            GalleryError: The name cannot be given, or it cannot be written; nothing was.
        """
        with self._writing() as writing:
            theirs = set(writing.keys_of(writing.identity(identity).id))
            if not keys or not set(keys) < theirs:
                raise Outdated(
                    f"{identity.label}: expected some, not all, of the exemplars "
                    f"{sorted(theirs)}, got {sorted(keys)}"
                )
            row = writing.found(self._next_pseudonym(writing))
            if name is not None:
                writing.named(row, name)
                writing.record(row, enrolment or Enrolment(basis=""))
            writing.move(sorted(keys), row.id)
            return identity_of(row)

    def forget(self, identity: Identity, *, scrubbing: bool = True) -> str | None:
        """Remove somebody with everything that is kept; return why bytes are left, if any are.

        No row is left in any case, but free pages of the file may be, while somebody reads it. The
        next who opens the gallery, or `scrub`, tries again.

        Args:
            identity: Who.
            scrubbing: Whether to free the file of their bytes at once, which takes as long as
                writing it anew; who removes many people calls `scrub` after the last.

        Raises:
            UnknownPerson: They are not there (any more).
            GalleryError: They could not be removed.
        """
        with self._writing() as writing:
            row = writing.identity(identity)
            writing.remove_exemplars(writing.keys_of(row.id))
            writing.remove_identity(row)
            writing.gallery.is_scrubbed = False
        try:
            if scrubbing:
                self.scrub()
        except GalleryError as error:
            return str(error)
        return None

    def seal(self) -> int:
        """Seal what is not sealed with the site's first key; return how many exemplars were not.

        Raises:
            GalleryError: Some key is missing, or it cannot be written; nothing was.
        """
        with self._writing() as writing:
            num_sealed = self._seal(writing.session)
        self.scrub()
        return num_sealed

    def thin(self, identity: Identity, keys: Collection[int]) -> None:
        """Remove some of somebody's exemplars; `scrub` frees the file of their bytes.

        Args:
            identity: Who keeps at least one.
            keys: Which exemplars; those that are gone already are no mistake.

        Raises:
            UnknownPerson: They are not there (any more).
            GalleryError: None would be left, or they could not be removed; nothing was.
        """
        with self._writing() as writing:
            theirs = set(writing.keys_of(writing.identity(identity).id))
            if theirs <= set(keys):
                raise GalleryError(
                    f"{identity.label}: expected some, not all, of the exemplars {sorted(theirs)}"
                )
            writing.remove_exemplars(sorted(theirs & set(keys)))
            writing.gallery.is_scrubbed = False

    def drop_silhouettes(self, *, before_s: float) -> int:
        """Remove the silhouettes of exemplars older than a moment; return how many went.

        Args:
            before_s: Unix time.

        Raises:
            GalleryError: They could not be removed.
        """
        with self._writing() as writing:
            num_dropped = writing.drop_silhouettes(before_s)
            writing.gallery.is_scrubbed &= not num_dropped
        self.scrub()
        return num_dropped

    def receive(self, arrivals: Arrivals, *, budget: int = 10) -> list[Identity]:
        """Return the new identities of people who come from another gallery, all or none.

        Who has no name gets a new pseudonym.

        Raises:
            GalleryError: Another model embedded them, a name is taken, an enrolment has expired,
                or they cannot be written; nothing was.
        """
        with self._writing() as writing:
            if arrivals.model_hash != writing.gallery.model_hash:
                raise GalleryError(
                    f"{arrivals.source}: made with model {arrivals.model_hash[:12]}, {self.name} "
                    f"with {writing.gallery.model_hash[:12]}, and distances between the two mean "
                    f"nothing; embed one of them again with `trackletgait gallery re-embed`"
                )
            rows = []
            for arrival in arrivals.people:
                row = writing.found(self._next_pseudonym(writing))
                if arrival.name is not None:
                    writing.named(row, arrival.name)
                    writing.record(row, arrival.enrolment or Enrolment(""), at_s=arrival.enrolled_s)
                self._extend(writing, row, arrival.exemplars, budget)
                rows.append(row)
            return [identity_of(row) for row in rows]

    def embed_again(
        self, embeddings: Mapping[int, Embedding], *, model_hash: str, revision: int
    ) -> None:
        """Replace all embeddings by those of another model; exemplars without one go.

        Args:
            embeddings: By key of the exemplar.
            model_hash: Of the model that made them.
            revision: The gallery's when the silhouettes were read.

        Raises:
            GalleryError: Somebody changed the gallery since, somebody would be left without an
                exemplar, or it cannot be written; nothing was.
        """
        with self._writing() as writing:
            if writing.revision != revision + 1:
                raise GalleryError(f"{self.name}: somebody changed it meanwhile: run again")
            writing.embed_again(embeddings)
            writing.gallery.model_hash = model_hash
            writing.gallery.is_scrubbed = False
        self.scrub()

    def _extend(
        self, writing: Writing, row: IdentityRow, exemplars: Sequence[Exemplar], budget: int
    ) -> None:
        for exemplar in exemplars:
            uid = exemplar.tracklet_uid
            key = writing.key_of(row.id, uid)
            if key is not None and writing.is_alike(key, exemplar):
                continue
            if key is not None:  # another recording's: its tracklets may have the same names
                exemplar = replace(exemplar, tracklet_uid=writing.free_uid(row.id, uid))
            writing.insert(row.id, exemplar)
        writing.trim(row.id, budget)

    def _next_pseudonym(self, writing: Writing) -> str:
        writing.gallery.num_founded += 1
        number = writing.gallery.num_founded
        if self._pseudonyms is None:
            return f"person-{number:03d}"
        period = period_of(self._clock())
        return self._pseudonyms.pseudonym(number, period=period, is_taken=writing.is_taken)


def _continued(writing: Writing, exemplar: Exemplar, replaced: int) -> Exemplar:
    """Return an exemplar with the silhouettes of all of its walk, of which it has the last."""
    earlier = writing.silhouettes_before(exemplar, replaced) if exemplar.continues else None
    if earlier is None or exemplar.silhouettes is None:
        return exemplar
    return replace(exemplar, silhouettes=np.concatenate([earlier, exemplar.silhouettes]))
