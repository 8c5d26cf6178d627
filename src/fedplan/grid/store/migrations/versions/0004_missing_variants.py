"""Why a Plan lacks variants."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds the column; of Plans that are hosted already nothing is known."""
    op.add_column("plans", sa.Column("missing", sa.Text))
