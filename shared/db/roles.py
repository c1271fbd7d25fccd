"""The role that services use on Postgres: it reads and writes rows and changes no schema.

Migrations run as the owner of the tables, whose password the services do not know: a service that
is taken over cannot drop a table, read the server's files or make roles.
"""

import re
from typing import cast

from psycopg import Connection, sql
from sqlalchemy import Engine

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_VERSIONS = "alembic_version"  # only migrations write it


class RoleRefusedError(ValueError):
    """The role cannot be the services'; the message says why."""


def grant_service_role(engine: Engine, role: str, password: str) -> None:
    """Create a role if it is missing, set its password and grant it the rows of all tables.

    Run it as the owner of the tables, after each migration; it may be repeated. Tables that later
    migrations add are granted, too. Postgres is told a SCRAM verifier and never the password.
    Raises ``RoleRefusedError`` on other databases, for a role that is no plain name, for the owner
    itself and for superusers.
    """
    if engine.dialect.name != "postgresql":
        raise RoleRefusedError("only Postgres has roles")
    if not _NAME.fullmatch(role):
        raise RoleRefusedError("a role's name has lowercase letters, digits and underscores")
    if not password:
        raise RoleRefusedError("the role needs a password")
    raw = engine.raw_connection()
    try:
        _grant(cast("Connection[tuple[object, ...]]", raw.driver_connection), role, password)
        raw.commit()
    finally:
        raw.close()


def _grant(connection: "Connection[tuple[object, ...]]", role: str, password: str) -> None:
    owner, database = connection.execute("SELECT current_user, current_database()").fetchone() or ()
    if role == owner:
        raise RoleRefusedError(f"{role} owns the tables: the services need a role of their own")
    known = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = %s", [role])
    found = known.fetchone()
    if found is not None and found[0]:
        raise RoleRefusedError(f"{role} is a superuser")
    verifier = connection.pgconn.encrypt_password(
        password.encode(), role.encode(), b"scram-sha-256"
    )
    names = {
        "role": sql.Identifier(role),
        "owner": sql.Identifier(str(owner)),
        "database": sql.Identifier(str(database)),
        "versions": sql.Identifier(_VERSIONS),
        "password": sql.Literal(verifier.decode()),
        "begin": sql.SQL("CREATE" if found is None else "ALTER"),
    }
    for statement in (
        "{begin} ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION "
        "NOBYPASSRLS PASSWORD {password}",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",  # the default only since Postgres 15
        "GRANT CONNECT ON DATABASE {database} TO {role}",
        "GRANT USAGE ON SCHEMA public TO {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
        "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public "
        "GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public "
        "GRANT USAGE, SELECT ON SEQUENCES TO {role}",
        "REVOKE INSERT, UPDATE, DELETE ON {versions} FROM {role}",
    ):
        connection.execute(sql.SQL(statement).format(**names))
