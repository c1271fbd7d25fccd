"""One attempt at a job: its ids, its claim, and patience with the object store."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from services.worker.runtime.cache import ModelCache
from services.worker.runtime.claim import Claim
from services.worker.stopping import Stopped
from shared.db import Repository
from shared.objects import ObjectStore, ObjectStoreUnavailableError
from shared.settings import Settings

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

STORE_PATIENCE_SECONDS = 20.0

T = TypeVar("T")


@dataclass(frozen=True)
class Services:
    """What all jobs of this worker share."""

    settings: Settings
    repository: Repository
    objects: ObjectStore
    models: ModelCache
    device: "torch.device"


class Attempt:
    """A claimed job and the services that it uses: what the parts of its context share."""

    def __init__(self, claim: Claim, services: Services) -> None:
        self.claim, self.services = claim, services
        self.job_id = claim.job.id
        self.tenant_id = claim.job.tenant_id
        self.number = claim.job.fence
        self.has_stored = False  # whether anything may lie under this attempt's prefix

    def require_lease(self, recorded: object | None) -> None:
        """Stop when a fenced write recorded nothing: another worker has the job."""
        if not recorded:
            self.claim.lost.set()
            raise Stopped("lease lost")

    def patiently(self, do: Callable[[], T], *, stopped: bool = False) -> T:
        """Try again for a while when the object store does not answer.

        With ``stopped`` only a lost lease ends that.
        """
        give_up = time.monotonic() + STORE_PATIENCE_SECONDS
        wait = 0.1
        while True:
            if not stopped:
                self.claim.check()
            elif self.claim.is_lost:
                raise Stopped("lease lost")
            try:
                return do()
            except ObjectStoreUnavailableError as error:
                if time.monotonic() + wait > give_up:
                    raise
                logger.warning("the object store does not answer: %s", error)
            time.sleep(wait)
            wait = min(2 * wait, 1.0)
