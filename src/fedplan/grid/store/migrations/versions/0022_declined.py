"""Places remember that their workers gave them back, and then take no report."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Adds the column. It is not known which places of before were given back, so all take their reports."""
    column = sa.Column("declined", sa.Boolean, nullable=False, server_default=sa.false())
    op.add_column("assignments", column)
