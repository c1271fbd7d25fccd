"""One module a job kind; the only place where algorithms meet the job engine."""

from services.worker.jobs.warmth import warm

__all__ = ["warm"]
