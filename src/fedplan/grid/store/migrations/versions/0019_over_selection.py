"""Cycles remember how many places they have, and what they tell of workers that drop out."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Adds the columns; cycles of before have the places that their server_config says, and tell nothing."""
    op.add_column("cycles", sa.Column("places", sa.Integer))
    for name in ("gone", "judged"):
        op.add_column("cycles", sa.Column(name, sa.Integer, nullable=False, server_default="0"))
