"""Brings a database to the newest schema, or tells how far it is."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from shared.db.engine import reading

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x6261757461  # "bauta": one migration at a time on Postgres


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Run the migrations that are missing, in one transaction; safe to run from many processes."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # A migration may take long, and another process waits for it as long.
            for patience in ("lock_timeout", "statement_timeout"):
                connection.execute(text(f"SET LOCAL {patience} = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        command.upgrade(_config(connection), revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Undo migrations down to ``revision`` (``base``: all)."""
    with engine.begin() as connection:
        command.downgrade(_config(connection), revision)


def is_current(engine: Engine) -> bool:
    """Whether the database has the schema that this code expects."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    with reading(engine).connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() == head
