"""Which of a model's tensors change; the others are stored once, not with each checkpoint."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Adds the columns; of models that are hosted already all tensors change."""
    op.add_column("processes", sa.Column("changing", sa.Text))
    op.add_column("processes", sa.Column("frozen", sa.String(80)))
