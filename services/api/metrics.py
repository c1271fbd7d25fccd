"""Prometheus metrics of the API and the queue."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from shared.db import Repository
from shared.doorbell import Doorbell
from shared.settings import QUEUES

logger = logging.getLogger(__name__)

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class _QueueCollector(Collector):
    """Reads the queue when it is scraped."""

    def __init__(
        self, repository: Repository, doorbell: Doorbell, waiting: Callable[[], int]
    ) -> None:
        self._repository = repository
        self._doorbell = doorbell
        self._waiting = waiting

    def describe(self) -> Iterable[Metric]:
        """Name nothing in advance: registering must not ask a database that may be down."""
        return ()

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "bauta_waiting_requests", "Long polls and event streams", value=self._waiting()
        )
        try:
            figures = list(self._queue())
        except SQLAlchemyError:
            figures = []
        yield GaugeMetricFamily(
            "bauta_database_up", "Whether the database answers", value=float(bool(figures))
        )
        yield from figures
        yield from self._rings()

    def _queue(self) -> Iterable[Metric]:
        jobs = GaugeMetricFamily("bauta_jobs", "Jobs kept", labels=("kind", "state"))
        for kind, state, number in self._repository.jobs.counts():
            jobs.add_metric((kind, state), number)
        yield jobs
        oldest = GaugeMetricFamily(
            "bauta_oldest_queued_seconds", "Age of the oldest queued job", labels=("queue",)
        )
        for queue, seconds in self._repository.jobs.oldest_queued_seconds().items():
            oldest.add_metric((queue,), seconds)
        yield oldest

    def _rings(self) -> Iterable[Metric]:
        waiting = GaugeMetricFamily(
            "bauta_waiting_rings",
            "Messages in the broker that no worker has heard",
            labels=["queue"],
        )
        try:
            for queue in QUEUES:
                waiting.add_metric((queue,), self._doorbell.depth(queue))
            unreadable = self._doorbell.unreadable()
        except Exception:  # whatever a broker's client raises
            logger.debug("the broker tells no figures", exc_info=True)
            return
        yield waiting
        yield CounterMetricFamily(
            "bauta_unreadable_messages", "Messages in the broker that were set aside", unreadable
        )


class Metrics:
    """The metrics of one API process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter(
            "bauta_http_requests", "Requests answered", labels, registry=self._registry
        )
        self._seconds = Histogram(
            "bauta_http_request_seconds",
            "Time to answer, waits included",
            ("method", "route"),
            buckets=BUCKETS,
            registry=self._registry,
        )

        self._refusals = Counter(
            "bauta_refused_connections",
            "Connections refused or closed before a request was read",
            ("reason",),
            registry=self._registry,
        )

    def count_refusal(self, reason: str) -> None:
        """Count a connection that was closed before its request was read."""
        self._refusals.labels(reason).inc()

    @contextmanager
    def queue_of(
        self, repository: Repository, doorbell: Doorbell, waiting: Callable[[], int]
    ) -> Iterator[None]:
        """Add the queue's figures, for as long as the API runs."""
        collector = _QueueCollector(repository, doorbell, waiting)
        self._registry.register(collector)
        try:
            yield
        finally:
            self._registry.unregister(collector)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def render(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self._registry)
