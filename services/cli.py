"""The command line: ``bauta serve|api|worker|keeper|db|keys|models``."""

import logging
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from shared.db import Repository, create_database_engine, first_line
from shared.db.keys import DEFAULT_TENANT, TENANT_PATTERN
from shared.db.migrate import is_current, upgrade
from shared.settings import Settings, load_settings

HealthFile = Annotated[
    Path | None, typer.Option(help="a file to touch every few seconds while all is well")
]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A durable job service.",
)
database = typer.Typer(no_args_is_help=True, help="The database's schema.")
keys = typer.Typer(no_args_is_help=True, help="API keys.")
models = typer.Typer(no_args_is_help=True, help="Models on this machine.")
app.add_typer(database, name="db")
app.add_typer(keys, name="keys")
app.add_typer(models, name="models")


def _settings(**overrides: object) -> Settings:
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        settings = load_settings(**given)
    except OSError as error:
        typer.echo(f"settings: {error.filename} cannot be read: {error.strerror}", err=True)
        raise typer.Exit(2) from error
    except ValidationError as error:
        for problem in error.errors():
            where = ".".join(str(part) for part in problem["loc"])
            message = problem["msg"].removeprefix("Value error, ")
            typer.echo(f"settings: {f'{where}: ' if where else ''}{message}", err=True)
        raise typer.Exit(2) from error
    logging.basicConfig(
        level=settings.log_level,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it would speak at every health check
    return settings


def _repository(settings: Settings) -> Repository:
    return Repository(create_database_engine(settings.database, pool_size=1))


def _time(seconds: float | None) -> str:
    return (
        "-" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat("T", "seconds")
    )


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="address to bind")] = None,
    port: Annotated[int | None, typer.Option(help="port to bind")] = None,
) -> None:
    """Start API, workers and keeper on this machine, and restart what dies."""
    from services import supervisor  # noqa: PLC0415 - only what a command needs

    raise typer.Exit(supervisor.run(_settings(host=host, port=port)))


@app.command()
def api(
    host: Annotated[str | None, typer.Option(help="address to bind")] = None,
    port: Annotated[int | None, typer.Option(help="port to bind")] = None,
) -> None:
    """Serve HTTP."""
    from services.api import main as http  # noqa: PLC0415

    raise typer.Exit(http.run(_settings(host=host, port=port)))


@app.command()
def worker(
    queues: Annotated[str | None, typer.Option(help="interactive,batch or one of them")] = None,
    health_file: HealthFile = None,
) -> None:
    """Run jobs."""
    settings = _settings(queues=queues)
    from services.worker import app as process  # noqa: PLC0415 - imports torch

    raise typer.Exit(process.run(settings, health_file=health_file))


@app.command()
def keeper(health_file: HealthFile = None) -> None:
    """Do the periodic duties: ring again, reap, expire, delete."""
    from services.keeper import keeper as process  # noqa: PLC0415

    raise typer.Exit(process.run(_settings(), health_file=health_file))


@database.command("upgrade")
def database_upgrade() -> None:
    """Bring the database to the newest schema."""
    settings = _settings()
    try:
        upgrade(create_database_engine(settings.database, pool_size=1))
    except SQLAlchemyError as error:
        typer.echo(f"the database cannot be upgraded: {first_line(error)}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"up to date: {settings.database.render_as_string(hide_password=True)}")


@database.command("check")
def database_check() -> None:
    """Say whether the schema is the one this version needs; exit code 1 if not."""
    current = is_current(create_database_engine(_settings().database, pool_size=1))
    typer.echo("up to date" if current else "run `bauta db upgrade`")
    raise typer.Exit(0 if current else 1)


@keys.command("create")
def keys_create(
    tenant: Annotated[str, typer.Option(help="whose jobs the key sees")] = DEFAULT_TENANT,
    name: Annotated[str, typer.Option(help="a note on what it is for")] = "",
) -> None:
    """Create a key. It is printed once and kept only as a hash."""
    if not re.match(TENANT_PATTERN, tenant):
        typer.echo("a tenant has lower-case letters, digits and dashes, at most 63", err=True)
        raise typer.Exit(2)
    key, secret = _repository(_settings()).keys.create(tenant, name=name)
    typer.echo(f"{key.id} for tenant {tenant}; it will not be shown again:", err=True)
    typer.echo(secret)


@keys.command("list")
def keys_list() -> None:
    """List all keys, without their secrets."""
    for key in _repository(_settings()).keys.all():
        state = "in force" if key.revoked_at is None else f"revoked {_time(key.revoked_at)}"
        typer.echo(f"{key.id}  {key.tenant_id}  {_time(key.created_at)}  {state}  {key.name}")


@keys.command("revoke")
def keys_revoke(key_id: Annotated[str, typer.Argument(help="its id, from the list")]) -> None:
    """Revoke a key; it stops working within seconds."""
    if not _repository(_settings()).keys.revoke(key_id):
        typer.echo(f"there is no key {key_id} in force", err=True)
        raise typer.Exit(1)
    typer.echo(f"{key_id} is revoked")


@models.command("list")
def models_list() -> None:
    """List the models that jobs can name."""
    from services.worker.models.registry import find_models  # noqa: PLC0415 - imports torch

    for card, folder in find_models(_settings().registry_dir).values():
        mark = "  default" if card.default else ""
        typer.echo(f"{card.id}  {card.task}  {card.architecture}  {folder}{mark}")


def main() -> None:
    """Run the command line; what a database refuses is said in one sentence."""
    try:
        app()
    except SQLAlchemyError as error:
        typer.echo(f"the database: {first_line(error)} (has `bauta db upgrade` run?)", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
