"""Runs the API under uvicorn."""

import logging
import resource
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvicorn
from sqlalchemy.exc import SQLAlchemyError

from services.api.app import create_app
from services.api.front import Bounds, build_config
from services.api.resources import Resources
from shared.db import Repository, create_database_engine
from shared.db.migrate import upgrade
from shared.settings import Settings

logger = logging.getLogger(__name__)

GRACE_SECONDS = 5
HEALTH_SECONDS = 1
OTHER_FILES = 512


def run(settings: Settings, *, health_file: Path | None = None) -> int:
    """Serve HTTP until stopped; return the exit code.

    ``health_file`` is touched every second by the event loop, from the moment it serves.
    """
    if settings.keys_required and not settings.is_loopback and not _has_keys(settings):
        logger.error(
            "%s can be reached from elsewhere and there is no API key yet: run "
            "`bauta keys create --tenant NAME`, or bind 127.0.0.1",
            settings.host,
        )
        return 2
    most = _allow_connections(settings.max_connections)
    bounds = Bounds(
        connections=most,
        connections_per_address=min(most, settings.max_connections_per_address),
        proxies=settings.proxies,
    )
    config = build_config(
        create_app(settings),
        bounds,
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level.lower(),
        timeout_graceful_shutdown=GRACE_SECONDS,
        callback_notify=_toucher(health_file),
        timeout_notify=HEALTH_SECONDS,
    )
    server = _Server(config)
    server.run()
    return 0 if server.started else 1


def _toucher(health_file: Path | None) -> Callable[[], Awaitable[None]] | None:
    """Return what the loop that answers requests calls: a loop that hangs touches nothing."""
    if health_file is None:
        return None

    async def touch() -> None:
        health_file.touch()

    return touch


class _Server(uvicorn.Server):
    """Ends long polls and event streams before it waits for requests to finish."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        resources: Resources = self.config.app.state.resources  # type: ignore[union-attr]
        resources.watcher.release()
        await super().shutdown(sockets=sockets)


def _allow_connections(wanted: int) -> int:
    """Raise this process's own limit on open files; returns how many connections it allows.

    Each connection has a socket, and while it uploads a file of the spool.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * wanted + OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        needed = min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    allowed = min(wanted, max(1, (needed - OTHER_FILES) // 2))
    if allowed < wanted:
        logger.warning("the limit of %d open files allows %d connections", hard, allowed)
    return allowed


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
