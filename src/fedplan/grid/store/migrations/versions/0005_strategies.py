"""What strategies need: roles of tensors, a state beside each checkpoint, and what came of each cycle."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds the columns. Reports of models that are hosted already go on counting the same as each other."""
    op.add_column("processes", sa.Column("roles", sa.Text))
    op.add_column("checkpoints", sa.Column("state", sa.String(80)))
    op.add_column("cycles", sa.Column("summary", sa.Text))
    op.add_column("assignments", sa.Column("counted_in", sa.BigInteger))
    op.create_index("ix_assignments_counted_in", "assignments", ["counted_in"])
    assignments = sa.table("assignments", sa.column("cycle_id"), sa.column("diff"), sa.column("counted_in"))
    op.execute(
        assignments.update().where(assignments.c.diff.is_not(None)).values(counted_in=assignments.c.cycle_id)
    )
    processes = sa.table("processes", sa.column("id"), sa.column("server_config"))
    connection = op.get_bind()
    for row in connection.execute(sa.select(processes.c.id, processes.c.server_config)).all():
        config = {**json.loads(row.server_config), "weighting": "uniform"}
        connection.execute(
            processes.update().where(processes.c.id == row.id).values(server_config=json.dumps(config))
        )
