"""The database: tables, migrations, and one repository with all queries."""

from shared.db.engine import create_database_engine
from shared.db.repository import Repository

__all__ = ["Repository", "create_database_engine"]
