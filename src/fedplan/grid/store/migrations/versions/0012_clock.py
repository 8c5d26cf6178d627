"""No wall clock decides who closes a cycle and who lives; a jump of the database's time is made up for."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Counters in place of times; leases that are held are free, for no replica of before runs any more."""
    op.add_column("cycles", sa.Column("lease_counter", sa.BigInteger, nullable=False, server_default="0"))
    op.drop_column("cycles", "lease_until")
    op.execute("UPDATE cycles SET lease_owner = NULL")
    op.drop_table("replicas")
    op.create_table(
        "replicas",
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("counter", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_replicas"),
    )
    clock = op.create_table(
        "clock",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("shift", sa.Double, nullable=False),
        sa.Column("jumps", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_clock"),
    )
    op.bulk_insert(clock, [{"id": 1, "shift": 0.0, "jumps": 0}])
