"""People from one gallery to another, as one file.

The file is a safetensors: `embeddings` (N, 256, 16) float16 and `silhouettes` (S, 64, 44) uint8,
with who they are as JSON in its metadata. It is not encrypted; only its owner may read it. What
comes in is hostile until it is checked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from gait.data.atomic import open_atomically
from gait.errors import DataError
from gait.strict import StrictModel
from gait.tracklet import SILHOUETTE_HW
from pipeline.errors import GalleryError
from pipeline.gallery.blobs import MOST_SILHOUETTES
from pipeline.gallery.exemplar import EMBEDDING_SHAPE, STORED, Enrolment, Exemplar, Identity
from pipeline.gallery.records import Arrival, Arrivals, Kept, Person
from pipeline.gallery.store import GalleryStore
from pipeline.gallery.writing import LAST_S, MOST_TEXT
from pipeline.values import Embedding

_MOST_BYTES = 8 * 2**30
_MOST_INT = 2**31 - 1
_NOTHING = np.zeros((0, *SILHOUETTE_HW), np.uint8)

_Text = Annotated[str, Field(min_length=1, max_length=MOST_TEXT, pattern=r"^[^\x00-\x1f\x7f]+$")]
_Count = Annotated[int, Field(ge=0, le=_MOST_INT)]
_Moment = Annotated[float, Field(ge=0, lt=LAST_S)]


class _Model(StrictModel):
    model_config = ConfigDict(allow_inf_nan=False)


class _Exemplar(_Model):
    tracklet_uid: _Text
    stream: _Text
    track_id: _Count
    times_s: tuple[float, float]
    quality: float = Field(ge=0, le=1)
    num_silhouettes: _Count
    num_kept: int = Field(ge=0, le=MOST_SILHOUETTES)

    @classmethod
    def of(cls, kept: Kept) -> Self:
        told = {name: getattr(kept, name) for name in cls.model_fields if name != "num_kept"}
        return cls(**told, num_kept=len(_silhouettes(kept)))


class _Enrolment(_Model):
    basis: _Text
    purpose: _Text | None
    by: _Text | None
    expires_s: _Moment | None
    enrolled_s: _Moment


class _Person(_Model):
    pseudonym: _Text
    name: _Text | None
    enrolment: _Enrolment | None
    exemplars: tuple[_Exemplar, ...] = Field(min_length=1)


class _File(_Model):
    kind: Literal["trackletgait.gallery"] = "trackletgait.gallery"
    version: Literal[1] = 1
    model_hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    people: tuple[_Person, ...]


def export_people(store: GalleryStore, path: Path, who: Sequence[Identity] = ()) -> int:
    """Write people with all that is kept of them into a file; return how many.

    Args:
        store: Where they are.
        path: The file.
        who: These; none for everybody.

    Raises:
        GalleryError: The gallery cannot be read, or the file not be written; what was at `path`
            before is still there.
    """
    wanted = {identity.id for identity in who}
    model_hash, everybody = store.whole()
    people = [each for each in everybody if not wanted or each[0].identity.id in wanted]
    try:
        described = tuple(_described(person, kept) for person, kept in people)
        file = _File(model_hash=model_hash, people=described)
    except ValidationError as error:
        raise GalleryError(f"{store.name}: cannot be exported: {_first(error)}") from error
    everything = [each for _, kept in people for each in kept]
    embeddings = np.array([each.embedding for each in everything], dtype=STORED)
    tensors: dict[str, NDArray[Any]] = {
        "embeddings": embeddings.reshape(-1, *EMBEDDING_SHAPE),
        "silhouettes": np.concatenate([_NOTHING, *map(_silhouettes, everything)]),
    }
    data = save(tensors, metadata={"trackletgait": file.model_dump_json()})
    try:
        with open_atomically(path) as out:
            os.fchmod(out.fileno(), 0o600)
            out.write(data)
    except DataError as error:
        raise GalleryError(str(error)) from error
    return len(people)


def read_people(path: Path, *, with_names: bool = True) -> Arrivals:
    """Return the people of a file of `export_people`, for `GalleryStore.receive`.

    Args:
        path: The file.
        with_names: Whether they may have names.

    Raises:
        GalleryError: Somebody has a name who may not; the file is damaged, or none of ours.
    """
    file, embeddings, silhouettes = _read(path)
    names = [person.name for person in file.people if person.name is not None]
    if names and not with_names:
        raise GalleryError(
            f"{path}: it has people with names ({len(names)}), which are not switched on here "
            f"(gallery.mode: named)"
        )
    exemplars = _exemplars(file, embeddings, silhouettes)
    people = tuple(_arrival(person, exemplars) for person in file.people)
    return Arrivals(str(path), file.model_hash, people)


def _silhouettes(kept: Kept) -> NDArray[np.uint8]:
    return _NOTHING if kept.silhouettes is None else kept.silhouettes


def _described(person: Person, kept: Sequence[Kept]) -> _Person:
    known, since_s = person.enrolment, person.enrolled_s or person.created_s
    return _Person(
        pseudonym=person.identity.pseudonym,
        name=person.identity.name,
        enrolment=None if known is None else _Enrolment(**asdict(known), enrolled_s=since_s),
        exemplars=tuple(_Exemplar.of(each) for each in kept),
    )


def _arrival(person: _Person, exemplars: Iterator[Exemplar]) -> Arrival:
    told = None if person.enrolment is None else person.enrolment.model_dump()
    since_s = None if told is None else told.pop("enrolled_s")
    return Arrival(
        name=person.name,
        enrolment=None if told is None else Enrolment(**told),
        enrolled_s=since_s,
        exemplars=tuple(next(exemplars) for _ in person.exemplars),
    )


def _read(path: Path) -> tuple[_File, NDArray[Any], NDArray[np.uint8]]:
    """Return what a file holds, as far as its shapes and its text go."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise GalleryError(f"{path}: expected at most {_MOST_BYTES} bytes, got more")
        with safe_open(path, framework="numpy") as tensors:
            text = (tensors.metadata() or {}).get("trackletgait", "")
            file = _File.model_validate_json(text)
            arrays = [tensors.get_tensor(name) for name in ("embeddings", "silhouettes")]
    except (OSError, SafetensorError, ValueError, TypeError) as error:  # TypeError: of a bfloat16
        reason = _first(error) if isinstance(error, ValidationError) else str(error)
        raise GalleryError(
            f"{path}: expected a file of `trackletgait gallery export`, it is none or damaged: "
            f"{reason}"
        ) from error
    embeddings, silhouettes = arrays
    each = [exemplar for person in file.people for exemplar in person.exemplars]
    expected = [
        (STORED, (len(each), *EMBEDDING_SHAPE)),
        (np.dtype(np.uint8), (sum(exemplar.num_kept for exemplar in each), *SILHOUETTE_HW)),
    ]
    if (came := [(array.dtype, array.shape) for array in arrays]) != expected:
        raise GalleryError(f"{path}: it is damaged: expected arrays of {expected}, got {came}")
    return file, embeddings, silhouettes


def _exemplars(
    file: _File, embeddings: NDArray[Any], silhouettes: NDArray[np.uint8]
) -> Iterator[Exemplar]:
    described = [exemplar for person in file.people for exemplar in person.exemplars]
    ends = np.cumsum([each.num_kept for each in described], dtype=np.int64)
    for each, half, end in zip(described, embeddings, ends, strict=True):
        embedding: Embedding = half.astype(np.float32)
        if not np.isfinite(embedding).all():
            raise GalleryError(f"{each.tracklet_uid}: expected finite numbers in the embedding")
        kept = silhouettes[end - each.num_kept : end] if each.num_kept else None
        told = each.model_dump(exclude={"num_kept"})
        yield Exemplar(**told, embedding=embedding, silhouettes=kept)


def _first(error: ValidationError) -> str:
    """Return the first complaint, without what a stranger wrote: it may be long."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part)[:40] for part in first["loc"]) or "metadata"
    return f"{where}: {first['msg'][:200]}"
