"""What a gallery holds about people, as far as it expires or is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import GalleryError
from pipeline.gallery.exemplar import Identity
from pipeline.gallery.records import Kept, Person, UnknownPerson
from pipeline.gallery.store import GalleryStore
from pipeline.privacy.labels import Labels
from pipeline.privacy.limits import Limits
from pipeline.privacy.receipt import DataKind, Removed, Tally

_README = """\
person.json        who it is, on what basis and until when, and each walk that is kept: where and
                   when it was seen. Times that end in _s and belong to a person or a row count
                   seconds since 1970 (UTC), those of a walk from its recording's beginning.
exemplar-N.npz     what one walk is recognised by: 256 x 16 numbers ("embedding"), and where they
                   are kept the silhouettes they were computed from. NumPy opens it.
"""


@dataclass(frozen=True, slots=True)
class GalleryPlace:
    """A gallery; the caller closes it.

    Enrolments that have expired go, people known by a pseudonym once they were not seen for long
    enough, old embeddings, with them who has no other, and old silhouettes.
    """

    store: GalleryStore

    @property
    def name(self) -> str:
        """The gallery."""
        return self.store.name

    @property
    def gallery(self) -> str:
        """Its uid."""
        return self.store.uid

    def purge(self, limits: Limits, *, is_dry_run: bool) -> Iterator[Removed]:
        """Remove who is too old, each in one transaction, then old exemplars and silhouettes."""
        exemplars: dict[int, list[Kept]] = {}
        for kept in self.store.kept():
            exemplars.setdefault(kept.identity_id, []).append(kept)
        staying: list[Kept] = []
        for person in self.store.people():
            theirs = exemplars.get(person.identity.id, [])
            old = [kept for kept in theirs if _is_before(kept.created_s, limits.embeddings_s)]
            try:
                if _is_over(person, theirs, limits):
                    if not is_dry_run:
                        self.store.forget(person.identity, scrubbing=False)
                    yield from _removed_person(self.name, person, theirs)
                    continue
                if old and not is_dry_run:
                    self.store.thin(person.identity, [kept.id for kept in old])
                yield from _removed_exemplars(self.name, old)
            except UnknownPerson:  # somebody else removed them
                continue
            staying += [kept for kept in theirs if kept not in old]
        if not is_dry_run:
            self.store.scrub()
        yield from self._purge_silhouettes(staying, limits.silhouettes_s, is_dry_run)

    def forget(
        self, labels: Labels, *, with_everybody: bool, is_dry_run: bool
    ) -> Iterator[Removed]:
        """Remove them, and their bytes from the file."""
        for person in self.store.people():
            called = (person.identity.name, person.identity.pseudonym)
            if not labels.are_among(called, self.store.uid):
                continue
            exemplars = list(self.store.kept(person.identity))
            problem = None if is_dry_run else self.store.forget(person.identity)
            yield from _removed_person(self.name, person, exemplars)
            if problem:
                raise GalleryError(
                    f"no row of {person.identity.pseudonym} is left, but bytes still are in free "
                    f"parts of the file: {problem}; opening the gallery later frees it of them"
                )

    def _purge_silhouettes(
        self, staying: Sequence[Kept], since_s: float | None, is_dry_run: bool
    ) -> Iterator[Removed]:
        if since_s is None:
            return
        old = [kept for kept in staying if kept.has_silhouettes and kept.created_s < since_s]
        if old and not is_dry_run:
            self.store.drop_silhouettes(before_s=since_s)
        yield from _removed_data(self.name, "silhouettes", old)


def write_person(store: GalleryStore, identity: Identity, folder: Path) -> None:
    """Write what a gallery holds of somebody into a folder, for them to read.

    Raises:
        GalleryError: It cannot be read, or is sealed with a key that was not given.
        OSError: It cannot be written.
    """
    [person] = [each for each in store.people() if each.identity.id == identity.id]
    folder.mkdir(parents=True, exist_ok=True)
    walks = []
    for kept in store.kept(identity, whole=True):
        assert kept.embedding is not None
        arrays: dict[str, NDArray[Any]] = {"embedding": kept.embedding}
        if kept.silhouettes is not None:
            arrays["silhouettes"] = kept.silhouettes
        np.savez_compressed(folder / f"exemplar-{kept.id}.npz", allow_pickle=False, **arrays)
        walk = asdict(replace(kept, embedding=None, silhouettes=None))
        walks.append({**walk, "embedding": f"exemplar-{kept.id}.npz"})
    told = {**asdict(person), "gallery": store.name, "exemplars": walks}
    (folder / "person.json").write_text(json.dumps(told, indent=2), encoding="utf-8")
    (folder / "README.txt").write_text(_README)


def _removed_person(where: str, person: Person, exemplars: Sequence[Kept]) -> Iterator[Removed]:
    tally = Tally("enrolments" if person.enrolment else "pseudonyms", where)
    tally.add(f"{person.identity.id} {person.identity.pseudonym}".encode(), person.created_s)
    if removed := tally.removed:
        yield removed
    yield from _removed_exemplars(where, exemplars)


def _removed_exemplars(where: str, exemplars: Sequence[Kept]) -> Iterator[Removed]:
    yield from _removed_data(where, "embeddings", exemplars)
    pictured = [kept for kept in exemplars if kept.has_silhouettes]
    yield from _removed_data(where, "silhouettes", pictured)


def _removed_data(where: str, kind: DataKind, exemplars: Sequence[Kept]) -> Iterator[Removed]:
    tally = Tally(kind, where)
    for kept in exemplars:
        tally.add(f"{kept.id} {kept.tracklet_uid} {kept.created_s}".encode(), kept.created_s)
    if removed := tally.removed:
        yield removed


def _is_over(person: Person, exemplars: Sequence[Kept], limits: Limits) -> bool:
    newest_s = max((kept.created_s for kept in exemplars), default=person.created_s)
    if _is_before(newest_s, limits.embeddings_s):
        return True
    if person.enrolment is None:
        return _is_before(newest_s, limits.pseudonyms_s)
    expires_s = person.enrolment.expires_s
    return expires_s is not None and expires_s <= limits.now_s


def _is_before(moment_s: float, since_s: float | None) -> bool:
    return since_s is not None and moment_s < since_s
