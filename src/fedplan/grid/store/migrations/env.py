"""What Alembic runs for each upgrade: the migrations, on the connection that the store opened."""

from alembic import context

from fedplan.grid.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
