"""Schema 2: names and what allows them, kept silhouettes, revisions, encryption."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns, and the table of what was removed."""
    for table, columns in _new_columns().items():
        for column in columns:
            op.add_column(table, column)
    op.create_table(
        "removal",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("identity_id", sa.Integer),
        sa.Column("exemplar_id", sa.Integer),
    )
    op.create_index("identity_name", "identity", ["name"], unique=True)
    for table in ("identity", "exemplar", "removal"):
        op.create_index(f"{table}_revision", table, ["revision"])
    # What schema 1 removed it left in the file's free pages.
    op.execute("UPDATE gallery SET schema_version = 2, is_scrubbed = (0 = 1)")


def _new_columns() -> dict[str, list[sa.Column[Any]]]:
    return {
        "gallery": [
            _counter("revision"),
            sa.Column("is_sealed", sa.Boolean, nullable=False, server_default=sa.false()),
            sa.Column("is_scrubbed", sa.Boolean, nullable=False, server_default=sa.true()),
        ],
        "identity": [
            sa.Column("name", sa.String(200)),
            sa.Column("basis", sa.String(2000)),
            sa.Column("purpose", sa.String(2000)),
            sa.Column("enrolled_by", sa.String(200)),
            sa.Column("enrolled_s", sa.Double),
            sa.Column("expires_s", sa.Double),
            _counter("revision"),
        ],
        "exemplar": [
            sa.Column("silhouettes", sa.LargeBinary),
            _counter("revision"),
        ],
    }


def _counter(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))
