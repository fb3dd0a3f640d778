"""How a gallery comes from one schema to the next.

Alembic runs the steps in `versions`, here, within the transaction of whoever opens the gallery:
an old one is brought up to date whole, or stays as it was. A new gallery is made by
`pipeline.gallery.tables` at once, which a test shows to be the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def upgrade(connection: Connection, *, from_version: int) -> None:
    """Bring the tables to the newest schema.

    Args:
        connection: In a transaction, which the caller ends.
        from_version: The gallery's `schema_version`.
    """
    scripts = ScriptDirectory(str(Path(__file__).parent))

    def steps(heads: Iterable[str], context: MigrationContext) -> Iterable[RevisionStep]:
        if not heads:  # nothing has altered it yet, so Alembic has noted nothing in it
            context.stamp(scripts, f"{from_version:04d}")
            heads = context.get_current_heads()
        return scripts._upgrade_revs("head", tuple(heads))  # type: ignore[arg-type]

    context = MigrationContext.configure(connection, opts={"fn": steps, "script": scripts})
    with Operations.context(context):
        context.run_migrations()
