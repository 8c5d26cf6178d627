"""What the cycles of a model have spent of its privacy."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """A table of its own: what was spent stays, whatever becomes of checkpoints."""
    op.create_table(
        "spendings",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("process_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("cycle", sa.Integer, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_spendings"),
        sa.ForeignKeyConstraint(["process_id"], ["processes.id"], name="fk_spendings_process_id"),
        sa.UniqueConstraint("process_id", "cycle", name="uq_spendings_process_id_cycle"),
    )
