"""What makes a repeated message harmless: how often a place was given, and the digest of its report."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Adds the columns."""
    op.add_column("assignments", sa.Column("grants", sa.Integer, nullable=False, server_default="0"))
    op.add_column("assignments", sa.Column("digest", sa.String(64)))
