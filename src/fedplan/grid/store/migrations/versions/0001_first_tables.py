"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Creates them."""
    op.create_table(
        "keys",
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_keys"),
    )
    _hosted()
    _running()


def _hosted() -> None:
    op.create_table(
        "processes",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("version", sa.String(200), nullable=False),
        sa.Column("client_config", sa.Text, nullable=False),
        sa.Column("server_config", sa.Text, nullable=False),
        sa.Column("layout", sa.Text, nullable=False),
        sa.Column("averaging_plan", sa.String(80)),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_processes"),
        sa.UniqueConstraint("name", "version", name="uq_processes_name_version"),
    )
    op.create_table(
        "plans",
        sa.Column("id", _ID, nullable=False),
        sa.Column("process_id", _ID, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_plans"),
        sa.ForeignKeyConstraint(["process_id"], ["processes.id"], name="fk_plans_process_id"),
        sa.UniqueConstraint("process_id", "name", name="uq_plans_process_id_name"),
    )
    op.create_table(
        "plan_variants",
        sa.Column("plan_id", _ID, nullable=False),
        sa.Column("variant", sa.String(20), nullable=False),
        sa.Column("blob", sa.String(80), nullable=False),
        sa.PrimaryKeyConstraint("plan_id", "variant", name="pk_plan_variants"),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name="fk_plan_variants_plan_id"),
    )
    op.create_table(
        "protocols",
        sa.Column("id", _ID, nullable=False),
        sa.Column("process_id", _ID, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("blob", sa.String(80), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_protocols"),
        sa.ForeignKeyConstraint(["process_id"], ["processes.id"], name="fk_protocols_process_id"),
        sa.UniqueConstraint("process_id", "name", name="uq_protocols_process_id_name"),
    )
    op.create_table(
        "checkpoints",
        sa.Column("id", _ID, nullable=False),
        sa.Column("process_id", _ID, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("blob", sa.String(80), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_checkpoints"),
        sa.ForeignKeyConstraint(["process_id"], ["processes.id"], name="fk_checkpoints_process_id"),
        sa.UniqueConstraint("process_id", "number", name="uq_checkpoints_process_id_number"),
    )


def _running() -> None:
    op.create_table(
        "cycles",
        sa.Column("id", _ID, nullable=False),
        sa.Column("process_id", _ID, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("phase", sa.String(10), nullable=False),
        sa.Column("checkpoint_id", _ID, nullable=False),
        sa.Column("opened_at", sa.Double, nullable=False),
        sa.Column("deadline", sa.Double),
        sa.Column("occupied", sa.Integer, nullable=False),
        sa.Column("reported", sa.Integer, nullable=False),
        sa.Column("closed_at", sa.Double),
        sa.Column("failure", sa.Text),
        sa.Column("lease_owner", sa.String(40)),
        sa.Column("lease_until", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_cycles"),
        sa.ForeignKeyConstraint(["process_id"], ["processes.id"], name="fk_cycles_process_id"),
        sa.ForeignKeyConstraint(["checkpoint_id"], ["checkpoints.id"], name="fk_cycles_checkpoint_id"),
        sa.UniqueConstraint("process_id", "number", name="uq_cycles_process_id_number"),
    )
    op.create_index("ix_cycles_phase_deadline", "cycles", ["phase", "deadline"])
    op.create_index("ix_cycles_process_id_phase_number", "cycles", ["process_id", "phase", "number"])
    op.create_table(
        "assignments",
        sa.Column("id", _ID, nullable=False),
        sa.Column("cycle_id", _ID, nullable=False),
        sa.Column("worker_id", sa.String(200), nullable=False),
        sa.Column("identity", sa.String(64), nullable=False),
        sa.Column("key_digest", sa.String(64), nullable=False),
        sa.Column("accepted_at", sa.Double, nullable=False),
        sa.Column("released", sa.Boolean, nullable=False),
        sa.Column("reported_at", sa.Double),
        sa.Column("diff", sa.String(80)),
        sa.PrimaryKeyConstraint("id", name="pk_assignments"),
        sa.ForeignKeyConstraint(["cycle_id"], ["cycles.id"], name="fk_assignments_cycle_id"),
        sa.UniqueConstraint("cycle_id", "worker_id", name="uq_assignments_cycle_id_worker_id"),
        sa.UniqueConstraint("key_digest", name="uq_assignments_key_digest"),
    )
    op.create_index("ix_assignments_identity_cycle_id", "assignments", ["identity", "cycle_id"])
    op.create_table(
        "waiting",
        sa.Column("process_id", _ID, nullable=False),
        sa.Column("worker_id", sa.String(200), nullable=False),
        sa.Column("until", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("process_id", "worker_id", name="pk_waiting"),
        sa.ForeignKeyConstraint(["process_id"], ["processes.id"], name="fk_waiting_process_id"),
    )
    op.create_index("ix_waiting_process_id_until", "waiting", ["process_id", "until"])
