"""How exactly each variant of a Plan does what the original does."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the column; of Plans that are hosted already it is not known."""
    op.add_column("plan_variants", sa.Column("error", sa.Double))
