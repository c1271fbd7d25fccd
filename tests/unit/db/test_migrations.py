"""The migrations make the schema that the code expects."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from shared.db import Repository
from shared.db.tables import Base


def test_the_migrations_make_the_tables_as_declared(repository: Repository) -> None:
    with repository.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
