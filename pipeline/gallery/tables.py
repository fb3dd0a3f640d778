"""The tables of a gallery.

gallery   one row: which schema, which model, how many identities were ever founded
identity  one row a person
exemplar  one row a kept tracklet: whose it is, where and when it was seen, what it looks like
"""

from __future__ import annotations

from sqlalchemy import ForeignKey, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA_VERSION = 1
_KEYS_ARE_NEVER_REUSED = {"sqlite_autoincrement": True}


class Base(DeclarativeBase):
    """The schema that `Base.metadata` creates."""


class GalleryRow(Base):
    """What all rows have in common. There is exactly one.

    Attributes:
        num_founded: Identities ever founded. It only rises, so no pseudonym is given twice.
        created_s: Unix time.
    """

    __tablename__ = "gallery"

    id: Mapped[int] = mapped_column(primary_key=True)
    schema_version: Mapped[int]
    model_hash: Mapped[str] = mapped_column(String(64))
    num_founded: Mapped[int] = mapped_column(default=0)
    created_s: Mapped[float]


class IdentityRow(Base):
    """One person."""

    __tablename__ = "identity"
    __table_args__ = (_KEYS_ARE_NEVER_REUSED,)

    id: Mapped[int] = mapped_column(primary_key=True)
    pseudonym: Mapped[str] = mapped_column(String(64), unique=True)
    created_s: Mapped[float]


class ExemplarRow(Base):
    """One tracklet kept to recognise a person by.

    A tracklet's uid is unique within a run only: two recordings called "door" both have a
    "door/1/0", and may be of two people. So it is unique within an identity, and giving an
    identity the same tracklet again changes nothing.
    """

    __tablename__ = "exemplar"
    __table_args__ = (
        UniqueConstraint("identity_id", "tracklet_uid"),
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
