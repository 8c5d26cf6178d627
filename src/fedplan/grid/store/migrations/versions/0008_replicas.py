"""Which replicas of a grid live, and which of them has each report in its sum."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Adds the table and the column. Who took the reports that are there is not known."""
    op.create_table(
        "replicas",
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("until", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_replicas"),
    )
    op.create_index("ix_replicas_until", "replicas", ["until"])
    op.add_column("assignments", sa.Column("replica", sa.String(40)))
