"""The worker process: a Celery solo worker that answers the doorbell."""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.signals import worker_ready
from celery.worker import state as celery_state

from services.child import RELIEF
from services.worker.runtime.cache import ModelCache
from services.worker.runtime.consumer import LOOK, create_celery_app
from services.worker.runtime.context import Services
from services.worker.runtime.engine import Engine, find_job_module
from services.worker.runtime.heartbeat import Heartbeat
from services.worker.runtime.memory import keep_freed_memory, limit_memory, set_job_budget
from shared.db import Repository, create_database_engine
from shared.doorbell import Doorbell
from shared.images import limit_concurrent_decodes
from shared.objects import ObjectStore
from shared.settings import Settings

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def worker_name() -> str:
    """Return a name that no other worker process has."""
    return f"{socket.gethostname()}-{os.getpid()}-{time.time_ns():x}"


class Worker:
    """One worker process: engine, heartbeat and Celery consumer."""

    def __init__(
        self,
        settings: Settings,
        *,
        device: "torch.device",
        find_module: Callable[[str], ModuleType] = find_job_module,
        health_file: Path | None = None,
        supervised: bool = False,
    ) -> None:
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
            device=device,
        )
        self.heartbeat = Heartbeat(repository, settings, owner=owner, health_file=health_file)
        self.engine = Engine(
            self.services,
            self.heartbeat,
            self._doorbell,
            owner=owner,
            find_module=find_module,
            supervised=supervised,
        )
        self._draining = False
        self.celery = self._celery_app(owner)
        self._owner = owner

    def _celery_app(self, owner: str) -> Celery:
        app = create_celery_app(self._doorbell)

        def look(job_id: str) -> None:
            self.engine.look(job_id)
            if self.engine.is_done:
                logger.info("%s takes no more jobs after %d", owner, self.engine.jobs_done)
                celery_state.should_stop = 0

        app.task(name=LOOK)(look)
        return app

    def run(self) -> int:
        """Serve until told to stop; returns the exit code."""
        self.heartbeat.start()
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
        self.heartbeat.stop()
        self._doorbell.close()
        return int(consumer.exitcode or 0)

    def _on_ready(self, **_: Any) -> None:
        # Set after Celery has set its own: both are wanted, in this order.
        _watch_signals(self.drain)
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)
        signal.signal(RELIEF, self._on_relief)
        logger.info(
            "worker ready on %s, queues %s", self.services.device, ",".join(self.settings.queues)
        )
        # Jobs that were queued while no worker listened have no message on its way.
        self.engine.look()
        if self.engine.is_done:
            celery_state.should_stop = 0

    def drain(self) -> None:
        """Finish what runs within the drain time, or hand it back; the second call: at once."""
        seconds = 0.0 if self._draining else self.settings.drain_seconds
        self._draining = self.engine.stopping = True
        self.heartbeat.hand_back_within(seconds)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        celery_state.should_stop = 0

    def _on_relief(self, number: int, frame: FrameType | None) -> None:
        """End with the job at hand, however long it takes: the successor is at work."""
        del number, frame
        self.engine.stopping = True
        celery_state.should_stop = 0


def _watch_signals(stop: Callable[[], None]) -> None:
    """Call ``stop`` for each SIGTERM or SIGINT, on a thread of its own.

    A handler in Python runs only between two steps of the main thread, which may be in native code
    for long; the byte that the interpreter writes for each signal arrives at once.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch() -> None:
        while number := os.read(reader, 1):
            if number[0] in STOP_SIGNALS:
                stop()

    threading.Thread(target=watch, name="signals", daemon=True).start()


def run(settings: Settings, *, health_file: Path | None = None, supervised: bool = False) -> int:
    """Run a worker in this process until it is told to stop.

    ``health_file`` is touched while the worker is warm and its heartbeat runs.
    """
    from services.worker.jobs.kit.models import warm  # noqa: PLC0415 - torch takes seconds to import
    from services.worker.runtime.device import choose_device  # noqa: PLC0415 - as above

    keep_freed_memory()
    set_job_budget(settings.job_memory_bytes)
    try:
        device = choose_device(settings.device, threads=settings.threads)
    except ValueError as error:
        logger.error("%s", error)  # noqa: TRY400 - a sentence for its reader, no trace
        return 2
    worker = Worker(settings, device=device, health_file=health_file, supervised=supervised)
    warm(worker.services.models, settings, device)
    limit_memory(settings.worker_memory_bytes)
    return worker.run()
