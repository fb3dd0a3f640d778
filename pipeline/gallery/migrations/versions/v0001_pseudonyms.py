"""Schema 1: people with pseudonyms, and their embeddings."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the three tables."""
    op.create_table(
        "gallery",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("schema_version", sa.Integer, nullable=False),
        sa.Column("model_hash", sa.String(64), nullable=False),
        sa.Column("num_founded", sa.Integer, nullable=False),
        sa.Column("created_s", sa.Double, nullable=False),
    )
    op.create_table(
        "identity",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("pseudonym", sa.String(64), nullable=False, unique=True),
        sa.Column("created_s", sa.Double, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "exemplar",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "identity_id",
            sa.Integer,
            sa.ForeignKey("identity.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("tracklet_uid", sa.String(1024), nullable=False),
        sa.Column("stream", sa.String(1024), nullable=False),
        sa.Column("track_id", sa.Integer, nullable=False),
        sa.Column("start_s", sa.Double, nullable=False),
        sa.Column("end_s", sa.Double, nullable=False),
        sa.Column("quality", sa.Double, nullable=False),
        sa.Column("num_silhouettes", sa.Integer, nullable=False),
        sa.Column("created_s", sa.Double, nullable=False),
        sa.Column("embedding", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("identity_id", "tracklet_uid"),
        sqlite_autoincrement=True,
    )
