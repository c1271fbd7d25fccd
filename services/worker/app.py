"""The worker process: a Celery solo worker that answers the doorbell."""

import logging
import os
import signal
import socket
import time
from types import FrameType
from typing import Any

from celery import Celery
from celery.signals import worker_ready
from celery.worker import state as celery_state

from services.worker.jobs import warm
from services.worker.runtime.cache import ModelCache
from services.worker.runtime.context import Services
from services.worker.runtime.device import choose_device
from services.worker.runtime.engine import Engine
from services.worker.runtime.heart import Heart
from shared.db import Repository, create_database_engine
from shared.doorbell import LOOK, Doorbell, create_celery_app
from shared.images import limit_concurrent_decodes
from shared.objects import ObjectStore
from shared.settings import Settings

logger = logging.getLogger(__name__)


def worker_name() -> str:
    """Return a name that no other worker process has."""
    return f"{socket.gethostname()}-{os.getpid()}-{time.time_ns():x}"


class Worker:
    """One worker process: engine, heartbeat and Celery consumer."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        owner = worker_name()
        repository = Repository(create_database_engine(settings.database, pool_size=2))
        self._doorbell = Doorbell(settings)
        limit_concurrent_decodes(settings.concurrent_decodes)
        self.services = Services(
            settings=settings,
            repository=repository,
            objects=ObjectStore.from_settings(settings),
            models=ModelCache(settings.model_cache_bytes),
            device=choose_device(settings.device, threads=settings.threads),
        )
        self.heart = Heart(repository, settings, owner=owner)
        self.engine = Engine(self.services, self.heart, self._doorbell, owner=owner)
        self.celery = self._celery_app(owner)
        self._owner = owner

    def _celery_app(self, owner: str) -> Celery:
        app = create_celery_app(self.settings)

        def look(job_id: str) -> None:
            self.engine.look(job_id)
            if self.engine.jobs_done >= self.settings.recycle_after_jobs:
                logger.info("%s has run %d jobs and makes room", owner, self.engine.jobs_done)
                celery_state.should_stop = 0

        app.task(name=LOOK)(look)
        return app

    def run(self) -> int:
        """Serve until told to stop; returns the exit code."""
        warm(self.services.models, self.settings, self.services.device)
        self.heart.start()
        worker_ready.connect(self._on_ready, weak=False)
        consumer = self.celery.Worker(
            pool="solo",
            concurrency=1,
            queues=",".join(self.settings.queues),
            hostname=f"{self._owner}@bauta",
            loglevel=self.settings.log_level,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            optimization="fair",
            quiet=True,
        )
        consumer.start()
        self.heart.stop()
        self._doorbell.close()
        return int(consumer.exitcode or 0)

    def _on_ready(self, **_: Any) -> None:
        # Set after Celery has set its own: both are wanted, in this order.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._drain)
        logger.info(
            "worker ready on %s, queues %s", self.services.device, ",".join(self.settings.queues)
        )
        # Jobs that were queued while no worker listened have no message on its way.
        self.engine.look("")

    def _drain(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        seconds = 0.0 if self.engine.stopping else self.settings.drain_seconds
        self.engine.stopping = True
        celery_state.should_stop = 0
        self.heart.hand_back_within(seconds)


def run(settings: Settings) -> int:
    """Run a worker in this process until it is told to stop."""
    return Worker(settings).run()
