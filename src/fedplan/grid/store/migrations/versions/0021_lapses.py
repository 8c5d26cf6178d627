"""Places remember how often the grid took them, which does not count against their workers."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Adds the column. It is not known who gave the places of before back, so none of them counts."""
    op.add_column("assignments", sa.Column("lapses", sa.Integer, nullable=False, server_default="0"))
    op.execute("UPDATE assignments SET lapses = grants")
