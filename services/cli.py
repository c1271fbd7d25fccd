"""The command line: ``bauta serve|api|worker|keeper|db|keys|models``."""

import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from psycopg import Error as PostgresError
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from shared.db import Repository, create_database_engine, first_line
from shared.db.keys import DEFAULT_TENANT
from shared.db.migrate import is_current, upgrade
from shared.model_card import Preprocessing
from shared.settings import Settings, load_settings

DATABASE_ERRORS = (SQLAlchemyError, PostgresError)
HealthFile = Annotated[
    Path | None, typer.Option(help="a file to touch every few seconds while all is well")
]
Watched = Annotated[
    bool, typer.Option(help="run in a process of its own, started again when it dies or hangs")
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
    health_file: HealthFile = None,
    watched: Watched = False,
) -> None:
    """Serve HTTP."""
    settings = _settings(host=host, port=port)
    if watched:
        bound = ["--host", settings.host, "--port", str(settings.port)]
        _watched(settings, ["api", *bound], health_file)
    from services.api import main as http  # noqa: PLC0415

    raise typer.Exit(http.run(settings, health_file=health_file))


def _watched(settings: Settings, arguments: list[str], health_file: Path | None) -> NoReturn:
    from services import supervisor  # noqa: PLC0415

    if health_file is None:
        typer.echo("--watched needs a --health-file to watch", err=True)
        raise typer.Exit(2)
    raise typer.Exit(supervisor.run_watched(settings, arguments, health_file=health_file))


@app.command()
def worker(
    queues: Annotated[str | None, typer.Option(help="interactive,batch or one of them")] = None,
    health_file: HealthFile = None,
    watched: Watched = False,
    supervised: Annotated[
        bool, typer.Option(help="ask for a successor when due, and end when it is there")
    ] = False,
) -> None:
    """Run jobs."""
    settings = _settings(queues=queues)
    if watched:
        names = ",".join(settings.queues)
        _watched(settings, ["worker", "--queues", names, "--supervised"], health_file)
    from services.worker import app as process  # noqa: PLC0415 - imports torch

    raise typer.Exit(process.run(settings, health_file=health_file, supervised=supervised))


@app.command()
def keeper(health_file: HealthFile = None, watched: Watched = False) -> None:
    """Do the periodic duties: ring again, reap, expire, delete."""
    if watched:
        _watched(_settings(), ["keeper"], health_file)
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


@database.command("grant")
def database_grant(
    role: Annotated[str, typer.Option(help="the services' role; made if it is missing")],
    password_file: Annotated[Path, typer.Option(help="a file that holds its password")],
) -> None:
    """Let a role of Postgres read and write rows and nothing else: the services' own."""
    from shared.db.roles import RoleRefusedError, grant_service_role  # noqa: PLC0415

    settings = _settings()
    try:
        password = password_file.read_text().strip()
        engine = create_database_engine(settings.database, pool_size=1)
        grant_service_role(engine, role, password)
    except (OSError, RoleRefusedError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    except DATABASE_ERRORS as error:
        typer.echo(f"the role cannot be granted: {first_line(error)}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{role} reads and writes rows, and changes no schema")


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
    try:
        key, secret = _repository(_settings()).keys.create(tenant, name=name)
    except ValueError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
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


@models.command("verify")
def models_verify() -> None:
    """Check the hash, tensors and values of every model; exit code 1 if one is not as its card."""
    from services.worker.models.registry import (  # noqa: PLC0415 - imports torch
        ModelUnavailableError,
        find_models,
        read_weights,
    )

    bad = 0
    for card, folder in find_models(_settings().registry_dir).values():
        try:
            read_weights(card, folder)
            typer.echo(f"{card.id}  as its card says")
        except ModelUnavailableError as error:
            bad += 1
            typer.echo(str(error), err=True)
    raise typer.Exit(1 if bad else 0)


@models.command("import")
def models_import(
    file: Annotated[Path, typer.Argument(help="a .pt file of tensors, or a .safetensors file")],
    sha256: Annotated[str, typer.Option(help="the hash that the file must have")],
    model_id: Annotated[str, typer.Option("--id", help="the name that jobs give in `model`")],
    architecture: Annotated[str, typer.Option(help="such as mobilenet_v3_small")],
    classes: Annotated[str, typer.Option(help="in order, between commas")],
    input_size: Annotated[int, typer.Option(help="side of the input, in pixels")],
    task: Annotated[str, typer.Option(help="mask, mask3 or another")] = "mask",
    crop_margin: Annotated[float, typer.Option(help="of a face's size, on each side")] = 0.15,
    license_: Annotated[str, typer.Option("--license", help="of the weights")] = "not stated",
) -> None:
    """Add a file to the operator's models: the only way in for a .pt file.

    Its hash is checked before anything is read; then only tensors are (`weights_only`), and they
    must be the architecture's.
    """
    from services.worker.models.operator_import import (  # noqa: PLC0415 - imports torch
        ModelRejectedError,
        import_file,
    )

    try:
        card = import_file(
            file,
            _settings().registry_dir,
            sha256=sha256,
            id=model_id,
            task=task,
            architecture=architecture,
            classes=tuple(name.strip() for name in classes.split(",")),
            input_size=(input_size, input_size),
            crop_margin=crop_margin,
            license=license_,
            training_data={"file": file.name, "file_sha256": sha256},
            training={},
        )
    except (ModelRejectedError, ValueError, OSError) as error:
        typer.echo(f"not imported: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{card.id} is in {_settings().registry_dir / card.id}")


@models.command("import-recognizer")
def models_import_recognizer(
    file: Annotated[Path, typer.Argument(help="a .pt file of tensors, .safetensors or .onnx")],
    sha256: Annotated[str, typer.Option(help="the hash that the file must have")],
    model_id: Annotated[str, typer.Option("--id", help="the name that jobs give")],
    people: Annotated[
        Path, typer.Option(help="a folder a person, of people that it was not trained on")
    ],
    trained_on: Annotated[
        str, typer.Option(help="groups of people it was trained on, between commas")
    ],
    architecture: Annotated[
        str, typer.Option(help="mobilefacenet, facenet or dlib_resnet; an .onnx file needs none")
    ] = "",
    lineage: Annotated[str, typer.Option(help="models it learned from, between commas")] = "",
    license_: Annotated[str, typer.Option("--license", help="of the weights")] = "not stated",
    mean: Annotated[float, typer.Option(help=".onnx: taken from samples in [0, 1]")] = 0.5,
    std: Annotated[float, typer.Option(help=".onnx: they are divided by it then")] = 0.5,
    colors: Annotated[str, typer.Option(help=".onnx: rgb or bgr")] = "rgb",
    window: Annotated[
        str, typer.Option(help=".onnx: left,top,side in the 160 px aligned face; else ArcFace's")
    ] = "",
) -> None:
    """Add a face recognizer that `encrypt` may search with, or verify by.

    Its thresholds are measured on the photos in `--people`; none of them is kept. An ONNX file is
    run by onnxruntime and gives no gradients: it can verify only.
    """
    from services.worker.datasets.identities import aligned_people  # noqa: PLC0415
    from services.worker.faces.detection import FaceDetector  # noqa: PLC0415 - imports torch
    from services.worker.models.intake import ModelRejectedError  # noqa: PLC0415
    from services.worker.training.recognizer_import import import_recognizer  # noqa: PLC0415

    onnx = file.suffix == ".onnx"
    if not architecture and not onnx:
        typer.echo("not imported: --architecture says what the tensors are of", err=True)
        raise typer.Exit(1)
    try:
        card = import_recognizer(
            file,
            _settings().registry_dir,
            aligned_people(people, FaceDetector().detect),
            sha256=sha256,
            model_id=model_id,
            architecture=architecture,
            people_groups=_names(trained_on),
            lineage=_names(lineage),
            license_=license_,
            preprocessing=_preprocessing(mean, std, colors, window) if onnx else None,
        )
    except (ModelRejectedError, ValueError, OSError) as error:
        typer.echo(f"not imported: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{card.id} is in {_settings().registry_dir / card.id}: {card.metrics}")


def _preprocessing(mean: float, std: float, colors: str, window: str) -> Preprocessing:
    """Return how an ONNX file takes faces; raises ``ValueError`` for what cannot be."""
    place = tuple(float(number) for number in _names(window)) or None
    fields = {"mean": mean, "std": std, "colors": colors, "window": place}
    return Preprocessing.model_validate(fields)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def main() -> None:
    """Run the command line; what a database refuses is said in one sentence."""
    try:
        app()
    except SQLAlchemyError as error:
        typer.echo(f"the database: {first_line(error)} (has `bauta db upgrade` run?)", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
