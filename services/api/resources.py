"""What the API's requests share: repository, object store, doorbell, watcher."""

from dataclasses import dataclass

from anyio import CapacityLimiter
from fastapi import Request

from services.api.decoding import DecodingTurns
from services.api.schemas import is_id
from services.api.spool import Spool
from services.api.watcher import Watcher
from shared.db import Repository
from shared.db.tables import Job
from shared.doorbell import Doorbell
from shared.images import ImageLimits
from shared.objects import ObjectStore
from shared.problems import Problem
from shared.settings import Settings


@dataclass(frozen=True)
class Resources:
    """Opened when the API starts, closed when it stops."""

    settings: Settings
    repository: Repository
    objects: ObjectStore
    doorbell: Doorbell
    watcher: Watcher
    decoding: DecodingTurns
    validating: CapacityLimiter  # parses large specs, in a thread
    checking: CapacityLimiter  # looks for their mistakes, in a process
    spool: Spool

    small_spec_bytes: int = 16 * 1024

    @property
    def image_limits(self) -> ImageLimits:
        """Caps on one uploaded image."""
        return ImageLimits(
            max_bytes=self.settings.max_image_bytes, max_pixels=self.settings.max_image_pixels
        )


def found_job(resources: Resources, tenant: str, job_id: str) -> Job:
    """Return the tenant's job; raises the problem ``not-found``."""
    job = resources.repository.jobs.get(tenant, job_id) if is_id(job_id, "job") else None
    if job is None:
        raise missing_job(job_id)
    return job


def missing_job(job_id: str) -> Problem:
    """Report that there is no such job; another tenant's job looks the same."""
    return Problem("not-found", f"There is no job {job_id[:60]!r}.")


def get_resources(request: Request) -> Resources:
    """Dependency: the resources of the app that serves this request."""
    resources: Resources = request.app.state.resources
    return resources
