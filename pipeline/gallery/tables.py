"""The tables of a gallery.

gallery   one row: which schema, which model, how often it changed, how many were ever founded
identity  one row a person; with a name and what allows it when the person was enrolled
exemplar  one row a kept tracklet: whose it is, where and when it was seen, what it looks like
removal   one row for each identity or exemplar removed of late, for programs that have it in memory

Older ones are brought to this schema by `pipeline.gallery.migrations`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    UniqueConstraint,
    false,
    text,
    true,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA_VERSION = 2
_KEYS_ARE_NEVER_REUSED = {"sqlite_autoincrement": True}
_ZERO = text("0")


class Base(DeclarativeBase):
    """The newest schema."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {float: Double}


class GalleryRow(Base):
    """What all rows have in common. There is exactly one.

    Attributes:
        num_founded: Identities ever founded. It only rises, so no pseudonym is given twice.
        created_s: Unix time.
        revision: Rises by one with every transaction that writes.
        is_sealed: Whether every blob is encrypted.
        is_scrubbed: Whether the file is free of what was removed; not between a removal and the
            clearing up after it.
    """

    __tablename__ = "gallery"

    id: Mapped[int] = mapped_column(primary_key=True)
    schema_version: Mapped[int]
    model_hash: Mapped[str] = mapped_column(String(64))
    num_founded: Mapped[int] = mapped_column(default=0)
    created_s: Mapped[float]
    revision: Mapped[int] = mapped_column(BigInteger, default=0, server_default=_ZERO)
    is_sealed: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    is_scrubbed: Mapped[bool] = mapped_column(Boolean, default=True, server_default=true())


class IdentityRow(Base):
    """One person.

    Attributes:
        name: Of an enrolled person; None for one who is only known by a pseudonym.
        basis: What allows the enrolment, such as a consent and where it is kept.
        purpose: What the person is to be recognised for.
        enrolled_by: Who enrolled the person.
        enrolled_s: When, in Unix time.
        expires_s: When the person is to be forgotten, in Unix time.
        revision: The gallery's when this row was last written.
    """

    __tablename__ = "identity"
    __table_args__ = (
        Index("identity_name", "name", unique=True),
        Index("identity_revision", "revision"),
        _KEYS_ARE_NEVER_REUSED,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    pseudonym: Mapped[str] = mapped_column(String(64), unique=True)
    created_s: Mapped[float]
    name: Mapped[str | None] = mapped_column(String(200))
    basis: Mapped[str | None] = mapped_column(String(2000))
    purpose: Mapped[str | None] = mapped_column(String(2000))
    enrolled_by: Mapped[str | None] = mapped_column(String(200))
    enrolled_s: Mapped[float | None]
    expires_s: Mapped[float | None]
    revision: Mapped[int] = mapped_column(BigInteger, default=0, server_default=_ZERO)


class ExemplarRow(Base):
    """One tracklet kept to recognise a person by.

    A tracklet's uid is unique within a run only: two recordings called "door" both have a
    "door/1/0", and may be of two people. So it is unique within an identity, and giving an
    identity the same tracklet again changes nothing.

    Attributes:
        silhouettes: Packed, if they are kept.
        revision: The gallery's when this row was last written.
    """

    __tablename__ = "exemplar"
    __table_args__ = (
        UniqueConstraint("identity_id", "tracklet_uid"),
        Index("exemplar_revision", "revision"),
        _KEYS_ARE_NEVER_REUSED,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    identity_id: Mapped[int] = mapped_column(ForeignKey("identity.id", ondelete="CASCADE"))
    tracklet_uid: Mapped[str] = mapped_column(String(1024))
    stream: Mapped[str] = mapped_column(String(1024))
    track_id: Mapped[int]
    start_s: Mapped[float]
    end_s: Mapped[float]
    quality: Mapped[float]
    num_silhouettes: Mapped[int]
    created_s: Mapped[float]
    embedding: Mapped[bytes] = mapped_column(LargeBinary)
    silhouettes: Mapped[bytes | None] = mapped_column(LargeBinary)
    revision: Mapped[int] = mapped_column(BigInteger, default=0, server_default=_ZERO)


class RemovalRow(Base):
    """An identity or an exemplar that is no more; says nothing of it but its key."""

    __tablename__ = "removal"
    __table_args__ = (Index("removal_revision", "revision"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(BigInteger)
    identity_id: Mapped[int | None]
    exemplar_id: Mapped[int | None]
