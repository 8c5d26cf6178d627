"""Secure aggregation: the stage of a cycle, and what was said in each."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Adds the column and the tables; cycles that are open have one stage, and need no name for it."""
    op.add_column("cycles", sa.Column("stage", sa.String(20)))
    op.create_table(
        "secure_rounds",
        sa.Column("cycle_id", _ID, nullable=False, autoincrement=False),
        sa.Column("members", sa.Integer),
        sa.Column("announcement", sa.LargeBinary),
        sa.Column("lists", sa.LargeBinary),
        sa.Column("failure", sa.Text),
        sa.Column("exponents", sa.Text),
        sa.PrimaryKeyConstraint("cycle_id", name="pk_secure_rounds"),
        sa.ForeignKeyConstraint(["cycle_id"], ["cycles.id"], name="fk_secure_rounds_cycle_id"),
    )
    op.create_table(
        "secure_messages",
        sa.Column("assignment_id", _ID, nullable=False, autoincrement=False),
        sa.Column("stage", sa.String(20), nullable=False),
        sa.Column("cycle_id", _ID, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("content", sa.LargeBinary),
        sa.PrimaryKeyConstraint("assignment_id", "stage", name="pk_secure_messages"),
        sa.ForeignKeyConstraint(
            ["assignment_id"], ["assignments.id"], name="fk_secure_messages_assignment_id"
        ),
        sa.ForeignKeyConstraint(["cycle_id"], ["cycles.id"], name="fk_secure_messages_cycle_id"),
    )
    op.create_index("ix_secure_messages_cycle_id_stage", "secure_messages", ["cycle_id", "stage"])
