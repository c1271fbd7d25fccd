"""Run by Alembic: uses the connection that ``shared.db.migrate`` opened."""

from alembic import context

from shared.db.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
)
context.run_migrations()
