"""The doorbell: a Celery message that says "look" and carries only a job's id.

No job's fate depends on it. The database holds the queue; a message lost, repeated or late costs
time only, because the keeper rings again for whatever stays queued.
"""

import logging
import time
from pathlib import Path
from typing import Any

from celery import Celery

from shared.settings import QUEUES, Settings

logger = logging.getLogger(__name__)

LOOK = "bauta.look"
FILESYSTEM_POLL_SECONDS = 0.02
RING_EXPIRES_SECONDS = 3600
CONNECT_SECONDS = 2.0
SILENT_SECONDS = 2.0


def create_celery_app(settings: Settings) -> Celery:
    """Create the Celery app that both sides use: named queues, late acknowledgement, no results."""
    app = Celery("bauta", broker=settings.broker, set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUES[0],
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_serializer="json",
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=CONNECT_SECONDS,
        broker_transport_options=_transport_options(settings),
    )
    return app


def _transport_options(settings: Settings) -> dict[str, Any]:
    if not settings.broker.startswith("filesystem:"):
        return {"socket_connect_timeout": CONNECT_SECONDS, "socket_keepalive": True}
    folder = settings.data_dir.resolve() / "broker"
    messages, control = _made(folder / "messages"), _made(folder / "control")
    return {
        "data_folder_in": messages,
        "data_folder_out": messages,
        "control_folder": control,
        "polling_interval": FILESYSTEM_POLL_SECONDS,
    }


def _made(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return str(folder)


class Doorbell:
    """Rings for jobs. Safe to use from many threads."""

    def __init__(self, settings: Settings) -> None:
        self._app = create_celery_app(settings)
        self._silent_until = 0.0

    def ring(self, job_id: str, queue: str) -> bool:
        """Send "look"; false when the broker does not take it (the keeper will ring later).

        After a failure it does not try again for a moment, so that a dead broker delays no request.
        """
        if time.monotonic() < self._silent_until:
            return False
        try:
            self._app.send_task(
                LOOK,
                args=(job_id,),
                queue=queue,
                retry=False,
                ignore_result=True,
                expires=RING_EXPIRES_SECONDS,
            )
        except Exception as error:  # whatever a broker's client raises, no job is lost
            logger.warning("the doorbell did not ring for %s: %r", job_id, error)
            self._silent_until = time.monotonic() + SILENT_SECONDS
            return False
        return True

    def check(self) -> None:
        """Raise when the broker does not answer."""
        with self._app.connection_for_write(connect_timeout=CONNECT_SECONDS) as connection:
            connection.ensure_connection(max_retries=0, timeout=CONNECT_SECONDS)

    def close(self) -> None:
        """Give back the connections."""
        self._app.close()
