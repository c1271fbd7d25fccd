"""What a job may use: its inputs, reports, artifacts, checkpoints, registry and warm models."""

from typing import Any

from services.worker.runtime.artifacts import Artifacts
from services.worker.runtime.attempt import Attempt, Services
from services.worker.runtime.checkpoints import Checkpoints
from services.worker.runtime.claim import Claim
from services.worker.runtime.inputs import Inputs
from services.worker.runtime.registry import Registry
from services.worker.runtime.reporting import Reporting

__all__ = ["JobContext", "Services"]


class JobContext:
    """One claimed job, from its module's point of view.

    ``check``, ``progress``, ``event`` and every method of the parts that reads or writes raise
    ``Stopped`` when the job has to stop; a job lets it pass.
    """

    def __init__(self, claim: Claim, services: Services) -> None:
        attempt = Attempt(claim, services)
        self.job_id = attempt.job_id
        self.tenant_id = attempt.tenant_id
        self.attempt = attempt.number
        self.settings = services.settings
        self.device = services.device
        self.models = services.models
        self.inputs = Inputs(attempt)
        self.reporting = Reporting(attempt)
        self.artifacts = Artifacts(attempt, self.inputs)
        self.checkpoints = Checkpoints(attempt)
        self.registry = Registry(attempt)
        self._attempt = attempt

    @property
    def has_stored(self) -> bool:
        """Whether anything may lie under this attempt's prefix of the object store."""
        return self._attempt.has_stored

    def check(self) -> None:
        """Raise when the job has to stop. Cheap enough for inner loops."""
        self._attempt.claim.check()

    def progress(self, done: int, total: int, message: str = "", **data: Any) -> None:
        """Report progress; written at most four times a second, and the last with the job's end."""
        self.reporting.progress(done, total, message, **data)

    def event(self, kind: str, data: dict[str, Any]) -> None:
        """Record an event of the job's own making, for those who follow its events."""
        self.reporting.event(kind, data)
