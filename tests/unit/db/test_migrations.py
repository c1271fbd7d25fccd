"""The migrations make the schema that the code expects."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from shared.db import Repository
from shared.db.migrate import downgrade, upgrade
from shared.db.tables import Base


def test_the_migrations_make_the_tables_as_declared(repository: Repository) -> None:
    with repository.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_what_the_second_schema_held_survives_the_third_and_the_way_back(
    repository: Repository,
) -> None:
    engine = repository.engine
    downgrade(engine, "0002")
    columns = {column["name"] for column in inspect(engine).get_columns("models")}
    assert "expires_at" not in columns
    with engine.begin() as connection:
        connection.execute(
            text(
                """INSERT INTO models (tenant_id, id, task, "default", card, size, sha256,
                object_key, created_at) VALUES ('acme', 'mine', 'mask', :no, '{}', 1, '0',
                'acme/models/w/model.safetensors', 1.0)"""
            ),
            {"no": False},
        )

    upgrade(engine)

    kept = repository.models.get("acme", "mine")
    assert kept is not None
    assert kept.expires_at is None, "what was there before models expired is kept"
    assert repository.keeping.expire_models() == 0
    downgrade(engine, "0002")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT id FROM models")).scalar_one() == "mine"
