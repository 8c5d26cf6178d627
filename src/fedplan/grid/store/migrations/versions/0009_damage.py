"""Reports that were found damaged: each in its row, and how many a cycle lost."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Adds the columns."""
    op.add_column("assignments", sa.Column("damaged", sa.String(80)))
    op.add_column("cycles", sa.Column("damaged", sa.Integer, nullable=False, server_default="0"))
