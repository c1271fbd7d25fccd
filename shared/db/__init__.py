"""The database: tables, migrations, and one repository with all queries."""

from shared.db.engine import OUTAGES, create_database_engine, first_line
from shared.db.repository import Repository

__all__ = ["OUTAGES", "Repository", "create_database_engine", "first_line"]
