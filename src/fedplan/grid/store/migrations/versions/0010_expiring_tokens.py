"""Workers' tokens must expire, but for models that were hosted before this was asked of them."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Says of hosted models that their workers' tokens need no expiry: their owners could not say it now."""
    processes = sa.table("processes", sa.column("id"), sa.column("server_config"))
    connection = op.get_bind()
    for row in connection.execute(sa.select(processes.c.id, processes.c.server_config)).all():
        config = json.loads(row.server_config)
        checked = config.get("authentication")
        if not checked or not (checked.get("secret") or checked.get("pub_key")):
            continue
        config["authentication"] = {**checked, "require_exp": False}
        connection.execute(
            processes.update().where(processes.c.id == row.id).values(server_config=json.dumps(config))
        )
