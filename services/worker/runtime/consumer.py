"""How Celery hears the doorbell: a transport whose every message is made here, from a job's id.

Celery's own transports parse what lies in the broker, and end the worker when they cannot; theirs
wait up to half a minute before they look for a broker again. Nothing of a message but a valid id
reaches Celery, and no broker's error does.
"""

import json
import socket
from queue import Empty
from typing import Any, NoReturn

from celery import Celery
from celery.worker import state as celery_state
from kombu.transport import TRANSPORT_ALIASES, virtual

from shared.doorbell import Doorbell, Ring
from shared.settings import QUEUES

LOOK = "bauta.look"
WAIT_SECONDS = 0.5  # a signal waits as long for Celery to act on it

TRANSPORT_ALIASES["doorbell"] = f"{__name__}:Transport"


def create_celery_app(doorbell: Doorbell) -> Celery:
    """Create a worker's Celery app.

    Acknowledged early: a ring that was taken is gone from the broker, and the database knows what
    it was for.
    """
    app = Celery("bauta", broker="doorbell://localhost", set_as_current=False)
    app.conf.update(
        broker_transport_options={"doorbell": doorbell},
        broker_connection_retry_on_startup=True,
        task_default_queue=QUEUES[0],
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        accept_content=["json"],
    )
    return app


class Channel(virtual.Channel):
    """The queues, as Celery sees them: it may put back what it was given and could not run."""

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        if job_id := message["headers"]["id"]:
            self.connection.doorbell.ring(job_id, queue)

    def _get(self, queue: str, timeout: float | None = None) -> NoReturn:
        del queue, timeout
        raise Empty  # messages come by ``Transport.drain_events`` alone

    def _purge(self, queue: str) -> int:
        del queue
        return 0


class Transport(virtual.Transport):
    """Delivers each ring as a message of the task ``LOOK``."""

    Channel = Channel
    driver_type = driver_name = "doorbell"

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)  # type: ignore[no-untyped-call]
        self.doorbell: Doorbell = client.transport_options["doorbell"]

    def driver_version(self) -> str:
        return "1"

    def drain_events(  # type: ignore[override]
        self, connection: Any, timeout: float | None = None
    ) -> None:
        """Wait for a ring and deliver it; raises ``socket.timeout`` when there is none."""
        del connection
        if celery_state.should_stop is not None and celery_state.should_stop is not False:
            # Celery asks for one more message after it was told to stop: leave it to the others.
            raise socket.timeout  # noqa: UP041
        seconds = WAIT_SECONDS if timeout is None else min(timeout, WAIT_SECONDS)
        ring = self.doorbell.wait(list(self._callbacks), seconds=seconds)
        if ring is None:
            raise socket.timeout  # noqa: UP041 - as kombu calls it
        self._deliver(message_of(ring), ring.queue)  # type: ignore[no-untyped-call]


def message_of(ring: Ring) -> dict[str, Any]:
    """Build the message of a ring, in version 2 of Celery's protocol."""
    return {
        "body": json.dumps([[ring.job_id], {}, {}]),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "task": LOOK,
            "id": ring.job_id,
            "root_id": ring.job_id,
            "parent_id": None,
            "group": None,
        },
        "properties": {
            "correlation_id": ring.job_id,
            "delivery_tag": ring.job_id,
            "delivery_info": {"exchange": "", "routing_key": ring.queue},
            "body_encoding": None,
        },
    }
