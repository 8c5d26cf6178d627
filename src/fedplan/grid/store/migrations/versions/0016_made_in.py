"""Which cycle made a checkpoint: the reports that were counted in it are those that made the checkpoint."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Adds the column; older checkpoints were made in the done cycle that began one before."""
    op.add_column("checkpoints", sa.Column("made_in", sa.BigInteger))
    op.execute(
        "UPDATE checkpoints SET made_in = (SELECT max(cycles.id) FROM cycles"
        " JOIN checkpoints AS start ON start.id = cycles.checkpoint_id"
        " WHERE start.process_id = checkpoints.process_id AND start.number = checkpoints.number - 1"
        " AND cycles.phase = 'done' AND cycles.task = 'training')"
    )
