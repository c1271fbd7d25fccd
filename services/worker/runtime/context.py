"""What a job may use: its images, progress, artifacts, checkpoints and warm models."""

import hashlib
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from services.worker.runtime.cache import ModelCache
from services.worker.runtime.held import Held, LeaseLost
from shared.db import OUTAGES, Repository, first_line
from shared.db.claims import NewArtifact
from shared.db.queries import CHECKPOINTS, job_prefix
from shared.db.tables import Image
from shared.images import ImageLimits, decode_rgb
from shared.objects import ObjectMissingError, ObjectStore, ObjectStoreUnavailableError
from shared.problems import Problem
from shared.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.25
MUTE_SECONDS = 5.0
STORE_PATIENCE_SECONDS = 20.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

T = TypeVar("T")


@dataclass(frozen=True)
class Services:
    """What all jobs of this worker share."""

    settings: Settings
    repository: Repository
    objects: ObjectStore
    models: ModelCache
    device: "torch.device"


class JobContext:
    """One claimed job, from its module's point of view.

    ``progress``, ``check`` and every method that writes raise a ``JobStopped`` when the job has to
    stop; a job lets it pass.
    """

    def __init__(self, held: Held, services: Services) -> None:
        self._held = held
        self._services = services
        self._quiet_until = 0.0
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
            data = self._patiently(lambda: self._services.objects.get(row.object_key))
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
        if now < self._quiet_until and done < total:
            return
        self._quiet_until = now + PROGRESS_SECONDS
        document = {"done": done, "total": total, "message": message, **data}
        try:
            state = self._services.repository.claims.progress(self.job_id, self.attempt, document)
        except OUTAGES as error:
            # Not worth a job; and a dead database, asked each time, would slow the job down.
            self._quiet_until = now + MUTE_SECONDS
            logger.warning("progress of %s was not recorded: %s", self.job_id, first_line(error))
            return
        if state is None:
            self._held.lost.set()
        elif state == "cancelling":
            self._held.cancel.set()
        self.check()

    def event(self, kind: str, data: dict[str, Any]) -> None:
        """Record an event of the job's own making, for those who follow its events."""
        self.check()
        try:
            held = self._services.repository.claims.event(self.job_id, self.attempt, kind, data)
        except OUTAGES as error:
            logger.warning("an event of %s was not recorded: %s", self.job_id, first_line(error))
            return
        if not held:
            self._held.lost.set()
        self.check()

    def put_artifact(self, name: str, data: bytes, media_type: str) -> str:
        """Store a file of the result; it becomes visible when the job finishes.

        A second one of the same name replaces the first.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"not an artifact's name: {name!r}")
        key = job_prefix(self.tenant_id, self.job_id, self.attempt) + name
        self._patiently(lambda: self._services.objects.put(key, data))
        new = NewArtifact(
            name=name,
            media_type=media_type,
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            object_key=key,
        )
        self.artifacts[:] = [kept for kept in self.artifacts if kept.name != name] + [new]
        return name

    def save_checkpoint(self, files: dict[str, bytes]) -> None:
        """Make ``files`` the newest checkpoint, whole or not at all.

        While the database does not answer nothing is saved, and the earlier one stays.
        """
        prefix = job_prefix(self.tenant_id, self.job_id, self.attempt) + f"{CHECKPOINTS}/"
        stamp = f"{time.time_ns():x}"
        keys = {name: f"{prefix}{stamp}/{name}" for name in files}
        for name, data in files.items():
            self._patiently(partial(self._services.objects.put, keys[name], data))
        claims = self._services.repository.claims
        try:
            earlier = claims.checkpoint_files(self.job_id)
            recorded = claims.checkpoint(self.job_id, self.attempt, keys)
        except OUTAGES as error:
            logger.warning("%s: no checkpoint was saved: %s", self.job_id, first_line(error))
            return
        if not recorded:
            self._held.lost.set()
            raise LeaseLost
        for key in earlier.values():
            self._patiently(partial(self._services.objects.delete, key))

    def load_checkpoint(self) -> dict[str, bytes] | None:
        """Return the newest checkpoint of an earlier attempt, if there is a whole one."""
        files = self._services.repository.claims.checkpoint_files(self.job_id)
        if not files:
            return None
        get = self._services.objects.get
        try:
            return {name: self._patiently(partial(get, key)) for name, key in files.items()}
        except ObjectMissingError:
            logger.warning("%s: its checkpoint is gone; starting over", self.job_id)
            return None

    def _patiently(self, do: Callable[[], T]) -> T:
        """Try again for a while when the object store does not answer."""
        give_up = time.monotonic() + STORE_PATIENCE_SECONDS
        wait = 0.1
        while True:
            self.check()
            try:
                return do()
            except ObjectStoreUnavailableError as error:
                if time.monotonic() + wait > give_up:
                    raise
                logger.warning("the object store does not answer: %s", error)
            time.sleep(wait)
            wait = min(2 * wait, 1.0)
