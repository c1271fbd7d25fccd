"""What a job may use: its images, progress, artifacts, checkpoints and warm models."""

import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, TypeVar

from services.worker.runtime.cache import ModelCache
from services.worker.runtime.claim import Claim
from services.worker.stopping import Stopped
from shared.dataset_card import CONTACT_SHEET_FILE, PACK_FILE, DatasetCard
from shared.db import OUTAGES, Repository, first_line
from shared.db.claims import NewArtifact
from shared.db.datasets import NewDataset
from shared.db.models import NewModel
from shared.db.queries import (
    CHECKPOINTS,
    UPLOAD_FILE,
    dataset_prefix,
    job_prefix,
    model_prefix,
    new_id,
    upload_prefix,
)
from shared.db.tables import Image
from shared.images import ImageLimits, decode_rgb
from shared.model_card import WEIGHTS_FILE, ModelCard
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
UPLOAD_SECONDS = 3600.0  # to commit the row of what was stored; the keeper deletes it after that
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

    ``progress``, ``check`` and every method that writes raise ``Stopped`` when the job has to stop;
    a job lets it pass.
    """

    def __init__(self, claim: Claim, services: Services) -> None:
        self._claim = claim
        self._services = services
        self._quiet_until = 0.0
        self.last_progress: dict[str, Any] | None = None  # to be written with the job's end
        self.has_reported = False  # whether there are events of progress that the last one follows
        self.artifacts: list[NewArtifact] = []
        self.has_stored = False  # whether anything may lie under this attempt's prefix
        self._left: set[str] = set()
        self.job_id = claim.job.id
        self.tenant_id = claim.job.tenant_id
        self.attempt = claim.job.fence
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
        data, orientation = self.load_file(index)
        limits = ImageLimits(max_pixels=self.settings.max_image_pixels)
        return decode_rgb(data, orientation, limits=limits, max_side=max_side)

    def load_file(self, index: int) -> tuple[bytes, int]:
        """Return the file of image ``index`` as stored, and its EXIF orientation (1 to 8).

        Raises the problem ``invalid-input`` when its bytes are gone.
        """
        self.check()
        row = self.images[index]
        try:
            data = self._patiently(lambda: self._services.objects.get(row.object_key))
        except ObjectMissingError as error:
            raise Problem("invalid-input", f"Image {row.id} has been deleted.") from error
        return data, row.orientation

    def check(self) -> None:
        """Raise when the job has to stop. Cheap enough for inner loops."""
        self._claim.check()

    def progress(self, done: int, total: int, message: str = "", **data: Any) -> None:
        """Report progress; written at most four times a second, and the last with the job's end."""
        self.check()
        document = {"done": done, "total": total, "message": message, **data}
        if done >= total:
            self.last_progress = document
            return
        now = time.monotonic()
        if now < self._quiet_until:
            return
        self._quiet_until = now + PROGRESS_SECONDS
        self.last_progress, self.has_reported = None, True
        try:
            state = self._services.repository.claims.progress(self.job_id, self.attempt, document)
        except OUTAGES as error:
            # Not worth a job; and a dead database, asked each time, would slow the job down.
            self._quiet_until = now + MUTE_SECONDS
            logger.warning("progress of %s was not recorded: %s", self.job_id, first_line(error))
            return
        if state is None:
            self._claim.lost.set()
        elif state == "cancelling":
            self._claim.cancel.set()
        self.check()

    def event(self, kind: str, data: dict[str, Any]) -> None:
        """Record an event of the job's own making, for those who follow its events."""
        self.check()
        try:
            recorded = self._services.repository.claims.event(self.job_id, self.attempt, kind, data)
        except OUTAGES as error:
            logger.warning("an event of %s was not recorded: %s", self.job_id, first_line(error))
            return
        if not recorded:
            self._claim.lost.set()
        self.check()

    def put_artifact(
        self,
        name: str,
        data: bytes,
        media_type: str,
        *,
        image: int | None = None,
        stopped: bool = False,
    ) -> str:
        """Store a file of the result; it becomes visible when the job finishes.

        ``image``: the index of the only image that it was made of. It goes with that image, and
        one without goes with any image of the job, when its owner deletes that.
        A second one of the same name replaces the first. With ``stopped`` a job that was canceled,
        or ran out of time, leaves what it has.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"not an artifact's name: {name!r}")
        key = job_prefix(self.tenant_id, self.job_id, self.attempt) + name
        self.has_stored = True
        self._patiently(lambda: self._services.objects.put(key, data), stopped=stopped)
        new = NewArtifact(
            name=name,
            media_type=media_type,
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            object_key=key,
            image_id=None if image is None else self.images[image].id,
        )
        self.artifacts[:] = [kept for kept in self.artifacts if kept.name != name] + [new]
        (self._left.add if stopped else self._left.discard)(name)
        return name

    def take_over(self, name: str, media_type: str, *, attempt: int) -> bool:
        """Make an artifact that an earlier attempt stored this one's; false when it is gone."""
        key = job_prefix(self.tenant_id, self.job_id, attempt) + name
        try:
            data = self._patiently(lambda: self._services.objects.get(key))
        except ObjectMissingError:
            logger.warning("%s: %s of attempt %d is gone", self.job_id, name, attempt)
            return False
        self.put_artifact(name, data, media_type)
        return True

    @property
    def artifacts_left(self) -> tuple[NewArtifact, ...]:
        """What a job that had to stop leaves all the same."""
        return tuple(made for made in self.artifacts if made.name in self._left)

    @contextmanager
    def upload(self) -> Iterator[IO[bytes]]:
        """Open the file that the job was created with; the copy is gone with the block.

        Raises the problem ``invalid-input`` when there is none.
        """
        key = upload_prefix(self.tenant_id, self.job_id) + UPLOAD_FILE
        with TemporaryFile() as file:

            def read() -> None:
                file.seek(0)
                file.truncate()
                self._services.objects.read_into(key, file)

            try:
                self._patiently(read)
            except ObjectMissingError as error:
                raise Problem("invalid-input", "The job's upload is not there.") from error
            file.seek(0)
            yield file

    def load_dataset(self, dataset_id: str) -> bytes:
        """Return a data set's pack, for ``PackedDataset``.

        Raises the problem ``unknown-dataset`` when it is gone.
        """
        row = self._services.repository.datasets.get(self.tenant_id, dataset_id, past=True)
        gone = Problem("unknown-dataset", f"There is no data set {dataset_id}.")
        if row is None:
            raise gone
        try:
            return self._patiently(lambda: self._services.objects.get(row.object_key))
        except ObjectMissingError as error:
            raise gone from error

    def save_dataset(
        self,
        card: DatasetCard,
        pack: bytes,
        *,
        summary: dict[str, Any],
        contact_sheet: bytes | None = None,
        keep_seconds: float | None = None,
    ) -> None:
        """Register a data set under its card's id. Only what this job made last is kept."""
        prefix = dataset_prefix(self.tenant_id, card.id)
        key, sweep_id = self._store_announced(prefix, PACK_FILE, pack)
        if contact_sheet is not None:
            place = prefix + CONTACT_SHEET_FILE
            self._patiently(lambda: self._services.objects.put(place, contact_sheet))
        new = NewDataset(
            id=card.id,
            name=card.name,
            layout=card.layout,
            classes=card.classes,
            summary=summary,
            images=len(card.items),
            size=len(pack),
            sha256=hashlib.sha256(pack).hexdigest(),
            object_key=key,
            sweep_id=sweep_id,
            keep_seconds=keep_seconds or self.settings.dataset_retention_seconds,
        )
        datasets = self._services.repository.datasets
        self._require_lease(
            datasets.create(self.tenant_id, new, job_id=self.job_id, fence=self.attempt)
        )

    def save_model(self, card: ModelCard, weights: bytes, *, stopped: bool = False) -> None:
        """Register a model under its card's id; raises the problem ``model-exists``.

        With ``stopped`` a job that was canceled, or ran out of time, saves what it has.
        """
        if hashlib.sha256(weights).hexdigest() != card.sha256:
            raise ValueError("the card describes other weights")
        prefix = model_prefix(self.tenant_id, new_id("weights"))
        key, sweep_id = self._store_announced(prefix, WEIGHTS_FILE, weights, stopped=stopped)
        new = NewModel(
            id=card.id,
            task=card.task,
            card=card.model_dump(mode="json"),
            size=card.size,
            sha256=card.sha256,
            object_key=key,
            sweep_id=sweep_id,
            keep_seconds=self.settings.model_retention_seconds,
        )
        models = self._services.repository.models
        self._require_lease(
            models.create(self.tenant_id, new, job_id=self.job_id, fence=self.attempt)
        )

    def registered_model(self, model_id: str) -> "tuple[ModelCard, Callable[[], bytes]] | None":
        """Return a model that the tenant registered, and what reads its weights."""
        row = self._services.repository.models.get(self.tenant_id, model_id, past=True)
        if row is None:
            return None
        key = row.object_key

        def read() -> bytes:
            try:
                return self._patiently(lambda: self._services.objects.get(key))
            except ObjectMissingError as error:
                raise Problem("unknown-model", f"The model {model_id!r} is gone.") from error

        return ModelCard.model_validate(row.card), read

    def default_model_id(self, task: str) -> str | None:
        """Return the model that the tenant chose for a task; ``None``: the shipped one."""
        row = self._services.repository.models.default(self.tenant_id, task)
        return None if row is None else row.id

    def _store_announced(
        self, prefix: str, name: str, data: bytes, *, stopped: bool = False
    ) -> tuple[str, int]:
        announce = self._services.repository.models.announce_prefix
        sweep_id = announce(self.tenant_id, prefix, within_seconds=UPLOAD_SECONDS)
        put = partial(self._services.objects.put, prefix + name, data)
        self._patiently(put, stopped=stopped)
        return prefix + name, sweep_id

    def _require_lease(self, row: object | None) -> None:
        if row is None:
            self._claim.lost.set()
            raise Stopped("lease lost")

    def save_checkpoint(self, files: dict[str, bytes]) -> None:
        """Make ``files`` the newest checkpoint, whole or not at all.

        While the database does not answer nothing is saved, and the earlier one stays.
        """
        prefix = job_prefix(self.tenant_id, self.job_id, self.attempt) + f"{CHECKPOINTS}/"
        self.has_stored = True
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
            self._claim.lost.set()
            raise Stopped("lease lost")
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

    def _patiently(self, do: Callable[[], T], *, stopped: bool = False) -> T:
        """Try again for a while when the object store does not answer.

        With ``stopped`` only a lost lease ends that.
        """
        give_up = time.monotonic() + STORE_PATIENCE_SECONDS
        wait = 0.1
        while True:
            if not stopped:
                self.check()
            elif self._claim.is_lost:
                raise Stopped("lease lost")
            try:
                return do()
            except ObjectStoreUnavailableError as error:
                if time.monotonic() + wait > give_up:
                    raise
                logger.warning("the object store does not answer: %s", error)
            time.sleep(wait)
            wait = min(2 * wait, 1.0)
