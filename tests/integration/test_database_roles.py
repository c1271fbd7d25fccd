"""The services' role on a real Postgres: rows and nothing else."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import ProgrammingError

from shared.db import Repository, create_database_engine
from shared.db.migrate import downgrade, is_current, upgrade
from shared.db.roles import RoleRefusedError, grant_service_role
from tests.fixtures.postgres import PostgresServer

pytestmark = [pytest.mark.integration]
ROLE, PASSWORD = "bauta_service", "p%a's\"s"


@pytest.fixture
def owner() -> Iterator[Engine]:
    """A migrated database of a server that asks for passwords, as its owner."""
    server = PostgresServer(password="of the owner")
    try:
        server.start()
        url = make_url(server.create_database("roles")).set(password="of the owner")
        engine = create_database_engine(url)
        upgrade(engine)
        yield engine
        engine.dispose()
    finally:
        server.remove()


def as_service(owner: Engine, password: str = PASSWORD) -> Engine:
    return create_database_engine(owner.url.set(username=ROLE, password=password))


def test_the_services_read_and_write_rows_and_change_no_schema(owner: Engine) -> None:
    grant_service_role(owner, ROLE, PASSWORD)
    service = as_service(owner)

    key, _ = Repository(service).keys.create("tests", name="one")
    assert [found.id for found in Repository(service).keys.all()] == [key.id]
    assert is_current(service)
    for forbidden in (
        "DROP TABLE jobs",
        "CREATE TABLE mine (id int)",
        "ALTER TABLE jobs ADD COLUMN mine int",
        "UPDATE alembic_version SET version_num = 'none'",
        "CREATE ROLE another SUPERUSER",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY jobs TO PROGRAM 'cat'",
    ):
        refused = pytest.raises(ProgrammingError, match=r"permission denied|must be")
        with refused, service.begin() as connection:
            connection.execute(text(forbidden))
    service.dispose()


def test_a_grant_is_repeated_at_each_start_and_holds_for_later_tables(owner: Engine) -> None:
    grant_service_role(owner, ROLE, "an old password")
    downgrade(owner, "-1")
    upgrade(owner)
    grant_service_role(owner, ROLE, PASSWORD)
    with owner.begin() as connection:
        connection.execute(text("CREATE TABLE later (id serial, name text)"))

    service = as_service(owner)
    with service.begin() as connection:
        connection.execute(text("INSERT INTO later (name) VALUES ('one')"))
        assert connection.execute(text("SELECT count(*) FROM later")).scalar() == 1
    service.dispose()


@pytest.mark.parametrize(
    ("role", "password", "why"),
    [
        ("bauta", PASSWORD, "owns the tables"),
        ("another_superuser", PASSWORD, "is a superuser"),
        ("no; DROP TABLE jobs", PASSWORD, "a role's name"),
        (ROLE, "", "needs a password"),
    ],
)
def test_roles_that_are_no_services_are_refused(
    owner: Engine, role: str, password: str, why: str
) -> None:
    with owner.begin() as connection:
        connection.execute(text("CREATE ROLE another_superuser SUPERUSER"))

    with pytest.raises(RoleRefusedError, match=why):
        grant_service_role(owner, role, password)


def test_sqlite_has_no_roles(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("database") / "bauta.db"

    with pytest.raises(RoleRefusedError, match="only Postgres"):
        grant_service_role(create_database_engine(make_url(f"sqlite:///{path}")), ROLE, PASSWORD)
