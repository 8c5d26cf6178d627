"""What a model's owner may do to it: pause, stop, extend, change and delete it, and choose a checkpoint."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_MADE_BY = """
UPDATE checkpoints SET cycle = (
    SELECT max(cycles.number) FROM cycles JOIN checkpoints AS before ON before.id = cycles.checkpoint_id
    WHERE before.process_id = checkpoints.process_id AND before.number = checkpoints.number - 1
    AND cycles.phase = 'done' AND cycles.task = 'training'
)
"""


def upgrade() -> None:
    """Adds columns and tables. SQLite's tables are made anew, for only so it gives no id a second time."""
    op.add_column("processes", sa.Column("revision", sa.Integer, nullable=False, server_default="0"))
    op.add_column("processes", sa.Column("restarted_after", sa.Integer, nullable=False, server_default="0"))
    op.add_column("checkpoints", sa.Column("cycle", sa.Integer))
    op.add_column("checkpoints", sa.Column("source", sa.Integer))
    op.add_column("checkpoints", sa.Column("dropped", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("cycles", sa.Column("revision", sa.Integer, nullable=False, server_default="0"))
    op.add_column("cycles", sa.Column("paused_at", sa.Double))
    op.add_column("cycles", sa.Column("ordered_end", sa.Boolean))
    if op.get_context().dialect.name == "sqlite":
        for table in ("processes", "checkpoints", "cycles"):
            anew = op.batch_alter_table(table, recreate="always", table_kwargs={"sqlite_autoincrement": True})
            with anew:
                pass
    op.create_index("ix_cycles_checkpoint_id", "cycles", ["checkpoint_id"])
    op.execute(_MADE_BY)
    op.create_table(
        "configs",
        sa.Column("process_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("client_config", sa.Text, nullable=False),
        sa.Column("server_config", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("process_id", "revision", name="pk_configs"),
        sa.ForeignKeyConstraint(["process_id"], ["processes.id"], name="fk_configs_process_id"),
    )
    op.create_table(
        "unused_blobs",
        sa.Column("key", sa.String(80), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_unused_blobs"),
    )
