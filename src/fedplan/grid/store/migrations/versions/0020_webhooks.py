"""Webhooks: up to which event each has been told."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Adds the table."""
    op.create_table(
        "webhooks",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(40)),
        sa.Column("counter", sa.BigInteger, nullable=False),
        sa.Column("position", sa.String(40), nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("due_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_webhooks"),
    )
