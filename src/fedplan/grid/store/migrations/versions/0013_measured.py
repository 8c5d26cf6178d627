"""Which metrics a model's Plans measure: nothing else that workers tell is kept."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Adds the column; of models that are hosted already it is not known."""
    op.add_column("processes", sa.Column("measured", sa.Text))
