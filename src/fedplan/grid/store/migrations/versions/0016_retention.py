"""Checkpoints that were deleted leave their rows, and one replica at a time does what is due now and then."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Adds the column with indices, and a table with a row for the one chore that there is, due at once."""
    op.add_column("checkpoints", sa.Column("deleted_at", sa.Double))
    op.create_index("ix_checkpoints_blob", "checkpoints", ["blob"])
    op.create_index("ix_checkpoints_state", "checkpoints", ["state"])
    chores = op.create_table(
        "chores",
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("owner", sa.String(40)),
        sa.Column("counter", sa.BigInteger, nullable=False),
        sa.Column("due_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_chores"),
    )
    op.bulk_insert(chores, [{"name": "sweep", "owner": None, "counter": 0, "due_at": 0.0}])
