"""What evaluation needs: which models are measured, cycles for it, and places for it beside a training."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Adds the columns. Models that are hosted with an evaluation Plan are measured from now on."""
    no = sa.false()
    op.add_column("processes", sa.Column("evaluates", sa.Boolean, nullable=False, server_default=no))
    op.add_column("cycles", sa.Column("task", sa.String(10), nullable=False, server_default="training"))
    op.add_column("cycles", sa.Column("evaluators", sa.Integer, nullable=False, server_default="0"))
    op.add_column("assignments", sa.Column("aside", sa.Boolean, nullable=False, server_default=no))
    processes = sa.table("processes", sa.column("id"), sa.column("evaluates", sa.Boolean))
    plans = sa.table("plans", sa.column("process_id"), sa.column("name"))
    measured = sa.select(plans.c.process_id).where(plans.c.name == "evaluation_plan")
    op.execute(processes.update().where(processes.c.id.in_(measured)).values(evaluates=sa.true()))
