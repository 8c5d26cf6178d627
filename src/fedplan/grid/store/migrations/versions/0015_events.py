"""What happens on the grid, with who did it and why."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Creates the table; PostgreSQL notes by itself which transaction adds a row."""
    op.create_table(
        "events",
        sa.Column("id", _ID, nullable=False),
        sa.Column("written_by", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("model", sa.String(200)),
        sa.Column("version", sa.String(200)),
        sa.Column("cycle", sa.Integer),
        sa.Column("actor", sa.String(20), nullable=False),
        sa.Column("actor_id", sa.String(200)),
        sa.Column("address", sa.String(100)),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("request_id", sa.String(64)),
        sa.Column("details", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_written_by_id", "events", ["written_by", "id"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "ALTER TABLE events ALTER COLUMN written_by SET DEFAULT pg_current_xact_id()::text::bigint"
        )
