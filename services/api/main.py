"""Runs the API under uvicorn."""

import logging
import resource
import socket

import uvicorn
from sqlalchemy.exc import SQLAlchemyError

from services.api.app import create_app
from services.api.resources import Resources
from shared.db import Repository, create_database_engine
from shared.db.migrate import upgrade
from shared.settings import Settings

logger = logging.getLogger(__name__)

GRACE_SECONDS = 5
OTHER_FILES = 1024


def run(settings: Settings) -> int:
    """Serve HTTP until told to stop; returns the exit code."""
    if settings.keys_required and not settings.is_loopback and not _has_keys(settings):
        logger.error(
            "%s can be reached from elsewhere and there is no API key yet: run "
            "`bauta keys create --tenant NAME`, or bind 127.0.0.1",
            settings.host,
        )
        return 2
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level.lower(),
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        backlog=2048,
        limit_concurrency=None,
    )
    _allow_many_connections(settings.max_connections_waiting)
    server = _Server(config)
    server.run()
    return 0 if server.started else 1


class _Server(uvicorn.Server):
    """Ends long polls and event streams before it waits for requests to finish."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        resources: Resources = self.config.app.state.resources  # type: ignore[union-attr]
        resources.watcher.release()
        await super().shutdown(sockets=sockets)


def _allow_many_connections(waiting: int) -> None:
    """Raise this process's own limit on open files: a waiting client holds one each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = waiting + OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _has_keys(settings: Settings) -> bool:
    engine = create_database_engine(settings.database, pool_size=1)
    try:
        if engine.dialect.name == "sqlite":
            upgrade(engine)
        return Repository(engine).keys.any_in_force()
    except SQLAlchemyError as error:
        # It will say so at /readyz; without a database no request is let in anyway.
        logger.warning("the keys cannot be read: %.200r", error)
        return True
    finally:
        engine.dispose()
