"""The application: ``services.api.app:app``. Importing it connects to nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.api import (
    datasets,
    events,
    health,
    images,
    job_archive,
    jobs,
    models,
    operations,
    page,
    status,
    submit,
    tenant_events,
)
from services.api.auth import KeyRing
from services.api.decoding import DecodingTurns
from services.api.documentation import definitions
from services.api.encodings import BodyCaps, DecodeBody
from services.api.metrics import Metrics
from services.api.middleware import BodyLimit, CatchAll, HeadAsGet, Observe
from services.api.problems import install
from services.api.resources import Resources
from services.api.spool import Spool
from services.api.watcher import Watcher
from services.api.wrong_keys import WrongKeys
from shared.db import Repository, create_database_engine
from shared.db.migrate import upgrade
from shared.doorbell import Doorbell
from shared.images import limit_concurrent_decodes
from shared.objects import ObjectStore
from shared.settings import Settings, load_settings
from shared.specs import SPECS

THREADS = 24
DATABASE_CONNECTIONS = 8
VERSION = "0.1.0"
DESCRIPTION = (
    "Bauta classifies face masks, attacks and defends the classifiers, and protects faces. "
    "Jobs are durable: what was answered with 202 is kept until it has ended."
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Create the application for these settings (default: from the environment)."""
    chosen = settings or load_settings()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        limit_concurrent_decodes(max(2, chosen.concurrent_decodes))
        engine = create_database_engine(chosen.database, pool_size=DATABASE_CONNECTIONS)
        if engine.dialect.name == "sqlite":
            upgrade(engine)
        repository = Repository(engine)
        watcher = Watcher(repository, max_waiters=chosen.max_connections_waiting)
        doorbell = Doorbell(chosen)
        app.state.resources = Resources(
            settings=chosen,
            repository=repository,
            objects=ObjectStore.from_settings(chosen),
            doorbell=doorbell,
            watcher=watcher,
            decoding=DecodingTurns(chosen.concurrent_decodes),
            validating=CapacityLimiter(1),
            checking=CapacityLimiter(1),
            spool=Spool.from_settings(chosen),
        )
        with metrics.queue_of(repository, doorbell, lambda: watcher.waiting):
            yield
        watcher.close()
        doorbell.close()
        engine.dispose()

    app = FastAPI(
        title="Bauta",
        version=VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.metrics = metrics
    app.state.key_ring = KeyRing()
    app.state.wrong_keys = WrongKeys()
    app.state.tenant_streams = tenant_events.StreamCount()
    rooms = (
        *(images, datasets, models, submit, jobs, events, tenant_events, job_archive),
        *(operations, status, health, page),
    )
    for room in rooms:
        app.include_router(room.router)
    install(app)
    app.add_middleware(CatchAll)
    caps = BodyCaps(
        chosen.max_request_bytes,
        larger={"/v1/datasets": chosen.max_archive_bytes, "/v1/models": chosen.max_model_bytes},
    )
    app.add_middleware(DecodeBody, caps=caps)
    app.add_middleware(BodyLimit, caps=caps)
    app.add_middleware(HeadAsGet)
    app.add_middleware(Observe, metrics=metrics)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schemas = definitions(list(SPECS.values()))
        document.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
        app.openapi_schema = document
    return app.openapi_schema


app = create_app()
