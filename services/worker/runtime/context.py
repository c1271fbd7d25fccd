"""What a job may use: its images, progress, artifacts, checkpoints and warm models."""

import hashlib
import logging
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from sqlalchemy.exc import SQLAlchemyError

from services.worker.runtime.cache import ModelCache
from services.worker.runtime.held import Held, LeaseLost
from shared.db import Repository
from shared.db.claims import NewArtifact
from shared.db.queries import CHECKPOINTS, job_prefix
from shared.db.tables import Image
from shared.images import ImageLimits, decode_rgb
from shared.objects import ObjectMissingError, ObjectStore
from shared.problems import Problem
from shared.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.25
STORE_PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Services:
    """What all jobs of this worker share."""

    settings: Settings
    repository: Repository
    objects: ObjectStore
    models: ModelCache
    device: torch.device


class JobContext:
    """One claimed job, from its module's point of view.

    ``progress``, ``check`` and every method that writes raise a ``JobStopped`` when the job has to
    stop; a job lets it pass.
    """

    def __init__(self, held: Held, services: Services) -> None:
        self._held = held
        self._services = services
        self._last_progress = 0.0
        self.artifacts: list[NewArtifact] = []
        self.job_id = held.job.id
        self.tenant_id = held.job.tenant_id
        self.attempt = held.job.fence
        self.device = services.device
        self.models = services.models
        self.settings = services.settings

    @cached_property
    def images(self) -> list[Image]:
        """Rows of the images that the job reads, in the order of its spec."""
        return self._services.repository.images.of_job(self.tenant_id, self.job_id)

    def load_image(self, index: int, *, max_side: int | None = None) -> "NDArray[np.uint8]":
        """Decode image ``index``: upright sRGB uint8 ``(H, W, 3)``.

        Raises the problem ``invalid-input`` when its bytes are gone.
        """
        self.check()
        row = self.images[index]
        try:
            data = self._services.objects.get(row.object_key)
        except ObjectMissingError as error:
            raise Problem("invalid-input", f"Image {row.id} has been deleted.") from error
        limits = ImageLimits(max_pixels=self.settings.max_image_pixels)
        return decode_rgb(data, row.orientation, limits=limits, max_side=max_side)

    def check(self) -> None:
        """Raise when the job has to stop. Cheap enough for inner loops."""
        self._held.check()

    def progress(self, done: int, total: int, message: str = "", **data: Any) -> None:
        """Report progress; written at most four times a second, and at the end."""
        self.check()
        now = time.monotonic()
        if now - self._last_progress < PROGRESS_SECONDS and done < total:
            return
        self._last_progress = now
        document = {"done": done, "total": total, "message": message, **data}
        try:
            state = self._services.repository.claims.progress(self.job_id, self.attempt, document)
        except SQLAlchemyError as error:
            logger.warning("progress of %s was not recorded: %s", self.job_id, error)
            return
        if state is None:
            self._held.lost.set()
        elif state == "cancelling":
            self._held.cancel.set()
        self.check()

    def put_artifact(self, name: str, data: bytes, media_type: str) -> str:
        """Store a file of the result; it becomes visible when the job finishes."""
        self.check()
        key = job_prefix(self.tenant_id, self.job_id, self.attempt) + name
        self._services.objects.put_with_patience(key, data, seconds=STORE_PATIENCE_SECONDS)
        self.artifacts.append(
            NewArtifact(
                name=name,
                media_type=media_type,
                size=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                object_key=key,
            )
        )
        return name

    def save_checkpoint(self, files: dict[str, bytes]) -> None:
        """Make ``files`` the newest checkpoint, whole or not at all."""
        self.check()
        prefix = job_prefix(self.tenant_id, self.job_id, self.attempt) + f"{CHECKPOINTS}/"
        stamp = f"{time.time_ns():x}"
        keys = {name: f"{prefix}{stamp}/{name}" for name in files}
        for name, data in files.items():
            self._services.objects.put_with_patience(
                keys[name], data, seconds=STORE_PATIENCE_SECONDS
            )
        earlier = self._services.repository.claims.checkpoint_files(self.job_id)
        if not self._services.repository.claims.checkpoint(self.job_id, self.attempt, keys):
            self._held.lost.set()
            raise LeaseLost
        for key in earlier.values():
            self._services.objects.delete(key)

    def load_checkpoint(self) -> dict[str, bytes] | None:
        """Return the newest checkpoint of an earlier attempt, if there is one."""
        files = self._services.repository.claims.checkpoint_files(self.job_id)
        if not files:
            return None
        return {name: self._services.objects.get(key) for name, key in files.items()}
